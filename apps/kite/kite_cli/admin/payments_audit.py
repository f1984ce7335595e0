"""Whether the money adds up: what payments have credited to wallets, what their records say of it, what the chain says. Moves nothing."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kite_cli.admin.payments import record_of
from kite_cli.admin.whole_topic import read_topic
from kite_cli.failure import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import find_stack
from kite_cli.local.chain.known import CHAIN_ID, PAY_TO, TOKENS, Token
from kite_cli.local.chain.rpc import RpcFailed, chain_rpc
from kite_cli.local.chain.token import balance_of
from kite_cli.target import LogTarget
from kite_common.config import load
from kite_common.errors import Malformed
from kite_common.events.codec import decode_as
from kite_common.events.ledger import LedgerEntry
from kite_common.events.payment_record import PaymentRecord
from kite_common.ids import UNATTRIBUTED
from kite_common.stream.input import Input
from kite_common.stream.state import MARKER_KEY
from kite_common.topics import LEDGER, PAYMENT_STATES
from kite_common.x402_settings import X402ProcessorSettings, payment_problems, terms_of

_AGAIN_S: Final = 1.0
_IN_FLIGHT: Final = ("claimed", "settling", "unknown", "settled")


@dataclass(frozen=True, slots=True)
class PaidAt:
    """Where the money is: the chain, its token, and the addresses that are or were paid."""

    rpc_url: str
    token: Token
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """All in atomic units. `ledger`: credits less reversals, whether a wallet could bear them or they became debt; `records`: what payments
    say stands in wallets; `chain`: what the paid addresses have, less `before`, what they had before Kite or got and gave besides it."""

    ledger_atomic: int
    records_atomic: int
    chain_atomic: int
    before_atomic: int
    unattributed_atomic: int
    in_flight: int

    @property
    def gap_atomic(self) -> int:
        """Credited more than was paid (above 0), or paid more than was credited (below)."""
        return self.ledger_atomic - (self.chain_atomic - self.before_atomic)

    @property
    def ok(self) -> bool:
        """Whether all three are the same."""
        return self.gap_atomic == 0 and self.records_atomic == self.ledger_atomic

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl payments audit --json` prints it."""
        return {
            "ok": self.ok, "gap_atomic": self.gap_atomic, "ledger_atomic": self.ledger_atomic, "records_atomic": self.records_atomic,
            "chain_atomic": self.chain_atomic, "before_atomic": self.before_atomic, "unattributed_atomic": self.unattributed_atomic,
            "in_flight": self.in_flight,
        }  # fmt: skip


def audited(entries: Iterable[LedgerEntry], records: Iterable[PaymentRecord], chain_atomic: int, before_atomic: int = 0) -> Audit:
    """What entries, records and a balance come to. An entry that stands in the log twice is one entry."""
    by_id = {entry.id: entry for entry in entries if entry.payment is not None}
    known = list(records)
    standing = [one for one in known if one.credited_to is not None]
    return Audit(
        ledger_atomic=sum(_moved(entry) for entry in by_id.values()),
        records_atomic=sum(int(one.value) for one in standing),
        chain_atomic=chain_atomic,
        before_atomic=before_atomic,
        unattributed_atomic=sum(int(one.value) for one in standing if one.credited_to == UNATTRIBUTED),
        in_flight=sum(one.state in _IN_FLIGHT for one in known),
    )


async def audit_payments(target: LogTarget, paid_at: PaidAt, before_atomic: int, within_s: float) -> Audit:
    """Read log and chain until they agree, at most `within_s`: what is under way needs a moment. Raises CommandFailed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        audit = await _once(target, paid_at, before_atomic)
        if audit.ok or loop.time() >= deadline:
            return audit
        await asyncio.sleep(_AGAIN_S)


def find_paid_at(data: Path, from_stack: bool) -> PaidAt:
    """Where payments are made: as X402_* say, or on the chain of the local stack. Raises CommandFailed, ConfigurationError."""
    stack = find_stack(data) if from_stack else None
    # Not by its port: a folder remembers that of an earlier run.
    if stack is not None and stack.chain is not None:
        return PaidAt(stack.chain.rpc_url, TOKENS[CHAIN_ID], (PAY_TO,))
    settings = load(X402ProcessorSettings)
    terms, rpc_url = terms_of(settings), settings.x402_rpc_url or settings.x402_facilitator_rpc_url
    if terms is None or rpc_url is None:
        problems = payment_problems(settings) or ["X402_RPC_URL: is required"]
        raise CommandFailed("; ".join(problems), "Set X402_* to what billing has.", EXIT_CONFIGURATION)
    asset = terms.asset
    return PaidAt(rpc_url, Token(asset.checksum, asset.name, asset.version), tuple(sorted(terms.recipients)))


async def _once(target: LogTarget, paid_at: PaidAt, before_atomic: int) -> Audit:
    partitions = range(target.partitions)
    chain_atomic = await balance_on_chain(paid_at)
    records = _newest(await read_topic(target, PAYMENT_STATES, partitions))
    ledger = [_entry(one) for one in await read_topic(target, LEDGER, partitions)]
    return audited((one for one in ledger if one is not None), records.values(), chain_atomic, before_atomic)


async def balance_on_chain(paid_at: PaidAt) -> int:
    """What the paid addresses have. Raises CommandFailed if the chain cannot be read."""
    try:
        async with chain_rpc(paid_at.rpc_url) as rpc:
            return sum([await balance_of(rpc, paid_at.token, address) for address in paid_at.addresses])
    except RpcFailed as error:
        raise CommandFailed("the chain cannot be read", "See that X402_RPC_URL is right and its node answers.", EXIT_UNAVAILABLE) from error


def _newest(inputs: Sequence[Input]) -> Mapping[bytes | None, PaymentRecord]:
    records: dict[bytes | None, PaymentRecord] = {}
    for one in inputs:
        record = record_of(one)
        if record is not None:
            records[one.key] = record
        elif one.key != MARKER_KEY:
            records.pop(one.key, None)
    return records


def _entry(one: Input) -> LedgerEntry | None:
    try:
        return None if one.key == MARKER_KEY else decode_as(LedgerEntry, one.value)
    except Malformed:
        return None


def _moved(entry: LedgerEntry) -> int:
    """What a credit or reversal moved in all: what a full wallet did not hold counts as much as what an empty one still owes."""
    return entry.amount_atomic - entry.shortfall_atomic if entry.entry == "reversal" else entry.amount_atomic + entry.shortfall_atomic
