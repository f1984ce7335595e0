"""What is left of credentials and configs of a team that is erased: enough to refuse them, nothing that says anything."""

from dataclasses import replace

import pytest

from kite_cli.admin.erase_team import TeamFound, ended, ended_for_good, is_left, revoked, under_way_s
from kite_cli.failure import CommandFailed
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


DONE = make.team_erased(archive_erased_at=NOW)
BOOKS = TeamFound(make.TEAM, "cancelled", 5, keys=0, tokens=0, hooks=0, webhook=False, erasure=DONE)
LEFT = (
    replace(BOOKS, keys=1), replace(BOOKS, tokens=1), replace(BOOKS, hooks=1), replace(BOOKS, webhook=True),
    replace(BOOKS, subscription="active"), replace(BOOKS, subscription="past_due"), replace(BOOKS, erasure=None),
    replace(BOOKS, erasure=make.team_erased()),
)  # fmt: skip


def test_only_the_books_may_be_left() -> None:
    assert not is_left(BOOKS)
    assert not is_left(replace(BOOKS, subscription=None))
    assert all(is_left(found) for found in LEFT)


@pytest.mark.parametrize("late", LEFT)
async def test_what_came_after_the_step_that_ends_it_is_ended_by_another_round(late: TeamFound) -> None:
    """A story: a webhook that a request had begun to store, or a key that was being made, outlived the command that said it is done."""
    done: list[str] = []
    looks = iter([late, late, BOOKS])

    async def end() -> None:
        done.append("ended")

    async def find() -> TeamFound:
        done.append("looked")
        return next(looks)

    assert await ended_for_good(end, find, lambda _step: None) == BOOKS
    assert done == ["ended", "looked"] * 3


async def test_what_comes_for_ever_is_no_success() -> None:
    async def end() -> None:
        pass

    async def find() -> TeamFound:
        return LEFT[0]

    with pytest.raises(CommandFailed, match="again and again"):
        await ended_for_good(end, find, lambda _step: None)


def test_requests_that_a_key_had_opened_are_over_some_time_after_the_last_one_was_revoked() -> None:
    issued = [make.credential(revoked_at=NOW - 60_000), make.credential(revoked_at=NOW), make.credential()]
    assert under_way_s(issued, NOW + 5_000) == 20
    assert under_way_s(issued, NOW + 25_000) == 0
    assert under_way_s(issued, NOW + 9_000_000) == 0
    assert under_way_s(issued, NOW - 9_000_000) == 25, "clocks differ"
    assert under_way_s([make.credential()], NOW) == 0
