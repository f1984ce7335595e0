"""Every error Kite answers or raises: code, HTTP status, what the caller does. Imports nothing of ours.

    KiteError
    ├── ApiError            an answer >= 400 of the public API, made from one row of the code list below
    ├── Malformed           bytes that no reader can use: dead-letter them, never retry
    ├── Unavailable         a part (Kafka, Redis, ClickHouse) is away: nothing was done, try again
    ├── OutcomeOpen         it may or may not have happened: repeat the same request (with its Idempotency-Key)
    └── ConfigurationError  settings are wrong: all of them listed at once, fix and start again

Codes are stable, prose is not (wire contract, section 2.3). No secret, internal address or upstream text is ever in one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row of the public code list: `code` is what clients compare, `message` the default prose."""

    code: str
    status: int
    message: str


def _codes(*rows: tuple[str, int, str]) -> Mapping[str, ErrorCode]:
    return {code: ErrorCode(code, status, message) for code, status, message in rows}


# The one list of public codes; OpenAPI is generated from it and a test holds every route against it.
CODES: Final[Mapping[str, ErrorCode]] = _codes(
    ("invalid_json", 400, "The body is not a JSON object that can be passed on unchanged."),
    ("missing_team_id", 400, "The query parameter team_id is required."),
    ("invalid_message", 400, "The message is not valid."),
    ("invalid_idempotency_key", 400, "Idempotency-Key must be 1 to 255 visible ASCII characters."),
    ("invalid_url", 400, "The url is not usable as a webhook target."),
    ("invalid_secret", 400, "The secret is not usable."),
    ("invalid_overlap", 400, "overlap_secs must be an integer from 0 to 604800."),
    ("invalid_signature_scheme", 400, "signature must be v1, or v1a where the server has a key for it."),
    ("invalid_batch", 400, "mode must be structured or batch, batch_max_events 1 to 100, batch_max_wait_ms 0 to 1000."),
    ("invalid_event_types", 400, "event_types must be a list of exact types or prefixes that end in '.*'."),
    ("invalid_cursor", 400, "The cursor cannot be read, or names no event of this team."),
    ("invalid_limit", 400, "limit must be an integer."),
    ("invalid_filter", 400, "A filter of events cannot be read."),
    ("invalid_status", 400, "status is none of the statuses a delivery has."),
    ("invalid_event_id", 400, "event_id must be a UUID."),
    ("invalid_time", 400, "since and until must be RFC 3339 times."),
    ("invalid_source", 400, "source must be 1 to 64 of a-z, 0-9 and hyphen, not begin with a hyphen, and not be kite."),
    ("invalid_deposit", 400, "deposit_atomic is not an amount that can be deposited."),
    ("invalid_amount", 400, "amount_atomic is not an amount that can be deposited."),
    ("invalid_plan_id", 400, "plan_id must be a UUID."),
    ("invalid_provider", 400, "The provider cannot be used for this plan on this server."),
    ("invalid_payment_header", 400, "The payment header cannot be read."),
    ("reserved_type", 400, "This event type is reserved for Kite."),
    ("unauthorized", 401, "Invalid or expired API key"),
    ("invalid_hook_token", 401, "invalid hook token"),
    ("invalid_signature", 401, "The provider's signature is wrong."),
    ("payment_required", 402, "Payment required."),
    ("invalid_payment", 402, "The payment was refused."),
    ("insufficient_funds", 402, "The wallet cannot pay for this event."),
    ("forbidden", 403, "The API key does not belong to this team."),
    ("insufficient_permissions", 403, "The API key lacks the permission this route needs."),
    ("no_active_subscription", 403, "The team has no active subscription."),
    ("not_found", 404, "No such path."),
    ("webhook_config_not_found", 404, "The team has no active webhook config."),
    ("delivery_not_found", 404, "The team has no such delivery."),
    ("plan_not_found", 404, "No active plan of that name or id."),
    ("method_not_allowed", 405, "The path does not take this method."),
    ("idempotency_key_reused", 409, "The Idempotency-Key was used with another body."),
    ("request_in_progress", 409, "The first request with this Idempotency-Key is still in flight."),
    ("subscription_conflict", 409, "The subscription cannot be changed now."),
    ("not_x402_subscription", 409, "Only x402 subscriptions have a wallet."),
    ("delivery_in_progress", 409, "The delivery is under way; it can be redriven once it has ended."),
    ("payment_already_used", 409, "This payment was used for another request."),
    ("bootstrap_in_progress", 409, "This payment is being settled; resend the same request."),
    ("event_expired", 410, "The event is not kept any more."),
    ("cursor_expired", 410, "The cursor is older than the retained events."),
    ("payload_too_large", 413, "The body is too large."),
    ("unsupported_media_type", 415, "Content-Encoding other than identity is not supported."),
    ("rate_limit_exceeded", 429, "Too many requests."),
    ("quota_exceeded", 429, "The plan's quota is used up."),
    ("internal_error", 500, "Something went wrong on our side."),
    ("secret_encryption_not_configured", 500, "The server has no key to seal secrets with."),
    ("overloaded", 503, "Too many requests in flight; try again shortly."),
    ("service_unavailable", 503, "A part of the service is away; repeating the same request is safe."),
    ("settlement_pending", 503, "The payment may have been made: resend the same payment, sign no new one."),
    ("facilitator_unavailable", 503, "The payment was not taken: resend the same payment."),
    ("x402_unconfigured", 503, "This server takes no x402 payments."),
    ("bootstrap_unconfigured", 503, "This server cannot seal the credentials of new teams."),
    ("replay_unavailable", 503, "The archive is away; repeating the same request is safe."),
)


_AWAY: Final = 503
_AWAY_RETRY_S: Final = 2


class KiteError(Exception):
    """Root of all errors raised on purpose."""


@dataclass(eq=False)
class ApiError(KiteError):
    """An answer >= 400: `code` is a key of CODES, `extra` goes into the body beside `error` and `message`.

    `retry_after_s` (whole seconds, at least 1) becomes `Retry-After` and `retry_after_secs`; every 503 has one, since clients ask for it.
    Raises KeyError when built with a code that is not in the list: a defect, found by the first test that runs it.
    """

    code: str
    message: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    other_status: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.code)
        self.row = CODES[self.code]
        if self.retry_after_s is None and self.status == _AWAY:
            self.retry_after_s = _AWAY_RETRY_S

    @property
    def status(self) -> int:
        """HTTP status of the code; `other_status` where a route answers it differently (wire contract, section 4)."""
        return self.other_status or self.row.status

    def body(self) -> dict[str, object]:
        """The JSON body: `error`, `message`, then the code's extra fields."""
        body: dict[str, object] = {"error": self.code, "message": self.message or self.row.message, **self.extra}
        if self.retry_after_s is not None:
            body["retry_after_secs"] = self.retry_after_s
        return body


class Malformed(KiteError):
    """Bytes that cannot be decoded: the reader dead-letters them with this text as the reason."""


class Unavailable(KiteError):
    """A part this call needs is away and nothing was done: answer 503 or try again later."""


class Fenced(KiteError):
    """Somebody else has taken over: what was to be written was refused, now and for ever. Whoever owns it still begins again."""


class OutcomeOpen(KiteError):
    """The call may or may not have taken effect: answer 503, the repeat must be idempotent."""


class ConfigurationError(KiteError):
    """Settings are unusable; `problems` names every one of them, without values of secrets."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
