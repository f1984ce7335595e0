"""When the next attempt is, if there is one. Never sleeps, draws no jitter."""

from dataclasses import dataclass
from typing import assert_never

from kite_delivery.domain.outcome import Delivered, Outcome, Permanent, Transient


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when. `waits_s[n]` follows attempt n + 1; each is stretched by up to `jitter`, never shortened.

    The default is the wire contract's, 10.2: ten attempts over 75.6 h to 90.7 h.
    """

    waits_s: tuple[float, ...] = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    jitter: float = 0.2
    retry_after_max_s: float = 86_400

    @property
    def max_attempts(self) -> int:
        """The first attempt and one after each wait."""
        return len(self.waits_s) + 1


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing follows: it is delivered."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next attempt may start at `due_ms`, milliseconds since 1970."""

    due_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No attempt follows; `reason` is a word for the record: attempts_exhausted, gone, blocked."""

    reason: str


NextStep = Done | RetryAt | GiveUp


def next_step(outcome: Outcome, attempt: int, policy: RetryPolicy, now_ms: int, jitter: float, scheduled_ms: int = 0) -> NextStep:
    """Decide what follows attempt number `attempt` that ended at `now_ms`. Same arguments, same answer; never blocks.

    `attempt` counts from 1, `jitter` lies in [0, 1). Our own wait counts from `scheduled_ms` if the attempt was made before that: what
    is tried early keeps its schedule. A Retry-After that is later than our own wait wins over it, but no later than
    `policy.retry_after_max_s` from now (RFC 9110, section 10.2.3). Raises ValueError if `attempt` is below 1.
    """
    if attempt < 1:
        raise ValueError("attempts count from 1")
    match outcome:
        case Delivered():
            return Done()
        case Permanent(reason):
            return GiveUp(reason)
        case Transient(not_before_ms):
            return _after_failure(attempt, policy, now_ms, jitter, not_before_ms, scheduled_ms)
        case _ as unreachable:
            assert_never(unreachable)


def may_come_early(outcome: Outcome, attempt: int, policy: RetryPolicy, *, was_early: bool) -> bool:
    """Whether the retry after attempt number `attempt` may be made before it is due, once its endpoint answers again.

    Not if the receiver asked for time, not twice in a row, and never the last: so ten failures still take the whole schedule.
    """
    return isinstance(outcome, Transient) and outcome.not_before_ms is None and attempt + 1 < policy.max_attempts and not was_early


def ends_ms(attempts: int, due_ms: int, policy: RetryPolicy, now_ms: int) -> int:
    """When a delivery ends that is held from now on and never let go: after what its schedule has left, at least its last wait.

    `attempts` were made, the next is due at `due_ms`. Never before the tenth attempt would have been.
    """
    left_s = max(sum(policy.waits_s[attempts:]), policy.waits_s[-1] if policy.waits_s else 0.0)
    return max(now_ms, due_ms) + round(left_s * 1000 * (1 + policy.jitter))


def _after_failure(
    attempt: int, policy: RetryPolicy, now_ms: int, jitter: float, not_before_ms: int | None, scheduled_ms: int
) -> NextStep:
    if attempt >= policy.max_attempts:
        return GiveUp("attempts_exhausted")
    own_ms = max(now_ms, scheduled_ms) + round(policy.waits_s[attempt - 1] * 1000 * (1 + policy.jitter * jitter))
    if not_before_ms is None:
        return RetryAt(own_ms)
    return RetryAt(max(own_ms, min(not_before_ms, now_ms + round(policy.retry_after_max_s * 1000))))
