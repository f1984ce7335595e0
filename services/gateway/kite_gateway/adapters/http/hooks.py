"""POST /hooks/{team_id}/{source}[/{hook_token}]: plain ASGI, because signatures are over the raw bytes. Wire schema here, no rules."""

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, Field
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from kite_common.clock import rfc3339
from kite_common.errors import ApiError, KiteError
from kite_common.ids import TeamId, is_source
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import Context, context_of
from kite_gateway.adapters.http.ingest import INGEST_CODES, Arrived, Ingest, Told, send_headers
from kite_gateway.adapters.http.messages import UsageOut, usage_out
from kite_gateway.adapters.http.openapi import Operation, Parameter
from kite_gateway.adapters.http.paid import PAYMENT_PARAMETERS
from kite_gateway.adapters.http.problems import api_error, problem_response
from kite_gateway.adapters.http.request import STRANGERS_S, bearer_token, idempotency_claim, read_bytes, refuse_encoding, refuse_size
from kite_gateway.application.accept_message import Accepted, Submission
from kite_gateway.application.accept_paid import Answer
from kite_gateway.application.open_hook import Knock, OpenHook
from kite_gateway.domain.hooks.content import BadContent
from kite_gateway.domain.hooks.event import HookRequest, read_hook
from kite_gateway.domain.hooks.signatures import SignedRequest

log = get_logger("kite.gateway")

PATH: Final = "/hooks/{team_id}/{source}"
PATH_WITH_TOKEN: Final = PATH + "/{hook_token}"
MAX_BODY_BYTES: Final = 262_144
_PRIVATE: Final = (b"cache-control", b"private, no-store")


class HookOut(BaseModel):
    """An event that is durable."""

    id: Annotated[str, Field(description="The event id, a UUID v7; a client's CloudEvent keeps its own `id` besides.")]
    created_at: Annotated[str, Field(description="Time of receipt, RFC 3339 UTC.")]
    usage: UsageOut


class HookIgnored(BaseModel):
    """A delivery that was accepted before."""

    status: Literal["duplicate_ignored"]
    id: Annotated[str, Field(description="The event id of the first one.")]


class HookChallenge(BaseModel):
    """The answer to Slack's `url_verification`."""

    challenge: str


_WHAT: Final = (
    "Takes a provider's delivery or a client's CloudEvent and costs one event. "
    f"The body is anything of at most {MAX_BODY_BYTES} bytes, or the plan's limit if that is smaller: a CloudEvent in structured JSON "
    "keeps its attributes, anything else becomes the `data` of one. "
    "The request carries a hook token, or the signature of the provider whose name the source is (`X-Kite-Signature` for any other), "
    "if the endpoint has its secret. 202 is sent once the event is durable. A delivery that was accepted within the last 24 hours is "
    "answered with 200 and not charged. If the wallet is empty the answer is 402, and a payment with the request fills it and delivers "
    "in one."
)
_PARAMETERS: Final = (
    Parameter("team_id", "path", "The team.", required=True),
    Parameter("source", "path", "The endpoint: 1 to 64 of a-z, 0-9 and hyphen.", required=True),
    Parameter(
        "Idempotency-Key", "header", "For 24 hours the same key and body give the first answer again; one scope a team and source.",
        schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    ),
    *PAYMENT_PARAMETERS,
    Parameter("traceparent", "header", "W3C trace context, passed on with the event."),
)  # fmt: skip


def _operation(path: str, summary: str, *parameters: Parameter) -> Operation:
    return Operation(
        "POST", path, summary, _WHAT, status=202, answer=HookOut, takes_payment=True,
        other_answers={200: ("A duplicate, or the answer to Slack's `url_verification`.", (HookIgnored, HookChallenge))},
        bodies=("application/cloudevents+json", "application/json", "application/x-www-form-urlencoded", "text/plain"),
        codes=(
            "reserved_type", "invalid_idempotency_key", "invalid_hook_token", "invalid_signature", "no_active_subscription", "not_found",
            "request_in_progress", "rate_limit_exceeded", "quota_exceeded", "internal_error", "overloaded", "service_unavailable",
            *INGEST_CODES,
        ),
        parameters=(*_PARAMETERS, *parameters),
    )  # fmt: skip


OPERATIONS: Final = (
    _operation(PATH, "Deliver to a hook", Parameter("Authorization", "header", "`Bearer <hook token>`, unless the provider has signed.")),
    _operation(PATH_WITH_TOKEN, "Deliver to a hook by its token", Parameter("hook_token", "path", "The hook token.", required=True)),
)


class HooksEndpoint:
    """One request, one answer, one log line. `public_url` is the origin providers call, as far as they sign it."""

    def __init__(
        self, open_hook: OpenHook, ingest: Ingest, bearer: Bearer, metrics: Metrics, public_url: str,
    ) -> None:  # fmt: skip
        self._open, self._ingest, self._bearer, self._public_url = open_hook, ingest, bearer, public_url
        self._accepted = metrics.counter("kite_gateway_messages_accepted_total").labels(kind="hook")
        self._seconds = metrics.histogram("kite_gateway_accept_seconds").labels(kind="hook")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        began = monotonic_s()
        context = context_of(scope)
        context.extra.append(_PRIVATE)
        try:
            told = await self._run(scope, receive, context)
        except KiteError as error:
            problem = api_error(error)
            self._log("hook.refused", scope, context, began, code=problem.code, status=problem.status)
            await problem_response(problem, context)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": told.answer.status, "headers": send_headers(told)})
        await send({"type": "http.response.body", "body": told.answer.body})
        self._count(told, scope, context, began)

    async def _run(self, scope: Scope, receive: Receive, context: Context) -> Told:
        """The checks in the order of wire contract 2.3, then the use case. Raises KiteError for every answer of 400 and above."""
        source = scope["path_params"]["source"]
        if not is_source(source):
            raise ApiError("not_found")
        await self._refuse_strangers(scope, receive, context, source)
        body = await read_bytes(receive, context, MAX_BODY_BYTES)
        team_id, request = self._opened(scope, context, source, body)
        context.team_id = team_id
        refuse_encoding(context.head)
        event = read_hook(request)
        if isinstance(event, BadContent):
            raise ApiError(event.code, event.message)
        claim = idempotency_claim(context.head, b"hooks/" + source.encode(), body)
        if event.challenge is not None:
            await self._bearer.take_token(scope, team_id)
            return Told(_json(200, {"challenge": event.challenge}), None, (), replayed=True)
        submission = Submission(team_id, event, context.trace.header(), claim, len(body))
        return await self._ingest(Arrived(scope, body, context, submission, _path_without_token(scope)), _answer)

    async def _refuse_strangers(self, scope: Scope, receive: Receive, context: Context, source: str) -> None:
        """Raise ApiError for what may not deliver whatever its body is: it is not waited for, as slow ones would take the places of others.

        Size comes before credentials, so one of unknown length is looked at for a moment. Raises Unavailable.
        """
        team, token, head = _shown(scope, context)
        refusal = self._open.refused_unread(team, source, token, head)
        if refusal is None:
            return
        refuse_size(context.head, MAX_BODY_BYTES)
        if b"content-length" not in context.head:
            try:
                await read_bytes(receive, context, MAX_BODY_BYTES, STRANGERS_S)
            except ApiError as error:
                if error.code == "payload_too_large":
                    raise
        raise ApiError(refusal)

    def _opened(self, scope: Scope, context: Context, source: str, body: bytes) -> tuple[TeamId, HookRequest]:
        """The team, and the request as it may deliver there. Raises ApiError, Unavailable."""
        team, token, head = _shown(scope, context)
        opened = self._open(Knock(team, source, token, SignedRequest(head, body, self._called_url(scope))))
        if isinstance(opened, str):
            raise ApiError(opened)
        team_id, known = opened
        return team_id, HookRequest(source, head, body, known.verified, token)

    def _called_url(self, scope: Scope) -> str:
        path, query = bytes(scope["raw_path"]).decode("latin-1"), bytes(scope["query_string"]).decode("latin-1")
        return self._public_url + path + (f"?{query}" if query else "")

    def _count(self, told: Told, scope: Scope, context: Context, began: float) -> None:
        accepted = told.accepted
        context.event_id = None if accepted is None else accepted.event_id
        if accepted is None:
            self._log("hook.answered", scope, context, began, status=told.answer.status)
            return
        if accepted.duplicate:
            self._log("hook.ignored", scope, context, began, event_id=accepted.event_id)
            return
        if not accepted.replayed:
            self._accepted.inc()
            self._seconds.observe(monotonic_s() - began)
        self._log(
            "hook.accepted", scope, context, began, event_id=accepted.event_id, replayed=accepted.replayed,
            charged_atomic=accepted.usage.charged_atomic,
        )  # fmt: skip

    def _log(self, what: str, scope: Scope, context: Context, began: float, **fields: object) -> None:
        # The team only once the request has shown that it may deliver there: a log is no place for what strangers write.
        source = scope["path_params"]["source"] if context.team_id else None
        log.info(
            what, team_id=context.team_id, source=source, request_id=context.request_id, **context.trace.log_fields(),
            took_ms=round((monotonic_s() - began) * 1000, 2), **fields,
        )  # fmt: skip


def routes(endpoint: HooksEndpoint) -> list[Route]:
    """Both routes: Starlette hands the request over as it came."""
    return [Route(path, endpoint, methods=["POST"]) for path in (PATH, PATH_WITH_TOKEN)]


def _shown(scope: Scope, context: Context) -> tuple[str, str | None, dict[str, str]]:
    """The team a request names, the hook token it shows, and its headers as text."""
    parameters = scope["path_params"]
    token = parameters.get("hook_token") or bearer_token(context.head) or None
    return parameters["team_id"], token, {name.decode("latin-1"): value.decode("latin-1") for name, value in context.head.items()}


def _answer(accepted: Accepted) -> Answer:
    """202, or 200 for a delivery that was accepted before."""
    if accepted.duplicate:
        return _json(200, {"status": "duplicate_ignored", "id": accepted.event_id})
    body = {"id": accepted.event_id, "created_at": rfc3339(accepted.received_ms), "usage": usage_out(accepted.usage)}
    return _json(202, body)


def _path_without_token(scope: Scope) -> bytes | None:
    """What an offer may repeat: it must not open the hook. None if there is no token in the path."""
    return bytes(scope["raw_path"]).rpartition(b"/")[0] if "hook_token" in scope["path_params"] else None


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, orjson.dumps(body))
