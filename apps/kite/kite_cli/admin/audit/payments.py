"""Credits of payments against the records of the payments, and both against the chain. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kite_cli.admin.audit.findings import Findings
from kite_common.events.payment_record import PaymentRecord
from kite_common.x402.key import payment_id

_IN_FLIGHT: Final = frozenset({"claimed", "settling", "unknown", "settled"})
_DIGEST: Final = 16


class Moved(NamedTuple):
    """An entry that a payment's command number `seq` led to; `digest` stands for the payment's key."""

    digest: bytes
    seq: int
    amount: int
    team_id: str
    position: str


class Recorded(NamedTuple):
    """What the record of a payment says: what it is worth, whether it stands in an account, whether work on it goes on."""

    digest: bytes
    name: str
    value: int
    credited: bool
    in_flight: bool


@dataclass(frozen=True, slots=True)
class OnChain:
    """What the paid addresses have, less what is none of Kite's: before the log was read, and after. Atomic units."""

    before: int
    after: int


def moved_by(fields: dict[str, Any], position: str) -> Moved | None:
    """What an entry has moved for a payment; None if it is not a payment's."""
    if fields.get("payment") is None:
        return None
    key, _, seq = str(fields.get("command_id")).rpartition("#")
    if not key or not seq.isdigit():
        return None
    shortfall = fields.get("shortfall_atomic", 0)
    # What a full wallet did not hold counts as much as what an empty one still owes.
    amount = fields["amount_atomic"] + (-shortfall if fields["entry"] == "reversal" else shortfall)
    return Moved(_digest(key), int(seq), amount, fields["team_id"], position)


def recorded(record: PaymentRecord) -> Recorded:
    """What a record says."""
    return Recorded(
        _digest(record.payment_key), payment_id(record.payment_key), int(record.value), record.credited_to is not None,
        record.state in _IN_FLIGHT,
    )  # fmt: skip


def compare(findings: Findings, moved: Iterable[Moved], records: Iterable[Recorded], chain: OnChain | None) -> None:
    """Compare all entries of payments with all records, and their sum with the chain."""
    sums = _sums(findings, moved)
    known = {record.digest: record for record in records}
    for digest, record in known.items():
        findings.checked["payments"] += 1
        total = sums.get(digest, 0)
        if total == (record.value if record.credited else 0):
            continue
        if record.in_flight:
            findings.under_way("payments")
        else:
            says = f"{record.value} stand in an account" if record.credited else "nothing stands in an account"
            findings.violation("payments", "", record.name, f"its record says that {says}, the ledger {total}")
    for digest in sums.keys() - known.keys():
        if sums[digest]:
            findings.violation("payments", "", digest.hex(), f"{sums[digest]} were credited for a payment that has no record")
    if chain is not None:
        _compare_chain(findings, sum(sums.values()), known, chain)


def _sums(findings: Findings, moved: Iterable[Moved]) -> dict[bytes, int]:
    sums: dict[bytes, int] = {}
    seen: set[tuple[bytes, int]] = set()
    for one in moved:
        if (one.digest, one.seq) in seen:
            findings.violation("payments", one.team_id, one.position, f"command {one.seq} of its payment moved money before")
            continue
        seen.add((one.digest, one.seq))
        sums[one.digest] = sums.get(one.digest, 0) + one.amount
    return sums


def _compare_chain(findings: Findings, credited: int, known: Mapping[bytes, Recorded], chain: OnChain) -> None:
    findings.checked["payments"] += 1
    coming = sum(record.value for record in known.values() if record.in_flight)
    if credited > max(chain.before, chain.after):
        detail = f"{credited} were credited, the chain shows {chain.after}"
        findings.violation("payments", "", "", detail)
    elif credited + coming < min(chain.before, chain.after):
        detail = f"{credited} were credited and {coming} are under way, the chain shows {chain.after}"
        findings.violation("payments", "", "", detail)
    elif credited != chain.after:
        findings.under_way("payments")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()[:_DIGEST]
