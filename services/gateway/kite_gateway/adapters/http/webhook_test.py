"""POST /api/v1/webhook-config/test: one signed test event. Wire schema here, no rules."""

from typing import Annotated, Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.errors import ApiError
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.openapi import Operation
from kite_gateway.application.send_test_event import SendTestEvent

log = get_logger("kite.gateway")

PATH: Final = "/api/v1/webhook-config/test"


class TestEventQueued(BaseModel):
    """The event and its delivery; what came of it stands in the attempt log, as `delivered` or `dead`."""

    __test__ = False

    event_id: Annotated[str, Field(description="For `GET /api/v1/deliveries?event_id=`.")]
    delivery_id: str


OPERATIONS: Final = (
    Operation(
        "POST", PATH, "Send a test event",
        "Queues one signed event of type `kite.webhook.test` to the active config, whatever its filter. One attempt, no retry, free.",
        status=202, permission="write", answer=TestEventQueued, codes=("webhook_config_not_found",),
    ),
)  # fmt: skip


def add_routes(app: FastAPI, bearer: Bearer, send: SendTestEvent) -> None:
    """The route over the use case. It takes no body, so none is read."""

    @app.post(PATH, status_code=202, response_model=TestEventQueued)
    async def queue(request: Request) -> TestEventQueued:
        team_id = bearer.authorize(request.scope, "write")
        await bearer.take_token(request.scope, team_id)
        context = context_of(request.scope)
        order = await send(team_id, context.trace.header())
        if order is None:
            raise ApiError("webhook_config_not_found")
        context.event_id = order.event_id
        log.info(
            "webhook_config.tested", team_id=team_id, event_id=order.event_id, request_id=context.request_id, **context.trace.log_fields()
        )
        return TestEventQueued(event_id=order.event_id, delivery_id=order.delivery_id)
