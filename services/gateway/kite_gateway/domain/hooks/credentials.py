"""Who may deliver to a hook: the table of the wire contract, 5.2. Looks nothing up, checks no signature."""

from dataclasses import dataclass, field
from typing import Literal

from kite_gateway.domain.hooks.signatures import Verdict

# "stale": once issued for this very endpoint, and ended since.
TokenState = Literal["none", "right", "stale", "wrong"]
HookRefusal = Literal["invalid_hook_token", "invalid_signature"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a team as it is now. `secrets` are the provider's that live, newest first; empty = it has none."""

    active: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class KnownHook:
    """What is known of the endpoint a request names, None = nothing, and what the token it shows is worth there."""

    endpoint: Endpoint | None
    token: TokenState


@dataclass(frozen=True, slots=True)
class Opened:
    """The request may deliver. `verified`: a provider's signature was checked, and right."""

    verified: bool


def judge(endpoint: Endpoint | None, shown: TokenState, signature: Verdict) -> Opened | HookRefusal:
    """May a request deliver that shows this token and this signature?

    An endpoint that is unknown or not active answers like a wrong token.
    Where an endpoint has no secret a signature says nothing; where it has one, a wrong signature is refused whatever else is right.
    """
    if endpoint is None or not endpoint.active:
        return "invalid_hook_token"
    if not endpoint.secrets or signature == "none":
        return Opened(verified=False) if shown == "right" else "invalid_hook_token"
    if signature == "wrong":
        return "invalid_signature"
    return "invalid_hook_token" if shown == "wrong" else Opened(verified=True)
