"""One team's account while a step charges it: counters in plain slots, the snapshot built once at the end.

The same rules as account.py and notices.py, without a new snapshot per record: charging in one tab or in many gives the same account, the
same entries and the same notices.
"""

from kite_billing.domain.account import current, not_cancelled
from kite_billing.domain.notices import DAY_MS, NEVER, noticed, watch
from kite_billing.domain.tariff import counted, price
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.ledger import LedgerEntry
from kite_common.events.notices import SubscriptionNotice
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, ledger_entry_of_event
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog


class Tab:
    """Open over an account, charge any number of usages, close into the next account."""

    __slots__ = (
        "_account", "_balance", "_balance_watched", "_catalog", "_charged", "_day_used", "_day_watched", "_rolls_at", "_used",
        "_used_watched", "notices",
    )  # fmt: skip

    _account: AccountSnapshot
    _balance: int
    _balance_watched: int
    _charged: int
    _day_used: int
    _day_watched: int
    _rolls_at: int
    _used: int
    _used_watched: int

    def __init__(self, account: AccountSnapshot, catalog: Catalog) -> None:
        self._catalog = catalog
        # What the team has to be told, in the order it came about.
        self.notices: list[SubscriptionNotice] = []
        self._take(account)

    def charge(self, usage: UsageRecorded, at_ms: int) -> LedgerEntry:
        """Take one usage at `at_ms` (append time of its record) and return its only ledger entry.

        The debit is the usage's price, or what the wallet holds if that is less; the rest is the entry's shortfall. A usage counts on the
        day and in the period of `at_ms`; a time before the current ones (the brokers' clocks differ) counts in the current ones.
        """
        if at_ms >= self._rolls_at:
            self._look(current(self._now(self._account.applied), at_ms, self._catalog), usage.event_id, at_ms)
        units, wanted = counted(usage), price(usage)
        taken = min(wanted, self._balance)
        # Counters stop at the largest integer JSON clients read: nothing reaches it honestly, and a forged quantity must not stop the
        # partition.
        self._used = min(self._used + units, UNLIMITED)
        self._day_used = min(self._day_used + units, UNLIMITED)
        self._charged = min(self._charged + taken, UNLIMITED)
        self._balance -= taken
        entry = LedgerEntry(
            team_id=usage.team_id, id=ledger_entry_of_event(EventId(usage.event_id)), entry="debit",
            reason="replay" if usage.usage_kind == "replay" else "event", contra="revenue", amount_atomic=-taken,
            balance_after_atomic=self._balance, shortfall_atomic=wanted - taken, quantity=usage.quantity, event_id=usage.event_id,
            commands_to=self._account.commands_to or None, occurred_at=at_ms,
        )  # fmt: skip
        if self._used >= self._used_watched or self._day_used >= self._day_watched or self._balance < self._balance_watched:
            self._look(self._now(self._account.applied), usage.event_id, at_ms)
        return entry

    def account(self, applied: int) -> AccountSnapshot:
        """The account as it is now, standing for position `applied`."""
        return self._now(applied)

    def _now(self, applied: int) -> AccountSnapshot:
        return self._account.model_copy(update={
            "period_used": self._used, "period_charged_atomic": self._charged, "day_used": self._day_used, "balance_atomic": self._balance,
            "applied": applied,
        })  # fmt: skip

    def _look(self, account: AccountSnapshot, cause: str, at_ms: int) -> None:
        """Whether there is something to tell now."""
        found = noticed(account, cause, at_ms)
        self.notices += found.notices
        self._take(found.account)

    def _take(self, account: AccountSnapshot) -> None:
        self._account = account
        self._used, self._charged = account.period_used, account.period_charged_atomic
        self._day_used, self._balance = account.day_used, account.balance_atomic
        running, watched = not_cancelled(account), watch(account)
        self._rolls_at = min((account.day + 1) * DAY_MS, NEVER if running is None else running.period_end)
        self._used_watched, self._day_watched, self._balance_watched = watched.used, watched.day_used, watched.balance
