"""When a child that ended is started again, and when that is given up. Pure: runs in, decision out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a child, times in seconds on one clock. `ready_at` is None if it never became ready."""

    started_at: float
    ended_at: float
    ready_at: float | None


@dataclass(frozen=True, slots=True)
class RestartAfter:
    """Start the child again after a pause."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it: starting again would not help."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Bounds of the back-off.

    A child that was killed while it worked comes back at once, again and again: faults from outside are no reason to
    give up. One that ends before it is ready, or right after, is slowed down and soon given up, since its cause stays.
    """

    first_delay_s: float = 0.1
    max_delay_s: float = 5.0
    settled_after_s: float = 2.0  # ready for this long: it worked, what ended it came from outside
    max_failed_starts: int = 4
    max_failing_s: float = 60.0  # in total, for starts that neither end nor become ready
    max_ends: int = 60  # one per second would be a loop even if each life was ready for a moment
    window_s: float = 60.0

    def after(self, runs: Sequence[Run]) -> RestartAfter | GiveUp:
        """Decide what follows the last of `runs`, which are in order and all ended. Needs at least one."""
        failed_starts = _trailing(runs, lambda run: run.ready_at is None)
        failing_s = sum(run.ended_at - run.started_at for run in runs[len(runs) - failed_starts :])
        if failed_starts >= self.max_failed_starts or failing_s >= self.max_failing_s:
            return GiveUp(f"did not become ready in {failed_starts} starts within {failing_s:.0f} s")
        recent = sum(run.ended_at > runs[-1].ended_at - self.window_s for run in runs)
        if recent >= self.max_ends:
            return GiveUp(f"ended {recent} times within {self.window_s:.0f} s")
        unsettled = _trailing(runs, lambda run: not self._settled(run))
        return RestartAfter(min(self.max_delay_s, self.first_delay_s * 2 ** max(0, unsettled - 1)))

    def _settled(self, run: Run) -> bool:
        return run.ready_at is not None and run.ended_at - run.ready_at >= self.settled_after_s


def _trailing(runs: Sequence[Run], is_counted: Callable[[Run], bool]) -> int:
    count = 0
    for run in reversed(runs):
        if not is_counted(run):
            break
        count += 1
    return count
