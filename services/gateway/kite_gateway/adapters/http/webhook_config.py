"""GET, PUT and DELETE /api/v1/webhook-config: the team's one outbound webhook. Wire schema here, no rules."""

from typing import Annotated, Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.clock import rfc3339
from kite_common.errors import ApiError
from kite_common.events.webhooks import WebhookConfigured
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.openapi import Operation
from kite_gateway.adapters.http.request import json_object, read_body
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.domain.webhook_config import MAX_EVENT_TYPES, MAX_URL_CHARS, InvalidConfig, WantedConfig, read_config

log = get_logger("kite.gateway")

PATH: Final = "/api/v1/webhook-config"


class WebhookConfigIn(BaseModel):
    """Where events go, and the secret they are signed with."""

    url: Annotated[str, Field(max_length=MAX_URL_CHARS, description="Absolute http or https URL without user info and fragment.")]
    secret: Annotated[str, Field(min_length=1, max_length=256, description="Never returned; after `whsec_` base64 of 24 to 64 bytes.")]
    event_types: Annotated[
        list[str] | None, Field(max_length=MAX_EVENT_TYPES, description="Exact types or prefixes ending in `.*`; empty = all.")
    ] = None


class WebhookConfigStored(BaseModel):
    """A config as PUT answers it."""

    id: str
    team_id: str
    url: str
    event_types: list[str]
    active: bool


class WebhookConfigOut(WebhookConfigStored):
    """A config as GET answers it; never with its secret."""

    created_at: Annotated[str, Field(description="RFC 3339 UTC; kept as long as the config is active.")]
    updated_at: Annotated[str, Field(description="RFC 3339 UTC.")]


class Done(BaseModel):
    """It is done, and durable."""

    ok: bool = True


OPERATIONS: Final = (
    Operation(
        "GET", PATH, "The active webhook config", "The team's one active outbound webhook config, without its secret.",
        permission="read", answer=WebhookConfigOut, codes=("webhook_config_not_found",),
    ),
    Operation(
        "PUT", PATH, "Create or replace the webhook config",
        "An active config keeps its id and creation time; the new url and secret hold from the next attempt on.",
        permission="write", request=WebhookConfigIn, answer=WebhookConfigStored,
        codes=("invalid_url", "invalid_secret", "invalid_event_types", "secret_encryption_not_configured"),
    ),
    Operation(
        "DELETE", PATH, "Deactivate the webhook config", "Waiting deliveries end as cancelled; a later PUT makes a new id.",
        permission="write", answer=Done, codes=("webhook_config_not_found",),
    ),
)  # fmt: skip


def add_routes(app: FastAPI, bearer: Bearer, configure: ConfigureWebhook, *, allow_private: bool) -> None:
    """The three routes over the use case. Bodies are read by hand: the order of checks is the wire contract's, not FastAPI's."""

    @app.get(PATH, response_model=WebhookConfigOut)
    async def read(request: Request) -> WebhookConfigOut:
        team_id = bearer.authorize(request.scope, "read")
        await bearer.take_token(request.scope, team_id)
        config = await configure.read(team_id)
        if config is None:
            raise ApiError("webhook_config_not_found")
        return WebhookConfigOut(
            **_stored(config).model_dump(), created_at=rfc3339(config.created_at), updated_at=rfc3339(config.updated_at)
        )

    @app.put(PATH, response_model=WebhookConfigStored)
    async def replace(request: Request) -> WebhookConfigStored:
        team_id = bearer.authorize(request.scope, "write")
        body = await read_body(request.receive, context_of(request.scope))
        wanted = _wanted(body, allow_private=allow_private)
        await bearer.take_token(request.scope, team_id)
        config = await configure.replace(team_id, wanted)
        if config is None:
            raise ApiError("secret_encryption_not_configured")
        # Where events of a team go is worth a line of its own; the URL is not, it may carry a token.
        log.info("webhook_config.replaced", team_id=team_id, config_id=config.id, request_id=context_of(request.scope).request_id)
        return _stored(config)

    @app.delete(PATH, response_model=Done)
    async def deactivate(request: Request) -> Done:
        team_id = bearer.authorize(request.scope, "write")
        await bearer.take_token(request.scope, team_id)
        if not await configure.deactivate(team_id):
            raise ApiError("webhook_config_not_found")
        log.info("webhook_config.deactivated", team_id=team_id, request_id=context_of(request.scope).request_id)
        return Done()


def _wanted(body: bytes, *, allow_private: bool) -> WantedConfig:
    wanted = read_config(json_object(body), allow_private=allow_private)
    if isinstance(wanted, InvalidConfig):
        raise ApiError(wanted.code, wanted.message, {"reason": wanted.reason} if wanted.reason else {})
    return wanted


def _stored(config: WebhookConfigured) -> WebhookConfigStored:
    return WebhookConfigStored(
        id=config.id, team_id=config.team_id, url=config.url, event_types=list(config.event_types), active=config.active
    )
