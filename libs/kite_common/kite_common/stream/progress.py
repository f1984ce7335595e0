"""Whether a group member moves on: what its owners have done against where the topics end, over time. Asks nobody but the clock."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import monotonic_s

# Work that waits this long without any progress makes the member not ready (architecture: red within 30 s).
_STALLED_S: Final = 20.0
# Failures further apart than this are not one long failure.
_APART_S: Final = 30.0

At = tuple[str, int]


class Offsets(Protocol):
    """What is looked at of a `Feed`: next offsets by topic, and the topics that are being read."""

    handed: dict[str, int]
    done: dict[str, int]
    resumed: set[str]


@dataclass(slots=True)
class _State:
    """How far one topic's partition is, and since when it has not moved although there is work."""

    mark: tuple[int, int] = (-1, -1)
    stuck_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Failing:
    """An owner that raises again and again: since when, when last, and what."""

    since: float
    last: float
    reason: str


class Progress:
    """Fed once a second by the group; asked by readiness."""

    def __init__(self, group: str, metrics: Metrics | None, now_s: Callable[[], float] = monotonic_s) -> None:
        self._group, self._metrics, self._now_s = group, metrics, now_s
        self._states: dict[At, _State] = {}
        self._starting: dict[int, float] = {}
        self._failing: dict[int, _Failing] = {}
        self._started_once = self._joined = False
        self._away: str | None = "not a member yet"
        self._away_since = self._now_s()

    def assigned(self, partitions: Iterable[int]) -> None:
        """These partitions are ours from now on."""
        self._starting |= dict.fromkeys(partitions, self._now_s())
        self._away, self._joined = None, True

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

    def seen(self, feeds: Mapping[int, Offsets], topics: Sequence[str], ends: Mapping[At, int], positions: Mapping[At, int]) -> None:
        """One look: where topics end, and where each running topic is read on."""
        if self._joined:
            self._away = None
        now = self._now_s()
        for number, feed in feeds.items():
            if feed.resumed:
                self._starting.pop(number, None)
            for topic in topics:
                at = (topic, number)
                if at in ends:
                    self._look(at, feed, ends[at], positions.get(at), now)
        self._started_once = self._started_once or not self._starting

    def readiness(self) -> Readiness:
        """Ready while all moves on; names the first partition that does not."""
        now = self._now_s()
        if self._away is not None and (not self._started_once or now - self._away_since > _STALLED_S):
            return Readiness(ready=False, reason=self._away)
        waiting = sorted(number for number, since in self._starting.items() if not self._started_once or now - since > _STALLED_S)
        failing = sorted(
            number for number, state in self._failing.items()
            if now - state.last < _APART_S and (now - state.since > _STALLED_S or number in waiting)
        )  # fmt: skip
        if failing:
            return Readiness(ready=False, reason=f"partition {failing[0]} fails: {self._failing[failing[0]].reason}")
        if waiting:
            return Readiness(ready=False, reason=f"partition {waiting[0]} is starting")
        stuck = sorted(at for at, state in self._states.items() if state.stuck_since is not None and now - state.stuck_since > _STALLED_S)
        if stuck:
            return Readiness(ready=False, reason=f"no progress in {stuck[0][0]}-{stuck[0][1]}")
        return READY

    def _look(self, at: At, feed: Offsets, end: int, position: int | None, now: float) -> None:
        state = self._states.setdefault(at, _State())
        topic = at[0]
        open_records = max(0, feed.handed.get(topic, 0) - feed.done.get(topic, 0)) if topic in feed.handed else 0
        unread = 0 if position is None else max(0, end - position)
        mark = (feed.done.get(topic, -1), -1 if position is None else position)
        if mark != state.mark or not (open_records or unread):
            state.mark, state.stuck_since = mark, None
        elif state.stuck_since is None:
            state.stuck_since = now
        self._gauge("kite_consumer_lag", at, open_records + unread)
        self._gauge("kite_consumer_stalled_seconds", at, 0 if state.stuck_since is None else now - state.stuck_since)

    def _gauge(self, name: str, at: At, value: float) -> None:
        if self._metrics is not None:
            self._metrics.gauge(name).labels(group=self._group, topic=at[0], partition=str(at[1])).set(value)
