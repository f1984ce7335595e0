"""Who may deliver: every row of the table of wire contract 5.2, over the rule and over the use case."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_gateway.application.open_hook import Knock, OpenHook
from kite_gateway.domain.hooks.credentials import Endpoint, HookRefusal, Opened, TokenState, judge
from kite_gateway.domain.hooks.signatures import SignedRequest, Verdict
from kite_gateway.testing import FakeHooks
from support.providers import PROVIDERS

PLAIN, SECURED, CLOSED = Endpoint(), Endpoint(secrets=("s",)), Endpoint(active=False, secrets=("s",))
TOKENS: tuple[TokenState, ...] = ("none", "right", "stale", "wrong")
VERDICTS: tuple[Verdict, ...] = ("none", "right", "wrong")
PLAIN_OK, VERIFIED = Opened(verified=False), Opened(verified=True)

# endpoint, token, signature, result
ROWS: list[tuple[Endpoint | None, TokenState, Verdict, Opened | HookRefusal]] = [
    *((PLAIN, "right", verdict, PLAIN_OK) for verdict in VERDICTS),
    *((PLAIN, token, verdict, "invalid_hook_token") for token in TOKENS if token != "right" for verdict in VERDICTS),
    (SECURED, "right", "none", PLAIN_OK),
    (SECURED, "right", "right", VERIFIED),
    (SECURED, "none", "right", VERIFIED),
    (SECURED, "stale", "right", VERIFIED),
    *((SECURED, token, "wrong", "invalid_signature") for token in TOKENS),
    (SECURED, "wrong", "right", "invalid_hook_token"),
    *((SECURED, token, "none", "invalid_hook_token") for token in TOKENS if token != "right"),
    *((endpoint, token, verdict, "invalid_hook_token") for endpoint in (None, CLOSED) for token in TOKENS for verdict in VERDICTS),
]


@pytest.mark.parametrize(("endpoint", "token", "signature", "result"), ROWS)
def test_every_row_of_the_table(
    endpoint: Endpoint | None, token: TokenState, signature: Verdict, result: Opened | HookRefusal
) -> None:
    assert judge(endpoint, token, signature) == result


def test_the_rows_are_all_there_are() -> None:
    assert len({(endpoint, token, verdict) for endpoint, token, verdict, _ in ROWS}) == len(ROWS)
    assert len(ROWS) == 4 * len(TOKENS) * len(VERDICTS)


GITHUB = PROVIDERS["github"]
TEAM = "clerk-user:user_a"
NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)


def _open(knock: Knock) -> object:
    hooks = FakeHooks({(TEAM, "github"): Endpoint(secrets=(GITHUB.secret,))}, {(TEAM, "github", "good"): "right"})
    return OpenHook(hooks, FrozenClock(NOW))(knock)


def _knock(*, team: str = TEAM, source: str = "github", token: str | None = None, signed: bool = True) -> Knock:
    head = GITHUB.sign(GITHUB.secret, GITHUB.body, "", to_unix_ms(NOW) // 1000) if signed else {}
    return Knock(team, source, token, SignedRequest(head, GITHUB.body, ""))


def test_the_use_case_looks_up_checks_and_judges() -> None:
    assert _open(_knock()) == (TEAM, VERIFIED)
    assert _open(_knock(token="good", signed=False)) == (TEAM, PLAIN_OK)
    for knock in (
        _knock(token="bad"), _knock(signed=False), _knock(source="gitlab"), _knock(team="team_other"), _knock(team="no team"),
        _knock(team="", token="good"),
    ):  # fmt: skip
        assert _open(knock) == "invalid_hook_token"


def test_neither_token_nor_secret_shows_in_a_repr() -> None:
    knock = Knock(TEAM, "github", "khk_0a1b2c3d_secret", SignedRequest({}, b"", "https://x/khk_0a1b2c3d_secret"))
    assert "khk_" not in repr(knock)
    assert GITHUB.secret not in repr(Endpoint(secrets=(GITHUB.secret,)))


@pytest.mark.parametrize("state", ["active", "closed", "unknown"])
@pytest.mark.parametrize("secrets", [(), (GITHUB.secret,)])
@pytest.mark.parametrize("token", [None, "good", "old", "other"])
@pytest.mark.parametrize("signed", [True, False])
def test_who_is_refused_unread_would_be_refused_the_same_whatever_the_body(
    state: str, secrets: tuple[str, ...], token: str | None, signed: bool
) -> None:
    endpoints = {} if state == "unknown" else {(TEAM, "github"): Endpoint(active=state == "active", secrets=secrets)}
    hooks = FakeHooks(endpoints, {(TEAM, "github", "good"): "right", (TEAM, "github", "old"): "stale"})
    opens, knock = OpenHook(hooks, FrozenClock(NOW)), _knock(token=token, signed=signed)
    other = replace(knock, request=SignedRequest(knock.request.head, b"another body", ""))
    unread = opens.refused_unread(TEAM, "github", token, knock.request.head)
    answers = {str(opens(one)) for one in (knock, other)}
    # Only where all bodies are refused alike nobody has to look at one.
    assert answers == {unread} if unread is not None else len(answers) == 2 or "Opened" in answers.pop()
