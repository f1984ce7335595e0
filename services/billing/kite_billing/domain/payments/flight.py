"""What the owner of a payment key is at with it: in memory only, gone with the process. Pure values."""

from dataclasses import dataclass, replace
from typing import Literal

from kite_billing.domain.payments.facts import SettleAnswer
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import PaymentSubmitted

# rest: nothing but looks at the chain, now and then.
Doing = Literal["verify", "check", "settle", "prove", "rest"]


@dataclass(frozen=True, slots=True)
class Flight:
    """Work on one key. At most one call and one look are under way.

    `check`: the facilitator would not settle, for `reason`, or the money may be there already (None); the chain is asked first. `prove`:
    the settle call has ended with `answer`. `waiters`: submissions that wait for what comes of it; `asking`: those that are judged once
    the chain has been read. `since`, `looks`: when the reconciler began, and how often it has looked. `seen`: the scanner saw the transfer.
    `unclear_since`: when it became unclear first while the present waiters wait, 0 = it has not. `unproven`: the last call named a
    transaction which the look after it has not found; whether that counts against the facilitator a later look says.
    """

    doing: Doing = "rest"
    waiters: tuple[PaymentSubmitted, ...] = ()
    asking: tuple[PaymentSubmitted, ...] = ()
    reason: str | None = None
    answer: SettleAnswer | None = None
    looking: bool = False
    since: int = 0
    looks: int = 0
    unclear_since: int = 0
    seen: bool = False
    unproven: bool = False

    @property
    def is_running(self) -> bool:
        """Whether a caller's payment is being verified, settled or proven right now."""
        return self.doing != "rest"

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.doing == "rest" and not (self.waiters or self.asking or self.looking or self.seen or self.since)

    def with_waiter(self, submission: PaymentSubmitted) -> "Flight":
        """One more waiter; the same submission waits once."""
        return self if self.has(submission.submission_id) else replace(self, waiters=(*self.waiters, submission))

    def has(self, submission_id: str) -> bool:
        """Whether this submission waits here already."""
        return any(one.submission_id == submission_id for one in (*self.waiters, *self.asking))


def is_idle(record: PaymentRecord, flight: Flight | None) -> bool:
    """Whether a key that was claimed or refused is worked on by nobody."""
    return record.state in ("claimed", "rejected") and (flight is None or not flight.is_running)


def is_new(record: PaymentRecord | None, flight: Flight | None) -> bool:
    """Whether nobody's request is bound to the key so that it holds: unknown, observed, or idle and never sent."""
    if record is None or record.state == "observed" or (record.state == "reversed" and record.binding is None):
        return True
    return is_idle(record, flight) and not record.sent
