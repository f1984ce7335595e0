"""What of one partition still has to be written to Redis: newest accounts, settled events, outcomes. Pure; writes nothing.

While Redis is away accounts coalesce to the newest; settled events are kept up to a bound. Beyond it they are forgotten together, and
`gap` says that they must be read from the log again.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import CommandOutcome
from kite_common.ids import EventId, TeamId

# About 100 bytes each, and a second's worth of a very busy process: more means that Redis is away for longer.
MAX_SETTLED: Final = 100_000
# Their senders wait for seconds.
MAX_OUTCOMES: Final = 10_000
# Steps whose charges wait one by one; the next ones count as being as old as the last of these.
MAX_STEPS: Final = 1_000


class Settled(NamedTuple):
    """An event whose usage is in the ledger: its reservation goes, what it has claimed is answered from now on."""

    team_id: TeamId
    event_id: EventId
    claim: str | None
    delivery_claim: str | None = None
    payment_claim: str | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        """What it has claimed."""
        return tuple(one for one in (self.claim, self.delivery_claim, self.payment_claim) if one is not None)


class Charges(NamedTuple):
    """The usages of one step: how many, and when the first of them was appended (ms)."""

    usages: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Write:
    """One call of account.lua. `create`: nothing of this team was written since Redis was last known to be whole."""

    account: AccountSnapshot
    settled: tuple[Settled, ...]
    create: bool


class Pending:
    """One partition's accounts at position `applied`, and what Redis does not know of them yet."""

    def __init__(self, accounts: Mapping[str, AccountSnapshot], applied: int, stream_time_ms: int) -> None:
        self.accounts = dict(accounts)
        self.applied, self.stream_time_ms = applied, stream_time_ms
        self.gap = False
        self._known: set[str] = set()
        # Teams to write, with their settled events, oldest first: of the round under way, and since it began.
        self._round: dict[str, list[Settled]] = {}
        self._next: dict[str, list[Settled]] = {}
        self._settled = 0
        self._outcomes: deque[CommandOutcome] = deque(maxlen=MAX_OUTCOMES)
        self._sweep: deque[str] = deque()
        self._round_charges: list[Charges] = []
        self._next_charges: list[Charges] = []

    def add(self, accounts: Mapping[str, AccountSnapshot], outcomes: Iterable[CommandOutcome], applied: int, stream_time_ms: int) -> None:
        """A step was committed."""
        self.accounts.update(accounts)
        self.applied, self.stream_time_ms = applied, stream_time_ms
        self._outcomes.extend(outcomes)
        for team_id in accounts:
            self._next.setdefault(team_id, [])

    def settle(self, settled: Sequence[Settled]) -> None:
        """These events are in the ledger, and in the accounts that were given before or are given in the same turn of the loop."""
        if self._settled + len(settled) > MAX_SETTLED:
            self.gap = True
            for waiting in (self._round, self._next):
                waiting.update((team_id, []) for team_id in waiting)
            self._settled = 0
            return
        self._settled += len(settled)
        for one in settled:
            self._next.setdefault(one.team_id, []).append(one)

    def charge(self, charges: Charges) -> None:
        """A step with usages was committed; its account was given before or is given in the same turn of the loop."""
        _queue(self._next_charges, charges)

    def charges_written(self) -> list[Charges]:
        """Those of the round, which is over: their accounts are in Redis."""
        written, self._round_charges = self._round_charges, []
        return written

    def know(self, applied: int) -> None:
        """Accounts that stand for positions up to `applied` are in Redis; one that is missing there means that Redis lost data."""
        self._known = {team_id for team_id, account in self.accounts.items() if account.applied <= applied}

    def write_all(self) -> None:
        """Every account goes into the next round."""
        for team_id in self.accounts:
            self._next.setdefault(team_id, [])

    def sweep(self, teams: int) -> None:
        """So many accounts, another lot each time, go into the next round: lapsed reservations and lost accounts are found by it."""
        if not self._sweep:
            self._sweep.extend(self.accounts)
        for _ in range(min(teams, len(self._sweep))):
            self._next.setdefault(self._sweep.popleft(), [])

    def begin_round(self) -> None:
        """What waits now is this round; what comes later waits for the next, so that a round always ends."""
        if self._round:
            for team_id, settled in self._next.items():
                self._round.setdefault(team_id, []).extend(settled)
        else:
            self._round = self._next
        self._next = {}
        for charges in self._next_charges:
            _queue(self._round_charges, charges)
        self._next_charges = []

    def take(self, max_teams: int, max_settled: int) -> list[Write]:
        """Some of the round, at most so many teams and events, none twice; empty when it is over.

        The newest account goes with its oldest events. Those above `max_settled` come with the next call: until then they count as
        charged and as reserved.
        """
        writes: list[Write] = []
        for team_id in list(islice(self._round, max_teams)):
            waiting = self._round.pop(team_id) + self._next.pop(team_id, [])
            # What a catch-up reads from the log may have been committed, and given to us, meanwhile.
            settled = list(dict.fromkeys(waiting))
            self._settled -= len(waiting) - len(settled)
            account = self.accounts.get(team_id)
            if account is None:
                self._settled -= len(settled)
                continue
            if len(settled) > max_settled:
                self._round[team_id] = settled[max_settled:]
            taken = settled[:max_settled]
            self._settled -= len(taken)
            max_settled -= len(taken)
            writes.append(Write(account, tuple(taken), team_id not in self._known))
            if max_settled <= 0:
                break
        return writes

    def put_back(self, writes: Sequence[Write]) -> None:
        """These may not have been written: they are first in the round again. What was written frees nothing more."""
        again = {write.account.team_id: [*write.settled] for write in writes}
        self._settled += sum(map(len, again.values()))
        for team_id, settled in self._round.items():
            again.setdefault(team_id, []).extend(settled)
        self._round = again

    def written(self, write: Write) -> None:
        """The team's account is in Redis."""
        self._known.add(write.account.team_id)

    def take_outcomes(self) -> list[CommandOutcome]:
        """All outcomes that wait, oldest first."""
        taken = list(self._outcomes)
        self._outcomes.clear()
        return taken

    def put_back_outcomes(self, outcomes: Sequence[CommandOutcome]) -> None:
        """These may not have been written."""
        self._outcomes.extendleft(reversed(outcomes))


def _queue(waiting: list[Charges], charges: Charges) -> None:
    """Behind the others; where too many wait, as part of the last of them."""
    if len(waiting) < MAX_STEPS:
        waiting.append(charges)
    else:
        waiting[-1] = Charges(waiting[-1].usages + charges.usages, waiting[-1].oldest_ms)
