"""For tests: a wallet that pages are paid from, and the log their usages go into."""

from dataclasses import dataclass, field

from kite_common.errors import KiteError, Unavailable
from kite_common.ids import EventId
from kite_replay.domain.charge import PageUsage, Reserved, WalletFacts
from kite_replay.domain.price import Standing


@dataclass(slots=True)
class FakeWallet:
    """One team's account and what it holds, as `PageCharges`; `balance` is what the ledger says. `log` takes what is charged."""

    standing: Standing = "x402"
    row_atomic: int = 10
    balance: int = 1_000
    held: dict[EventId, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What is neither spent nor held."""
        return self.balance - sum(self.held.values())

    async def reserve(self, usage: PageUsage) -> WalletFacts:
        amount = usage.rows * self.row_atomic if self.standing == "x402" else 0
        known = self.held.get(usage.usage_id)
        if known is None and self.standing != "no_subscription" and 0 < amount <= self.available:
            known = self.held[usage.usage_id] = amount
        return WalletFacts(self.standing, "sub", amount if known is None else known, known is not None, usage.received_ms)

    async def release(self, usage: PageUsage) -> None:
        self.held.pop(usage.usage_id, None)

    def settle(self, usage_id: EventId) -> None:
        """What billing does with a usage that is in the log."""
        self.balance -= self.held.pop(usage_id)


@dataclass(slots=True)
class MemoryUsageLog:
    """A UsageLog in memory. `failing`: what the next appends raise; with OutcomeOpen the usage is in the log all the same."""

    appended: list[tuple[PageUsage, Reserved]] = field(default_factory=list)
    failing: list[KiteError] = field(default_factory=list)

    async def append(self, usage: PageUsage, reserved: Reserved) -> None:
        error = self.failing.pop(0) if self.failing else None
        if not isinstance(error, Unavailable):
            self.appended.append((usage, reserved))
        if error is not None:
            raise error
