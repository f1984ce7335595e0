"""One usage -> its only ledger entry, in the tab of its team; what the team has to be told. Knows no records, writes nothing."""

from collections.abc import Callable

from kite_billing.domain.tab import Tab
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.ledger import LedgerEntry
from kite_common.events.notices import SubscriptionNotice
from kite_common.events.usage import UsageRecorded
from kite_common.plans import Catalog


class ChargeUsage:
    """The usages of one step, in log order. A team's tab is opened at its first usage and closed once, at the end.

    `account_of` gives the account of a team as it is before its first usage of the step.
    """

    def __init__(self, account_of: Callable[[str], AccountSnapshot | None], catalog: Catalog) -> None:
        self._account_of, self._catalog = account_of, catalog
        self._tabs: dict[str, Tab] = {}

    def __call__(self, usage: UsageRecorded, at_ms: int) -> LedgerEntry | None:
        """The entry of a usage appended at `at_ms`; None if the team has no account, and then nothing is charged."""
        tab = self._tabs.get(usage.team_id)
        if tab is None:
            account = self._account_of(usage.team_id)
            if account is None:
                return None
            tab = self._tabs[usage.team_id] = Tab(account, self._catalog)
        return tab.charge(usage, at_ms)

    def accounts(self, applied: int) -> dict[str, AccountSnapshot]:
        """The account of every team that was charged, standing for position `applied`."""
        return {team_id: tab.account(applied) for team_id, tab in self._tabs.items()}

    def notices(self) -> list[SubscriptionNotice]:
        """What the teams have to be told, each team's in the order it came about."""
        return [notice for tab in self._tabs.values() for notice in tab.notices]
