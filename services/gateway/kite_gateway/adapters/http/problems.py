"""Errors and refusals -> status and {error, message}. The one place (wire contract, 2.3 and section 4)."""

from typing import Final

import orjson
from starlette.responses import Response

from kite_common.errors import ApiError, KiteError, OutcomeOpen, Unavailable
from kite_gateway.adapters.http.context import Context
from kite_gateway.adapters.http.request import payload_too_large
from kite_gateway.domain.access import AccessRefusal
from kite_gateway.domain.admission import FundsMissing, PayloadLimit, QuotaUsed, Refused

_JSON: Final = "application/json"
_UNAVAILABLE_RETRY_S: Final = 1
# Longer than most acknowledgements take to come after all, shorter than a reservation takes to lapse.
_OPEN_RETRY_S: Final = 2
_OPEN: Final = (
    "Whether the request took effect is not known yet. Repeating it with the same Idempotency-Key is safe; "
    "without one it may take effect twice."
)


def problem_response(error: ApiError, context: Context) -> Response:
    """The answer an error becomes; tells the context its code."""
    context.code = error.code
    headers = context.not_said_yet(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(error.body()), error.status, headers, _JSON)


def api_error(error: KiteError) -> ApiError:
    """What an error raised on purpose is to the caller. Nothing of its text leaves: it may name what is inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OutcomeOpen):
        return ApiError("service_unavailable", _OPEN, retry_after_s=_OPEN_RETRY_S)
    if isinstance(error, Unavailable):
        return ApiError("service_unavailable", retry_after_s=_UNAVAILABLE_RETRY_S)
    return ApiError("internal_error")


def access_error(refusal: AccessRefusal) -> ApiError:
    """The answer to a key that may not do this."""
    return ApiError(refusal)


def refusal_error(refused: Refused) -> ApiError:
    """The answer to a message that was not admitted, with the extra fields of its code."""
    extra: dict[str, object] = {}
    if isinstance(refused.detail, QuotaUsed):
        quota = refused.detail
        extra = {"scope": quota.scope, "events_used": quota.events_used, "events_limit": quota.events_limit}
    elif isinstance(refused.detail, FundsMissing):
        funds = refused.detail
        extra = {"required_atomic": funds.required_atomic, "available_atomic": funds.available_atomic}
        if funds.debt_atomic > 0:
            extra["debt_atomic"] = funds.debt_atomic
    elif isinstance(refused.detail, PayloadLimit):
        return payload_too_large(refused.detail.max_bytes)
    return ApiError(refused.code, extra=extra, retry_after_s=refused.retry_after_s)
