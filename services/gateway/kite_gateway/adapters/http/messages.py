"""POST /api/v1/agents/messages, the hot route: plain ASGI, validates the bytes itself. Wire schema here, no rules."""

from functools import partial
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from kite_common.clock import rfc3339
from kite_common.errors import ApiError, KiteError
from kite_common.events.agent_message import AgentMessage
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import Context, context_of
from kite_gateway.adapters.http.ingest import INGEST_CODES, Arrived, Ingest, Told, send_headers
from kite_gateway.adapters.http.openapi import Operation, Parameter
from kite_gateway.adapters.http.paid import PAYMENT_PARAMETERS
from kite_gateway.adapters.http.problems import api_error, problem_response
from kite_gateway.adapters.http.request import MAX_BODY_BYTES, idempotency_claim, json_object, read_body
from kite_gateway.application.accept_message import Accepted, Submission
from kite_gateway.application.accept_paid import Answer
from kite_gateway.domain.admission import Usage
from kite_gateway.domain.message import read_message

log = get_logger("kite.gateway")

PATH: Final = "/api/v1/agents/messages"
_CLAIM_SCOPE: Final = b"agents/messages"


# Any text without U+0000, as the document tells it; `domain.message` is what refuses.
_TEXT: Final = Field(pattern=r"^[^\u0000]*$")


class MessageIn(BaseModel):
    """A message from one agent to another."""

    model_config = ConfigDict(title="AgentMessage", populate_by_name=True)

    from_: Annotated[str, _TEXT, Field(alias="from", min_length=1, description="Id of the sending agent; free text, case-sensitive.")]
    to: Annotated[str, _TEXT, Field(min_length=1, description="Id of the receiving agent.")]
    body: Annotated[str, _TEXT, Field(description="The text; may be empty.")]
    thread_id: Annotated[str, _TEXT] | None = None
    reply_to_id: Annotated[Annotated[str, _TEXT] | None, Field(description="The id of the message this one answers.")] = None


class UsageOut(BaseModel):
    """The team's counters after this event."""

    events_used: Annotated[int, Field(ge=0)]
    events_limit: Annotated[int, Field(ge=0, description="9007199254740991 = unlimited")]
    amount_charged_atomic: Annotated[int, Field(ge=0)]
    amount_charged_sats: Annotated[int, Field(ge=0, description="Legacy twin of amount_charged_atomic.")]


class MessageOut(BaseModel):
    """A message that is durable."""

    model_config = ConfigDict(populate_by_name=True)

    id: Annotated[str, Field(description="The event id and the CloudEvent id, a UUID v7.")]
    created_at: Annotated[str, Field(description="Time of receipt, RFC 3339 UTC.")]
    from_: Annotated[str, Field(alias="from")]
    to: str
    usage: UsageOut


OPERATIONS: Final = (
    Operation(
        "POST", PATH, "Send an agent-to-agent message",
        f"Costs one event. The body is a JSON object of at most {MAX_BODY_BYTES} bytes. 202 is sent once the event is durable. "
        "If the wallet is empty the answer is 402, and a payment with the request fills it and sends the message in one.",
        status=202, permission="write", request=MessageIn, answer=MessageOut, takes_payment=True,
        codes=(
            "invalid_message", "invalid_idempotency_key", "no_active_subscription", "request_in_progress", "quota_exceeded",
            *INGEST_CODES,
        ),
        parameters=(
            Parameter(
                "Idempotency-Key", "header", "For 24 hours the same key and body give the first answer again.",
                schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            ),
            *PAYMENT_PARAMETERS,
            Parameter("traceparent", "header", "W3C trace context, passed on with the event."),
        ),
    ),
)  # fmt: skip


class MessagesEndpoint:
    """One request, one answer, one log line."""

    def __init__(self, bearer: Bearer, ingest: Ingest, metrics: Metrics) -> None:
        self._bearer, self._ingest = bearer, ingest
        self._accepted = metrics.counter("kite_gateway_messages_accepted_total").labels(kind="message")
        self._seconds = metrics.histogram("kite_gateway_accept_seconds").labels(kind="message")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        began = monotonic_s()
        context = context_of(scope)
        try:
            told = await self._run(scope, receive, context)
        except KiteError as error:
            problem = api_error(error)
            _log_refusal(problem, context, began)
            await problem_response(problem, context)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": told.answer.status, "headers": send_headers(told)})
        await send({"type": "http.response.body", "body": told.answer.body})
        self._count(told, context, began)

    async def _run(self, scope: Scope, receive: Receive, context: Context) -> Told:
        """The checks in the order of wire contract 2.3, then the use case. Raises KiteError for every other answer than 202."""
        team_id = self._bearer.authorize(scope, "write")
        body = await read_body(receive, context)
        claim = idempotency_claim(context.head, _CLAIM_SCOPE, body)
        message = read_message(json_object(body))
        if not isinstance(message, AgentMessage):
            raise ApiError("invalid_message", message.message, {"field": message.field})
        submission = Submission(team_id, message, context.trace.header(), claim)
        return await self._ingest(Arrived(scope, body, context, submission), partial(_answer, message))

    def _count(self, told: Told, context: Context, began: float) -> None:
        seconds, accepted = monotonic_s() - began, told.accepted
        context.event_id = None if accepted is None else accepted.event_id
        if not told.replayed:
            self._accepted.inc()
            self._seconds.observe(seconds)
        log.info(
            "message.accepted", team_id=context.team_id, event_id=context.event_id, request_id=context.request_id,
            **context.trace.log_fields(), replayed=told.replayed, charged_atomic=accepted and accepted.usage.charged_atomic,
            took_ms=round(seconds * 1000, 2),
        )  # fmt: skip


def routes(endpoint: MessagesEndpoint) -> list[Route]:
    """The route: Starlette hands the request over as it came."""
    return [Route(PATH, endpoint, methods=["POST"])]


def _answer(message: AgentMessage, accepted: Accepted) -> Answer:
    """202. The same for the first answer and every repeat: all of it comes from the request and the claim."""
    answer: dict[str, Any] = {
        "id": accepted.event_id,
        "created_at": rfc3339(accepted.received_ms),
        "from": message.from_,
        "to": message.to,
        "usage": usage_out(accepted.usage),
    }
    return Answer(202, orjson.dumps(answer))


def usage_out(usage: Usage) -> dict[str, int]:
    """The counters as UsageOut has them, for every answer to an accepted event."""
    return {
        "events_used": usage.events_used,
        "events_limit": usage.events_limit,
        "amount_charged_atomic": usage.charged_atomic,
        "amount_charged_sats": usage.charged_atomic,
    }


def _log_refusal(problem: ApiError, context: Context, began: float) -> None:
    log.info(
        "message.refused", code=problem.code, status=problem.status, team_id=context.team_id, request_id=context.request_id,
        **context.trace.log_fields(), took_ms=round((monotonic_s() - began) * 1000, 2),
    )  # fmt: skip
