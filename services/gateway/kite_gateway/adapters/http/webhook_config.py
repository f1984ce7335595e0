"""/api/v1/webhook-config: the team's one outbound webhook, and the rotation of its secret. Wire schema here, no rules."""

from typing import Annotated, Final, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.clock import rfc3339
from kite_common.errors import ApiError
from kite_common.events.webhooks import DeliveryMode, SignatureScheme, WebhookConfigured
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.openapi import Operation
from kite_gateway.adapters.http.request import json_object, read_body
from kite_gateway.application.configure_webhook import ConfigureWebhook, Rotated
from kite_gateway.domain.webhook_config import (
    DEFAULT_BATCH_EVENTS,
    DEFAULT_BATCH_WAIT_MS,
    DEFAULT_OVERLAP_S,
    MAX_BATCH_EVENTS,
    MAX_BATCH_WAIT_MS,
    MAX_EVENT_TYPES,
    MAX_OVERLAP_S,
    MAX_URL_CHARS,
    InvalidConfig,
    WantedConfig,
    WantedRotation,
    previous_ends_ms,
    read_config,
    read_rotation,
)

log = get_logger("kite.gateway")

PATH: Final = "/api/v1/webhook-config"
ROTATE: Final = PATH + "/rotate-secret"

Wanted = TypeVar("Wanted", WantedConfig, WantedRotation)
Scheme = Annotated[
    SignatureScheme,
    Field(description="`v1`: HMAC-SHA256 with the secret; `v1a`: with the team's Ed25519 keys (`GET /api/v1/webhook-keys`) as well."),
]
Mode = Annotated[
    DeliveryMode, Field(description="`batch`: first attempts that come together share one `application/cloudevents-batch+json` request.")
]
BatchEvents = Annotated[
    int, Field(ge=1, le=MAX_BATCH_EVENTS, description="At most so many events in a request, and no more than the server sends at once.")
]
BatchWait = Annotated[int, Field(ge=0, le=MAX_BATCH_WAIT_MS, description="How long the first event of a request waits for more.")]
PreviousEnds = Annotated[
    str | None,
    Field(description="RFC 3339 UTC: until then the secret before the newest one signs as well; null = there is none."),
]


class WebhookConfigIn(BaseModel):
    """Where events go, and the secret they are signed with."""

    url: Annotated[str, Field(max_length=MAX_URL_CHARS, description="Absolute http or https URL without user info and fragment.")]
    secret: Annotated[str, Field(min_length=1, max_length=256, description="Never returned; after `whsec_` base64 of 24 to 64 bytes.")]
    event_types: Annotated[
        list[str] | None, Field(max_length=MAX_EVENT_TYPES, description="Exact types or prefixes ending in `.*`; empty = all.")
    ] = None
    signature: Scheme = "v1"
    mode: Mode = "structured"
    batch_max_events: BatchEvents = DEFAULT_BATCH_EVENTS
    batch_max_wait_ms: BatchWait = DEFAULT_BATCH_WAIT_MS


class WebhookConfigStored(BaseModel):
    """A config as PUT answers it."""

    id: str
    team_id: str
    url: str
    event_types: list[str]
    active: bool
    signature: Scheme
    mode: Mode
    batch_max_events: BatchEvents
    batch_max_wait_ms: BatchWait


class WebhookConfigOut(WebhookConfigStored):
    """A config as GET answers it; never with its secret."""

    created_at: Annotated[str, Field(description="RFC 3339 UTC; kept as long as the config is active.")]
    updated_at: Annotated[str, Field(description="RFC 3339 UTC.")]
    previous_secret_expires_at: PreviousEnds


class RotationIn(BaseModel):
    """The secret that comes, and how long the one so far goes on."""

    secret: Annotated[
        str | None,
        Field(max_length=256, description="By the rules of PUT; absent: the server makes one. The newest one so far changes nothing."),
    ] = None
    overlap_secs: Annotated[
        int | None, Field(ge=0, le=MAX_OVERLAP_S, description=f"How long both sign; absent: {DEFAULT_OVERLAP_S}, a day.")
    ] = None


class RotatedOut(BaseModel):
    """A rotation that holds from the next attempt on."""

    id: str
    team_id: str
    secret: Annotated[str, Field(description="Only if the server made it; shown this once.")] = ""
    previous_secret_expires_at: PreviousEnds


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
        codes=(
            "invalid_url", "invalid_secret", "invalid_event_types", "invalid_signature_scheme", "invalid_batch",
            "secret_encryption_not_configured",
        ),
    ),
    Operation(
        "POST", ROTATE, "Rotate the signing secret",
        "Until the overlap ends, `webhook-signature` carries the signatures of the newest two secrets, newest first; `X-Kite-Signature` "
        "always the newest one's. Rotating again ends the oldest at once. The body may be left out. "
        "Repeating a request that names its secret changes nothing; each one that names none makes another secret.",
        permission="write", request=RotationIn, answer=RotatedOut, body_is_optional=True,
        codes=("invalid_secret", "invalid_overlap", "webhook_config_not_found", "secret_encryption_not_configured"),
    ),
    Operation(
        "DELETE", PATH, "Deactivate the webhook config", "Waiting deliveries end as cancelled; a later PUT makes a new id.",
        permission="write", answer=Done, codes=("webhook_config_not_found",),
    ),
)  # fmt: skip


def add_routes(app: FastAPI, bearer: Bearer, configure: ConfigureWebhook, *, allow_private: bool, has_keys: bool = False) -> None:
    """The routes over the use cases. Bodies are read by hand: the order of checks is the wire contract's, not FastAPI's."""

    @app.get(PATH, response_model=WebhookConfigOut)
    async def read(request: Request) -> WebhookConfigOut:
        team_id = bearer.authorize(request.scope, "read")
        await bearer.take_token(request.scope, team_id)
        config = await configure.read(team_id)
        if config is None:
            raise ApiError("webhook_config_not_found")
        return _shown(config)

    @app.put(PATH, response_model=WebhookConfigStored)
    async def replace(request: Request) -> WebhookConfigStored:
        team_id = bearer.authorize(request.scope, "write")
        body = await read_body(request.receive, context_of(request.scope))
        wanted = _checked(read_config(json_object(body), allow_private=allow_private, has_keys=has_keys))
        await bearer.take_token(request.scope, team_id)
        config = await configure.replace(team_id, wanted)
        if config is None:
            raise ApiError("secret_encryption_not_configured")
        # Where events of a team go is worth a line of its own; the URL is not, it may carry a token.
        log.info("webhook_config.replaced", team_id=team_id, config_id=config.id, request_id=context_of(request.scope).request_id)
        return _stored(config)

    @app.post(ROTATE, response_model=RotatedOut, response_model_exclude_unset=True)
    async def rotate(request: Request) -> RotatedOut:
        team_id = bearer.authorize(request.scope, "write")
        body = await read_body(request.receive, context_of(request.scope))
        wanted = _checked(read_rotation(json_object(body) if body else {}))
        await bearer.take_token(request.scope, team_id)
        rotated = await configure.rotate(team_id, wanted)
        if not isinstance(rotated, Rotated):
            raise ApiError("webhook_config_not_found" if rotated == "no_config" else "secret_encryption_not_configured")
        log.info("webhook_config.rotated", team_id=team_id, config_id=rotated.config.id, request_id=context_of(request.scope).request_id)
        return _rotated(rotated)

    @app.delete(PATH, response_model=Done)
    async def deactivate(request: Request) -> Done:
        team_id = bearer.authorize(request.scope, "write")
        await bearer.take_token(request.scope, team_id)
        if not await configure.deactivate(team_id):
            raise ApiError("webhook_config_not_found")
        log.info("webhook_config.deactivated", team_id=team_id, request_id=context_of(request.scope).request_id)
        return Done()


def _checked(wanted: Wanted | InvalidConfig) -> Wanted:
    if isinstance(wanted, InvalidConfig):
        raise ApiError(wanted.code, wanted.message, {"reason": wanted.reason} if wanted.reason else {})
    return wanted


def _rotated(rotated: Rotated) -> RotatedOut:
    config = rotated.config
    made = {} if rotated.secret is None else {"secret": rotated.secret}
    return RotatedOut(id=config.id, team_id=config.team_id, **made, previous_secret_expires_at=_previous_ends(config))


def _shown(config: WebhookConfigured) -> WebhookConfigOut:
    return WebhookConfigOut(
        **_stored(config).model_dump(), created_at=rfc3339(config.created_at), updated_at=rfc3339(config.updated_at),
        previous_secret_expires_at=_previous_ends(config),
    )  # fmt: skip


def _previous_ends(config: WebhookConfigured) -> str | None:
    ends_ms = previous_ends_ms(config)
    return None if ends_ms is None else rfc3339(ends_ms)


def _stored(config: WebhookConfigured) -> WebhookConfigStored:
    return WebhookConfigStored(
        id=config.id, team_id=config.team_id, url=config.url, event_types=list(config.event_types), active=config.active,
        signature=config.signature, mode=config.mode, batch_max_events=config.batch_max_events, batch_max_wait_ms=config.batch_max_wait_ms,
    )  # fmt: skip
