"""What Redis holds of a team against its snapshot, and what of it is reserved. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kite_cli.admin.audit.findings import Findings
from kite_common.events.accounts import AccountSnapshot
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.account_fields import account_fields

_TOTAL: Final = b"total"
Agreement = Literal["same", "behind", "ahead"]


@dataclass(frozen=True, slots=True)
class Projected:
    """What stands in Redis of one team: the hash of its account, what is reserved by id, and the ids in order of their times."""

    account: Mapping[bytes, bytes]
    reserved: Mapping[bytes, bytes]
    pending: Sequence[bytes]


def agreement(account: AccountSnapshot, projected: Projected) -> Agreement:
    """Whether Redis stands at the snapshot's position, before it (or nowhere), or behind it already."""
    applied = int(projected.account.get(b"applied", b"-1"))
    return "same" if applied == account.applied else "behind" if applied < account.applied else "ahead"


def compare(findings: Findings, account: AccountSnapshot, projected: Projected) -> None:
    """Compare what stands for one position."""
    findings.checked["redis"] += 1
    parts = account_fields(account)
    expected = {str(name): str(value) for name, value in zip(parts[::2], parts[1::2], strict=True)}
    found = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in projected.account.items()}
    wrong = [f"{name} is {found.get(name, 'missing')}, not {value}" for name, value in expected.items() if found.get(name) != value]
    if wrong:
        findings.violation("redis", account.team_id, keys.account(TeamId(account.team_id)), "; ".join(wrong))
    compare_reserved(findings, account.team_id, projected)


def compare_reserved(findings: Findings, team_id: str, projected: Projected) -> None:
    """What is reserved: each amount belongs to a pending id, and the total is their sum."""
    amounts = {one: int(text.split(b" ", 1)[0]) for one, text in projected.reserved.items() if one != _TOTAL}
    total, where = int(projected.reserved.get(_TOTAL, b"0")), keys.reserved(TeamId(team_id))
    if total != sum(amounts.values()):
        findings.violation("redis", team_id, where, f"the total reserved is {total}, its parts come to {sum(amounts.values())}")
    for one in sorted(amounts.keys() ^ set(projected.pending)):
        findings.violation("redis", team_id, where, f"{one.decode('utf-8', 'replace')} is reserved in one place and not in the other")
    findings.under_way("reservations", len(projected.pending))


def never_projected(findings: Findings, account: AccountSnapshot, projected: Projected) -> None:
    """Redis stayed behind the snapshot although it was waited for."""
    findings.checked["redis"] += 1
    applied = projected.account.get(b"applied", b"nothing").decode("utf-8", "replace")
    where = keys.account(TeamId(account.team_id))
    findings.violation("redis", account.team_id, where, f"stands at {applied}, kite.accounts at {account.applied}")


def still_held(findings: Findings, team_id: str, event_id: str, position: str) -> None:
    """A usage that billing has charged is still reserved: its price is taken twice from what the team may spend."""
    findings.violation("redis", team_id, position, f"{event_id} is charged and still reserved in {keys.reserved(TeamId(team_id))}")
