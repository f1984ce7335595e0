"""GET /api/v1/webhook-keys: the public keys that webhooks are signed with. Public: who verifies holds no API key."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.crypto import SigningKey
from kite_gateway.adapters.http.openapi import Operation
from kite_gateway.adapters.http.public import PUBLIC_CODES, Public

PATH: Final = "/api/v1/webhook-keys"


class WebhookKey(BaseModel):
    """An Ed25519 public key of this server."""

    id: Annotated[str, Field(description="The first 8 hex digits of the SHA-256 of the key's 32 bytes.")]
    public_key: Annotated[str, Field(description="As Standard Webhooks write it: `whpk_` and base64 of the 32 bytes.")]


class WebhookKeys(BaseModel):
    """The keys that sign now, newest first; none: this server does not sign `v1a`."""

    keys: list[WebhookKey]


OPERATIONS: Final = (
    Operation(
        "GET", PATH, "Public keys of webhook signatures",
        "Requests to a config whose `signature` is `v1a` carry one signature by each of these keys. No API key is needed; "
        "300 requests a minute from one address.",
        answer=WebhookKeys, codes=PUBLIC_CODES,
    ),
)  # fmt: skip


def add_routes(app: FastAPI, public: Public, keys: Sequence[SigningKey]) -> None:
    """The route; the keys do not change while the process lives."""
    shown = WebhookKeys(keys=[WebhookKey(id=key.id, public_key=key.public_text) for key in keys])

    @app.get(PATH, response_model=WebhookKeys)
    async def read(request: Request) -> WebhookKeys:
        await public.take_token(request.scope)
        return shown
