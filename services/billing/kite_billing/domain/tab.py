"""One team's account while a step charges it: counters in plain slots, the snapshot built once at the end.

The same rules as evolve() in account.py, without a new snapshot per record: charging in one tab or in many gives the same account.
"""

from kite_billing.domain.account import evolve, renewal
from kite_billing.domain.tariff import counted, price
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, ledger_entry_of_event
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog

_NEVER = 1 << 62


class Tab:
    """Open over an account, charge any number of usages, close into the next account."""

    __slots__ = ("_account", "_balance", "_catalog", "_charged", "_day", "_day_used", "_renews_at", "_used")

    _account: AccountSnapshot
    _balance: int
    _charged: int
    _day: int
    _day_used: int
    _renews_at: int
    _used: int

    def __init__(self, account: AccountSnapshot, catalog: Catalog) -> None:
        self._catalog = catalog
        self._take(account)

    def charge(self, usage: UsageRecorded, at_ms: int) -> LedgerEntry:
        """Take one usage at `at_ms` (append time of its record) and return its only ledger entry.

        The debit is the usage's price, or what the wallet holds if that is less; the rest is the entry's shortfall. A usage counts on the
        day and in the period of `at_ms`; a time before the current ones (the brokers' clocks differ) counts in the current ones.
        """
        if at_ms >= self._renews_at:
            self._renew(at_ms)
        day = utc_day(at_ms)
        if day > self._day:
            self._day, self._day_used = day, 0
        units, wanted = counted(usage), price(usage)
        taken = min(wanted, self._balance)
        # Counters stop at the largest integer JSON clients read: nothing reaches it honestly, and a forged quantity must not stop the
        # partition.
        self._used = min(self._used + units, UNLIMITED)
        self._day_used = min(self._day_used + units, UNLIMITED)
        self._charged = min(self._charged + taken, UNLIMITED)
        self._balance -= taken
        return LedgerEntry(
            team_id=usage.team_id, id=ledger_entry_of_event(EventId(usage.event_id)), entry="debit",
            reason="replay" if usage.usage_kind == "replay" else "event", contra="revenue", amount_atomic=-taken,
            balance_after_atomic=self._balance, shortfall_atomic=wanted - taken, quantity=usage.quantity, event_id=usage.event_id,
            occurred_at=at_ms,
        )  # fmt: skip

    def account(self, applied: int) -> AccountSnapshot:
        """The account as it is now, standing for position `applied`."""
        base = self._account
        return AccountSnapshot(
            team_id=base.team_id, opened_at=base.opened_at, subscription=base.subscription, period_used=self._used,
            period_charged_atomic=self._charged, day=self._day, day_used=self._day_used, balance_atomic=self._balance,
            applied=applied, recent_commands=base.recent_commands,
        )  # fmt: skip

    def _take(self, account: AccountSnapshot) -> None:
        self._account = account
        self._used, self._charged = account.period_used, account.period_charged_atomic
        self._day, self._day_used = account.day, account.day_used
        self._balance = account.balance_atomic
        current = account.subscription
        self._renews_at = _NEVER if current is None or current.status == "cancelled" else current.period_end

    def _renew(self, at_ms: int) -> None:
        account = self.account(self._account.applied)
        fact = renewal(account, at_ms, self._catalog)
        self._take(account if fact is None else evolve(account, fact))
