"""Errors -> answers: `{error, message, ...}` with the status of the code list. The one place (wire contract, 2.3)."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kite_common.errors import ApiError, Unavailable
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.http.traces import trace_fields

log = get_logger("kite.replay.http")

_RETRY_S: Final = 1
_BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}


def answer(error: ApiError) -> Response:
    """The answer of one error."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(error.body(), error.status, headers=headers)


async def on_api_error(_request: Request, error: Exception) -> Response:
    """A refusal that a route or use case raised."""
    if not isinstance(error, ApiError):
        raise error
    return answer(error)


async def on_unavailable(_request: Request, _error: Exception) -> Response:
    """A part is away. Which one stays in the log."""
    return answer(ApiError("service_unavailable", retry_after_s=_RETRY_S))


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """No such path, or the wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    return answer(ApiError(_BY_STATUS.get(error.status_code, "internal_error"), headers=dict(error.headers or {})))


async def on_defect(request: Request, error: Exception) -> Response:
    """Anything nobody raised on purpose: a defect, logged with its trace."""
    log.error("request.failed", path=request.url.path, exc_info=error, **trace_fields(request))
    return answer(ApiError("internal_error"))


HANDLERS: Final = {ApiError: on_api_error, Unavailable: on_unavailable, HTTPException: on_http_exception}
