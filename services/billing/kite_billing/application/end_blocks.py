"""Time ends a day's or a period's quota: who has waited for it is told, although nobody sends. Knows no records, writes nothing."""

import heapq
from collections.abc import Iterable, Mapping

from kite_billing.domain.account import current
from kite_billing.domain.notices import Noticed, due_ms, noticed
from kite_common.events.accounts import AccountSnapshot
from kite_common.plans import Catalog


class BlockEnds:
    """When which team's block ends by time alone: of one partition. What is here says where to look, the accounts decide."""

    def __init__(self, accounts: Iterable[AccountSnapshot]) -> None:
        self._ends: list[tuple[int, str]] = []
        self.add(accounts)

    def add(self, accounts: Iterable[AccountSnapshot]) -> None:
        """These are the newest accounts of their teams."""
        for account in accounts:
            end = due_ms(account) if account.blocks else None
            if end is not None:
                heapq.heappush(self._ends, (end, account.team_id))

    def ended(self, at_ms: int) -> list[str]:
        """Teams to look at, now that everything up to `at_ms` is applied; each once."""
        found: dict[str, None] = {}
        while self._ends and self._ends[0][0] <= at_ms:
            found[heapq.heappop(self._ends)[1]] = None
        return list(found)


def end_blocks(teams: Iterable[str], accounts: Mapping[str, AccountSnapshot], at_ms: int, applied: int, catalog: Catalog) -> list[Noticed]:
    """These teams' accounts as they are at `at_ms`, standing for `applied`, with what they are to be told; unchanged ones left out."""
    found = []
    for team_id in teams:
        before = accounts[team_id]
        told = noticed(current(before, at_ms, catalog), f"{before.applied}", at_ms)
        if told.account is not before:
            found.append(Noticed(told.account.model_copy(update={"applied": applied}), told.notices))
    return found
