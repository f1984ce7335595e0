"""GET /api/v1/webhook-keys: the public keys that a team's webhooks are signed with. Public: who verifies holds no API key."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.crypto import SigningKey, team_signing_key
from kite_common.errors import ApiError
from kite_gateway.adapters.http.openapi import Operation, Parameter
from kite_gateway.adapters.http.public import PUBLIC_CODES, Public
from kite_gateway.adapters.http.request import team_id_of

PATH: Final = "/api/v1/webhook-keys"


class WebhookKey(BaseModel):
    """An Ed25519 public key of a team on this server."""

    id: Annotated[str, Field(description="The first 8 hex digits of the SHA-256 of the key's 32 bytes.")]
    public_key: Annotated[str, Field(description="As Standard Webhooks write it: `whpk_` and base64 of the 32 bytes.")]


class WebhookKeys(BaseModel):
    """The keys that sign for the team now, newest first; none: this server does not sign `v1a`."""

    keys: list[WebhookKey]


OPERATIONS: Final = (
    Operation(
        "GET", PATH, "Public keys of webhook signatures",
        "Requests to a config whose `signature` is `v1a` carry one signature by each of these keys. They are the team's alone: no other "
        "team's requests verify with them. Needs no API key, and tells nothing of whether the team exists; "
        "300 requests a minute from one address.",
        answer=WebhookKeys, codes=("missing_team_id", *PUBLIC_CODES),
        parameters=(Parameter("team_id", "query", "The team whose webhooks are to be verified.", required=True),),
    ),
)  # fmt: skip


def add_routes(app: FastAPI, public: Public, roots: Sequence[bytes]) -> None:
    """The route. `roots`: the server's root keys, newest first."""

    @app.get(PATH, response_model=WebhookKeys)
    async def read(request: Request) -> WebhookKeys:
        await public.take_token(request.scope)
        team_id = team_id_of(request.scope["query_string"])
        if not team_id:
            raise ApiError("missing_team_id")
        return WebhookKeys(keys=[_shown(team_signing_key(root, team_id)) for root in roots])


def _shown(key: SigningKey) -> WebhookKey:
    return WebhookKey(id=key.id, public_key=key.public_text)
