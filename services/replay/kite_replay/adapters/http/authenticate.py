"""`Authorization: Bearer` and `team_id` -> who asks. The wire forms only; the order of refusals is `domain/access.py`'s."""

from typing import Protocol

from starlette.requests import Request

from kite_common.auth import Needed
from kite_replay.domain.access import Principal, refusal


class Credentials(Protocol):
    """Who holds which API key."""

    def identify(self, key_text: str, now_ms: int) -> Principal | None:
        """The holder of a key that is good at `now_ms`, None for any other text. Raises Unavailable until all keys are known."""
        ...


def authenticate(request: Request, credentials: Credentials, needed: Needed, now_ms: int) -> Principal:
    """The holder of the request's key, who may do this for the team the request names. Raises ApiError, Unavailable."""
    scheme, _, key_text = request.headers.get("authorization", "").strip().partition(" ")
    principal = credentials.identify(key_text.strip(), now_ms) if scheme.lower() == "bearer" else None
    refused = refusal(principal, request.query_params.get("team_id"), needed)
    if refused is not None:
        raise refused
    assert principal is not None  # noqa: S101 - `refusal` says so; for the type checker
    return principal
