"""What all bearer routes of replay share: how an answer comes about, with its limits, and the forms several of them read. No rules."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from kite_common.errors import ApiError, Malformed, OutcomeOpen, Unavailable
from kite_replay.adapters.http import problems
from kite_replay.domain.allowance import RateLimit
from kite_replay.domain.query import parse_limit

_OPEN: Final = "Whether the page was charged is not known yet: reading it again may be charged again."
_PRIVATE: Final = {"Cache-Control": "private, no-store"}


async def answered(request: Request, answer: Callable[[Request, dict[str, str]], Awaitable[Response]]) -> Response:
    """The answer, or the one its error stands for; in both cases private and with the limits `answer` has put into its dictionary."""
    limits: dict[str, str] = {}
    try:
        response = await answer(request, limits)
    except ApiError as error:
        response = problems.answer(error)
    except Unavailable:
        response = problems.answer(ApiError("service_unavailable", retry_after_s=1))
    except OutcomeOpen:
        response = problems.answer(ApiError("service_unavailable", _OPEN, retry_after_s=1))
    response.headers.update(_PRIVATE | limits)
    return response


def rate_headers(rate: RateLimit | None) -> dict[str, str]:
    """`RateLimit-*` of wire contract 2.4; none where no limit applies."""
    if rate is None:
        return {}
    return {"RateLimit-Limit": str(rate.limit), "RateLimit-Remaining": str(rate.remaining), "RateLimit-Reset": str(rate.reset_s)}


def limit_of(request: Request) -> int:
    """The clamped `limit` of a request. Raises ApiError `invalid_limit`."""
    try:
        return parse_limit(request.query_params.get("limit"))
    except Malformed:
        raise ApiError("invalid_limit") from None
