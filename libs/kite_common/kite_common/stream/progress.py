"""Whether a group member moves on: what its owners have done against where the topics end, over time. Asks nobody but the clock."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import monotonic_s

# Work that waits this long without any progress makes the member not ready (architecture: red within 30 s).
STALLED_S: Final = 20.0
# Failures further apart than this are not one long failure.
_APART_S: Final = 30.0

At = tuple[str, int]


class Offsets(Protocol):
    """What is looked at of a `Feed`: next offsets by topic, the topics that sleep with the time (monotonic) they wake at, and whether
    reading has begun."""

    handed: dict[str, int]
    done: dict[str, int]
    asleep: dict[str, float]
    begun: bool


class Written(NamedTuple):
    """What the brokers say of a partition beside its records: where committed ones end, where all do, and when that was (their time)."""

    stable: int
    end: int
    told: int


@dataclass(slots=True)
class _State:
    """How far one topic's partition has ever been, and since when it has not moved although there is work; where committed records
    ended when the brokers last told (`told`), and how long that has been the same behind an open transaction."""

    done: int = -1
    position: int = -1
    stuck_since: float | None = None
    told: int | None = None
    stable: int = -1
    held_since: float | None = None
    held_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failing:
    """An owner that raises again and again: since when, when last, and what."""

    since: float
    last: float
    reason: str


class Progress:
    """Fed once a second by the group; asked by readiness. `stalled_s`: how long work may wait without progress."""

    def __init__(
        self, group: str, metrics: Metrics | None, now_s: Callable[[], float] = monotonic_s, *, stalled_s: float = STALLED_S
    ) -> None:
        self._group, self._metrics, self._now_s, self._stalled_s = group, metrics, now_s, stalled_s
        self._states: dict[At, _State] = {}
        self._starting: dict[int, float] = {}
        self._failing: dict[int, _Failing] = {}
        self._started_once = self._joined = False
        self._away: str | None = "not a member yet"
        self._away_since = self._looked_at = self._now_s()

    def assigned(self, partitions: Iterable[int]) -> None:
        """These partitions are ours from now on."""
        for number in partitions:
            self.begins(number)
        self._away, self._joined = None, True

    def begins(self, partition: int) -> None:
        """The owner of a partition is called, for the first time or again: until it reads, it is starting."""
        self._starting.setdefault(partition, self._now_s())

    def revoked(self, partitions: Iterable[int]) -> None:
        """These are not ours any more; until `assigned` we may own nothing without knowing it."""
        gone = set(partitions)
        self._joined = False
        self.away("joining the group")
        self._failing = {number: state for number, state in self._failing.items() if number not in gone}
        self._starting = {number: since for number, since in self._starting.items() if number not in gone}
        for at in [at for at in self._states if at[1] in gone]:
            del self._states[at]
            self._gauge("kite_consumer_lag", at, 0)
            self._gauge("kite_consumer_stalled_seconds", at, 0)

    def away(self, reason: str) -> None:
        """The brokers do not answer."""
        if self._away is None:
            self._away, self._away_since = reason, self._now_s()

    def failed(self, partition: int, reason: str) -> None:
        """The owner of a partition raised, and will be called again."""
        now, before = self._now_s(), self._failing.get(partition)
        since = before.since if before is not None and now - before.last < _APART_S else now
        self._failing[partition] = _Failing(since, now, reason)

    def seen(
        self, feeds: Mapping[int, Offsets], topics: Sequence[str], ends: Mapping[At, int], positions: Mapping[At, int],
        written: Mapping[At, Written] | None = None,
    ) -> None:  # fmt: skip
        """One look: where topics end for readers of committed records, where each is read on, and what the brokers told beside records."""
        if self._joined:
            self._away = None
        now = self._looked_at = self._now_s()
        for number, feed in feeds.items():
            if feed.begun:
                self._starting.pop(number, None)
            for topic in topics:
                at = (topic, number)
                if at in ends:
                    self._look(at, feed, ends[at], positions.get(at), now)
                if written is not None and at in written:
                    self._look_behind(at, written[at], now)
        self._started_once = self._started_once or not self._starting

    def readiness(self) -> Readiness:
        """Ready while all moves on; names the first partition that does not."""
        now = self._now_s()
        self._show(now)
        problem = self._problem(now)
        return READY if problem is None else Readiness(ready=False, reason=problem)

    def _problem(self, now: float) -> str | None:
        limit = self._stalled_s
        if self._away is not None and (not self._started_once or now - self._away_since > limit):
            return self._away
        waiting = sorted(number for number, since in self._starting.items() if not self._started_once or now - since > limit)
        failing = sorted(
            number for number, state in self._failing.items()
            if now - state.last < _APART_S and (now - state.since > limit or number in waiting)
        )  # fmt: skip
        if failing:
            return f"partition {failing[0]} fails: {self._failing[failing[0]].reason}"
        if waiting:
            return f"partition {waiting[0]} is starting"
        if stuck := sorted(at for at, state in self._states.items() if _longer(state.stuck_since, limit, now)):
            return f"no progress in {stuck[0][0]}-{stuck[0][1]}"
        if held := sorted(at for at, state in self._states.items() if state.held_s > limit):
            return f"an open transaction hides what follows in {held[0][0]}-{held[0][1]}"
        # Last: whatever was seen before the brokers fell silent says more.
        return "the brokers have not answered" if now - self._looked_at > limit else None

    def _look(self, at: At, feed: Offsets, end: int, position: int | None, now: float) -> None:
        state = self._states.setdefault(at, _State())
        topic = at[0]
        open_records = max(0, feed.handed.get(topic, 0) - feed.done.get(topic, 0)) if topic in feed.handed else 0
        unread = 0 if position is None else max(0, end - position)
        # What sleeps has nothing to do until its time; after that it is as late as everything else.
        due = unread if now >= feed.asleep.get(topic, now) else 0
        done, read = feed.done.get(topic, -1), -1 if position is None else position
        # While anything is open only its end counts: whoever goes on reading behind a record that never ends does not move on. An owner
        # that begins again further back has not moved either, until it is further than ever.
        moved = done > state.done or (not open_records and read > state.position)
        state.done, state.position = max(done, state.done), max(read, state.position)
        if moved or not (open_records or due):
            state.stuck_since = None
        elif state.stuck_since is None:
            state.stuck_since = now
        self._gauge("kite_consumer_lag", at, open_records + unread)

    def _look_behind(self, at: At, written: Written, now: float) -> None:
        """Readers of committed records see nothing behind an open transaction, and no lag either."""
        state = self._states.setdefault(at, _State())
        if written.told == state.told:
            return  # nothing was asked meanwhile: old numbers prove nothing
        state.told = written.told
        if written.stable != state.stable or written.stable >= written.end:
            state.stable, state.held_since = written.stable, None
        elif state.held_since is None:
            state.held_since = now
        state.held_s = 0.0 if state.held_since is None else now - state.held_since

    def _show(self, now: float) -> None:
        """As it is now: a look that never returns must not leave the last numbers standing."""
        for at, state in self._states.items():
            stuck_s = 0.0 if state.stuck_since is None else now - state.stuck_since
            self._gauge("kite_consumer_stalled_seconds", at, max(stuck_s, state.held_s))
        if self._metrics is not None:
            self._metrics.gauge("kite_consumer_look_age_seconds").labels(group=self._group).set(now - self._looked_at)

    def _gauge(self, name: str, at: At, value: float) -> None:
        if self._metrics is not None:
            self._metrics.gauge(name).labels(group=self._group, topic=at[0], partition=str(at[1])).set(value)


def _longer(since: float | None, limit_s: float, now: float) -> bool:
    return since is not None and now - since > limit_s
