"""What is left of credentials and configs of a team that is erased: enough to refuse them, nothing that says anything."""

import pytest

from kite_cli.admin.erase_team import ended, revoked
from kite_common import auth
from kite_common.events.credentials import CredentialIssued
from kite_common.testing import make

NOW = make.NOW_MS + 60_000
HELD = (
    make.credential(name="Jane's laptop", scopes=("source:github", "agent_to:builder")),
    make.credential(make.HOOK_TOKEN),
    make.credential(name="old", revoked_at=make.NOW_MS + 5),
)


@pytest.mark.parametrize("issued", HELD)
def test_a_credential_opens_nothing_says_nothing_and_keeps_its_key(issued: CredentialIssued) -> None:
    left = revoked(issued, NOW)
    assert not auth.is_live(left, NOW)
    assert (left.name, left.scopes, left.source) == ("", (), None)
    assert (left.key, left.team_id, left.created_at) == (issued.key, issued.team_id, issued.created_at)


def test_when_it_was_revoked_stays_and_a_repeat_changes_nothing() -> None:
    assert revoked(HELD[2], NOW).revoked_at == make.NOW_MS + 5
    left = revoked(HELD[0], NOW)
    assert left.revoked_at == NOW
    assert revoked(left, NOW + 1) == left


def test_a_webhook_config_delivers_nowhere_and_says_nothing() -> None:
    held = make.webhook(event_types=("com.acme.*",))
    left = ended(held, NOW)
    assert (left.active, left.url, left.event_types, left.secrets) == (False, "", (), ())
    assert (left.id, left.team_id) == (held.id, held.team_id)
    assert left.updated_at == NOW


def test_a_config_that_is_ahead_of_our_clock_is_changed_after_it() -> None:
    held = make.webhook(updated_at=NOW + 500)
    assert ended(held, NOW).updated_at == NOW + 501
