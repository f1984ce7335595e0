"""What replay says of its routes in OpenAPI. Describes only; the routes are in their own files.

An OpenAPI document has no place for error codes: they stand in backticks in the description of their status, from where the gateway takes
them (`scripts/write_openapi.py`).
"""

from typing import Any, Final


def _parameter(
    name: str, text: str, schema: dict[str, Any] | None = None, *, place: str = "query", required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema or {"type": "string"}, "description": text}


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _responses(text: str, schema: dict[str, Any], codes: dict[int, str], status: int = 200) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {status: _response(text, schema)}
    return found | {status: _response(description, _ERROR) for status, description in sorted(codes.items())}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """An object all of whose properties are always there."""
    return {"type": "object", "required": list(properties), "properties": properties}


_INTEGER: Final = {"type": "integer"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
}
_TEAM: Final = _parameter("team_id", "Team to read. Must match the API key.", required=True)
_LIMIT: Final = _parameter("limit", "Number of rows to return, clamped to 1..1000.", {"type": "integer", "default": 100})


def _filter(name: str, text: str) -> dict[str, Any]:
    return _parameter(
        name, f"{text} May be given up to 20 times.",
        {"type": "array", "maxItems": 20, "items": {"type": "string", "minLength": 1, "maxLength": 256}},
    )  # fmt: skip


_COMMON_CODES: Final = {
    401: "`unauthorized`",
    429: "`rate_limit_exceeded`, with `retry_after_secs`",
    500: "`internal_error`",
}

_EVENT: Final = _object({
    "event_id": {"type": "string", "format": "uuid"},
    "created_at": {"type": "string", "examples": ["2026-04-27 12:34:56.789"]},
    "event": {"type": "object", "description": "The CloudEvent with its kiteseq."},
})  # fmt: skip
_EVENTS: Final = _object({
    "events": {"type": "array", "items": _EVENT},
    "next_cursor": _TEXT_OR_NULL,
    "has_more": {"type": "boolean"},
    "amount_charged_atomic": _INTEGER | {"minimum": 0, "description": "What this reading has cost."},
})  # fmt: skip
_EVENTS_CODES: Final = _COMMON_CODES | {
    400: "`missing_team_id`, `invalid_cursor`, `invalid_limit`, `invalid_filter`, `invalid_payment_header`, `invalid_idempotency_key`",
    402: "`payment_required` with `rows` and `amount_atomic`, `invalid_payment` with `reason`; what to pay stands in the header "
    "`payment-required` (x402 version 2) and in `accepts` (version 1)",
    403: "`forbidden`, `insufficient_permissions`, `no_active_subscription`",
    409: "`payment_already_used`, `idempotency_key_reused`, with `transaction`",
    410: "`cursor_expired`, with `oldest_cursor` to go on from",
    503: "`replay_unavailable`, `service_unavailable`, `overloaded`, `settlement_pending`, `facilitator_unavailable`: repeat the same "
    "request with the same payment after `retry_after_secs`; `x402_unconfigured`",
}

_PAYMENT: Final = _object({name: {"type": "string"} for name in ("network", "asset", "payer", "transaction")})
_ENTRY: Final = _object({
    "id": {"type": "string", "format": "uuid"},
    "created_at": {"type": "string", "format": "date-time"},
    "kind": {"enum": ["credit", "debit", "reversal"]},
    "reason": {"enum": ["deposit", "event", "replay", "reorg", "correction"]},
    "amount_atomic": _INTEGER | {"description": "Signed: what the wallet gained. Never 0; all of them add up to `balance_atomic`."},
    "balance_after_atomic": _INTEGER | {"minimum": 0},
    "event_id": _TEXT_OR_NULL | {"description": "The event that was charged; null for everything else, also for pages."},
    "payment": {"anyOf": [_PAYMENT, {"type": "null"}], "description": "Where the money of a credit or reversal is on the chain."},
})  # fmt: skip
_ENTRIES: Final = _object({"entries": {"type": "array", "items": _ENTRY}, "next_cursor": _TEXT_OR_NULL, "has_more": {"type": "boolean"}})
_LEDGER_CODES: Final = _COMMON_CODES | {
    400: "`missing_team_id`, `invalid_cursor`, `invalid_limit`",
    403: "`forbidden`, `insufficient_permissions`",
    503: "`replay_unavailable`, `service_unavailable`, `overloaded`, with `retry_after_secs`",
}


_ATTEMPT: Final = _object({
    "attempt": _INTEGER | {"minimum": 1, "description": "Goes on after a redrive."},
    "started_at": {"type": "string", "format": "date-time"},
    "duration_ms": _INTEGER | {"minimum": 0},
    "response_status": {"type": ["integer", "null"]},
    "error": _TEXT_OR_NULL | {"description": "Why there was no whole answer: `timeout`, `connect`, `tls`, `dns`, and the like."},
    "response_excerpt": _TEXT_OR_NULL | {"description": "The first 512 characters of the answer."},
})  # fmt: skip
_FINAL: Final = ["delivered", "dead", "cancelled", "filtered", "no_endpoint", "blocked"]
_DELIVERY: Final = _object({
    "id": {"type": "string", "format": "uuid"},
    "event_id": {"type": "string", "format": "uuid"},
    "event_type": {"type": "string"},
    "kiteseq": {"type": ["integer", "null"], "description": "The event's; null for a test event."},
    "webhook_config_id": _TEXT_OR_NULL,
    "url": _TEXT_OR_NULL,
    "status": {"enum": ["pending", "retrying", *_FINAL]},
    "reason": _TEXT_OR_NULL,
    "attempt_count": _INTEGER | {"minimum": 0},
    "next_attempt_at": _TEXT_OR_NULL | {"description": "While `retrying`."},
    "created_at": {"type": "string", "format": "date-time"},
    "updated_at": {"type": "string", "format": "date-time"},
    "attempts": {"type": "array", "items": _ATTEMPT},
})  # fmt: skip
_DELIVERIES: Final = _object({
    "deliveries": {"type": "array", "items": _DELIVERY}, "next_cursor": _TEXT_OR_NULL, "has_more": {"type": "boolean"},
})  # fmt: skip
_DELIVERIES_CODES: Final = _COMMON_CODES | {
    400: "`missing_team_id`, `invalid_cursor`, `invalid_limit`, `invalid_status`, `invalid_event_id`, `invalid_time`",
    403: "`forbidden`, `insufficient_permissions`",
    503: "`replay_unavailable`, `service_unavailable`, `overloaded`, with `retry_after_secs`",
}
_REDRIVEN: Final = _object({
    "id": {"type": "string", "format": "uuid"}, "event_id": {"type": "string", "format": "uuid"}, "status": {
    "enum": ["pending", "retrying", *_FINAL],
    "description": "`pending`: ordered. Else what it is, and nothing was ordered: something is on record since `updated_before`.",
},
})  # fmt: skip
_REDRIVE_CODES: Final = _COMMON_CODES | {
    400: "`missing_team_id`, `invalid_time`",
    403: "`forbidden`, `insufficient_permissions`",
    404: "`delivery_not_found`, `webhook_config_not_found`",
    409: "`delivery_in_progress`: it is `pending` or `retrying`",
    410: "`event_expired`: the event is not kept any more, or was a test event",
    503: _DELIVERIES_CODES[503],
}
_REDRIVEN_MANY: Final = _object({
    "redriven": _INTEGER | {"minimum": 0, "description": "Deliveries of this page whose new round is ordered."},
    "expired": _INTEGER | {"minimum": 0, "description": "Deliveries of this page whose event is not kept any more."},
    "next_cursor": _TEXT_OR_NULL,
    "has_more": {"type": "boolean"},
})  # fmt: skip
_REDRIVE_MANY_CODES: Final = _DELIVERIES_CODES | {404: "`webhook_config_not_found`"}
_FILTERS: Final = [
    _parameter("event_type", "Only deliveries of events of exactly this type."),
    _parameter("since", "Only deliveries that began at this time or later, RFC 3339."),
    _parameter("until", "Only deliveries that began before this time, RFC 3339."),
    _parameter("updated_before", "Only deliveries of which nothing is on record since this time, RFC 3339."),
    _parameter("cursor", "A `next_cursor` of this route with the same filter. Missing: the newest event."),
]


def _operation(
    operation_id: str, summary: str, parameters: list[dict[str, Any]], responses: dict[int | str, dict[str, Any]]
) -> dict[str, Any]:
    extra = {"parameters": parameters, "security": [{"bearer": []}]}
    status = min(status for status in responses if isinstance(status, int))
    return {"operation_id": operation_id, "summary": summary, "status_code": status, "responses": responses, "openapi_extra": extra}


# Arguments of FastAPI's `add_api_route`.
EVENTS_OPERATION: Final = _operation(
    "read_events",
    "Replay retained events",
    [
        _TEAM,
        _parameter("since", "Cursor: `created_at` or `created_at:event_id` of a row. Missing: oldest retained event."),
        _LIMIT,
        _filter("type", "Only events of this type; `com.github.*` is every type that begins with `com.github.`."),
        _filter("agent", "Only messages from or to this agent."),
        _filter("from", "Only messages from this agent."),
        _filter("to", "Only messages to this agent."),
        _parameter("payment-signature", "An x402 payment for exactly this request; `x-payment` means the same.", place="header"),
    ],
    _responses("A page of events, oldest first", _EVENTS, _EVENTS_CODES),
)
LEDGER_OPERATION: Final = _operation(
    "read_ledger",
    "Read the wallet's entries",
    [_TEAM, _parameter("cursor", "A `next_cursor` of this route. Missing: the newest entry."), _LIMIT],
    _responses("A page of ledger entries, newest first", _ENTRIES, _LEDGER_CODES),
)
DELIVERIES_OPERATION: Final = _operation(
    "read_deliveries",
    "Read the attempt log",
    [
        _TEAM,
        _parameter("event_id", "Only deliveries of this event."),
        _parameter("status", "Only deliveries whose status is this now.", {"enum": ["pending", "retrying", *_FINAL]}),
        *_FILTERS,
        _LIMIT,
    ],
    _responses("A page of deliveries, newest event first", _DELIVERIES, _DELIVERIES_CODES),
)
REDRIVE_OPERATION: Final = _operation(
    "redrive_delivery",
    "Redrive a delivery",
    [
        _TEAM, _parameter("id", "The delivery.", {"type": "string", "format": "uuid"}, place="path", required=True),
        _parameter("updated_before", "Order nothing if something is on record about it since this time, RFC 3339: that of the first try."),
    ],
    _responses("A new round of attempts to the config active now is ordered, whatever its filter; free", _REDRIVEN, _REDRIVE_CODES, 202),
)
REDRIVE_MANY_OPERATION: Final = _operation(
    "redrive_deliveries",
    "Redrive a page of deliveries",
    [_TEAM, _parameter("status", "The final status to redrive.", {"enum": _FINAL}, required=True), *_FILTERS, _LIMIT],
    _responses(
        "What the page holds is ordered; go on with `next_cursor` until it is null", _REDRIVEN_MANY, _REDRIVE_MANY_CODES, 202
    ),
)
