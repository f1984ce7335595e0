"""Endpoints and tokens as the log holds them: what opens an endpoint, what is stale, what is unsealed until when."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from kite_common import auth, crypto
from kite_common.auth import Peppers
from kite_common.errors import Unavailable
from kite_common.events.credentials import CredentialIssued
from kite_common.events.hooks import HookEndpoint, endpoint_key, secret_context
from kite_common.events.webhooks import SealedSecret
from kite_common.ids import TeamId
from kite_common.runtime.component import READY, Readiness
from kite_common.testing import make
from kite_gateway.adapters.hooks import TableHooks
from kite_gateway.domain.hooks.credentials import Endpoint, KnownHook, TokenState

TEAM, NOW = TeamId(make.TEAM), make.NOW_MS
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TOKEN = make.HOOK_TOKEN
NOT_YET = Readiness(ready=False, reason="being read")


@dataclass
class Held:
    """A followed topic."""

    values: dict[str, Any] = field(default_factory=dict)
    ready: Readiness = READY

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def readiness(self) -> Readiness:
        return self.ready


def _sealed(secret: str, source: str = "github", key: bytes = KEY, expires_at: int | None = None) -> SealedSecret:
    sealed = crypto.seal(key, secret.encode(), secret_context(TEAM, source), b"n" * crypto.NONCE_BYTES)
    return SealedSecret(sealed=sealed, expires_at=expires_at)


def _hooks(*endpoints: HookEndpoint, credentials: tuple[CredentialIssued, ...] = (make.credential(TOKEN),)) -> TableHooks:
    stored = Held({one.key: one for one in endpoints})
    return TableHooks(stored, Held({one.key: one for one in credentials}), Peppers(make.PEPPER), (KEY,))


def test_a_live_token_opens_an_endpoint_nobody_has_written_down() -> None:
    assert _hooks().find(TEAM, "github", TOKEN, NOW) == KnownHook(Endpoint(), "right")


@pytest.mark.parametrize(
    ("team", "source", "token", "state"),
    [
        (TEAM, "github", None, "none"),
        (TEAM, "gitlab", TOKEN, "wrong"),
        ("team_other", "github", TOKEN, "wrong"),
        (TEAM, "github", TOKEN[:-1] + "0", "wrong"),
        (TEAM, "github", TOKEN.upper(), "wrong"),
        (TEAM, "github", make.API_KEY, "wrong"),
        (TEAM, "github", "", "wrong"),
        (TEAM, "github", "\ud800", "wrong"),
    ],
)
def test_without_a_live_token_such_an_endpoint_is_unknown(team: str, source: str, token: str | None, state: TokenState) -> None:
    assert _hooks().find(TeamId(team), source, token, NOW) == KnownHook(None, state)


def test_an_api_key_opens_no_hook() -> None:
    key = make.credential(make.API_KEY, source="github")
    assert _hooks(make.hook_endpoint(secrets=()), credentials=(key,)).find(TEAM, "github", make.API_KEY, NOW).token == "wrong"


@pytest.mark.parametrize("ended", [{"revoked_at": NOW - 1}, {"expires_at": NOW}])
def test_a_token_that_has_ended_is_stale_at_its_own_endpoint_only(ended: dict[str, int]) -> None:
    hooks = _hooks(make.hook_endpoint(secrets=()), credentials=(make.credential(TOKEN, **ended),))
    assert hooks.find(TEAM, "github", TOKEN, NOW) == KnownHook(Endpoint(), "stale")
    assert hooks.find(TEAM, "gitlab", TOKEN, NOW) == KnownHook(None, "wrong")
    assert hooks.find(TEAM, "github", TOKEN[:-1] + "0", NOW).token == "wrong"


def test_a_rotated_out_secret_ends_at_its_time() -> None:
    hooks = _hooks(make.hook_endpoint(secrets=(_sealed("new"), _sealed("old", expires_at=NOW + 1))))
    found = [hooks.find(TEAM, "github", None, NOW + late).endpoint for late in (0, 1)]
    assert [one.secrets for one in found if one is not None] == [("new", "old"), ("new",)]


def test_a_closed_endpoint_is_closed_and_unseals_nothing() -> None:
    closed = make.hook_endpoint(active=False, secrets=(_sealed("x", key=OTHER_KEY),))
    assert _hooks(closed).find(TEAM, "github", TOKEN, NOW) == KnownHook(Endpoint(active=False), "right")


@pytest.mark.parametrize("sealed", [_sealed("x", key=OTHER_KEY), _sealed("x", source="gitlab"), SealedSecret(sealed="nonsense")])
def test_a_secret_that_cannot_be_unsealed_lets_nobody_in(sealed: SealedSecret) -> None:
    with pytest.raises(Unavailable) as raised:
        _hooks(make.hook_endpoint(secrets=(sealed,))).find(TEAM, "github", TOKEN, NOW)
    assert sealed.sealed not in str(raised.value)


def test_while_not_everything_is_known_nobody_is_judged() -> None:
    endpoints, credentials = Held(), Held({make.credential(TOKEN).key: make.credential(TOKEN)}, NOT_YET)
    hooks = TableHooks(endpoints, credentials, Peppers(make.PEPPER), (KEY,))
    with pytest.raises(Unavailable):
        hooks.find(TEAM, "github", TOKEN, NOW)
    credentials.ready = READY
    assert hooks.find(TEAM, "github", TOKEN, NOW).token == "right"
    endpoints.ready = NOT_YET
    with pytest.raises(Unavailable):
        hooks.find(TEAM, "github", TOKEN, NOW)


def test_endpoints_of_two_teams_never_share_a_key() -> None:
    assert endpoint_key("a:b", "c") != endpoint_key("a", "b-c")
    assert make.hook_endpoint().key == f"{make.TEAM}/github"
    assert not auth.hash_matches(None, TOKEN, make.PEPPER)
