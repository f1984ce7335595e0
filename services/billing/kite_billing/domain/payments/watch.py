"""Time at a payment key: when it wants to be looked at again, and what is done then. Pure."""

from typing import Final

from kite_billing.domain.payments.case import Case
from kite_billing.domain.payments.events import SealRemoved, WatchEnded
from kite_billing.domain.payments.flight import Flight, is_idle
from kite_billing.domain.payments.rules import KEPT_AFTER_WINDOW_MS, LATE_MS, SEEN_AGAIN_MS, Rules, next_look, window_end_ms
from kite_common.events.payment_record import PaymentRecord

_IDLE_EVERY_MS: Final = 60_000
# Until a block of that time exists nothing can be said.
_AFTER_WINDOW_MS: Final = 1_000
_NOBODY: Final = Flight()


def next_wake(record: PaymentRecord | None, flight: Flight | None, now: int, rules: Rules) -> int | None:
    """When the key wants to be woken (milliseconds since 1970, may have passed); None = never, or as soon as a call of it ends."""
    if record is None:
        return None
    flight = flight or _NOBODY
    times = [_waiters_end(flight), _seal_end(record, rules), deletion_at(record)]
    if not flight.is_running:
        times.append(_look_at(record, flight, now))
    return min((time for time in times if time is not None), default=None)


def deletion_at(record: PaymentRecord) -> int | None:
    """When a record that no money ever came of is forgotten; its authorization is long over then."""
    never_paid = record.state == "dead" or (record.state == "rejected" and not record.sent)
    end = window_end_ms(record)
    return end + KEPT_AFTER_WINDOW_MS if never_paid and record.credited_to is None and end is not None else None


def due(case: Case) -> None:
    """The time has come."""
    record, flight, now = case.known(), case.flight, case.now
    gone_at, seal_end = deletion_at(record), _seal_end(record, case.rules)
    if gone_at is not None and now >= gone_at:
        case.removed = True
        return
    waiters = tuple(one for one in flight.waiters if now <= one.deadline + LATE_MS)
    case.be(waiters=waiters, unclear_since=flight.unclear_since if waiters else 0)
    if seal_end is not None and now >= seal_end:
        case.note(SealRemoved(now))
    look_at = _look_at(record, flight, now)
    if look_at is not None and now >= look_at and not flight.is_running:
        case.be(since=flight.since or now, looks=flight.looks + 1)
        case.look()


def hash_changed(case: Case) -> None:
    """The block of the transfer is another one: ask the chain where the transfer is."""
    if case.known().state in ("credited", "observed"):
        case.look()


def deep_enough(case: Case) -> None:
    """Nobody looks any more, and the signature goes."""
    record = case.known()
    if record.state in ("credited", "observed") and not record.deep:
        case.note(WatchEnded(case.now))


def is_watched(record: PaymentRecord) -> bool:
    """Whether the block of the record's transfer has to be compared from time to time."""
    return record.state in ("credited", "observed") and record.place is not None and not record.deep


def _look_at(record: PaymentRecord, flight: Flight, now: int) -> int | None:
    """When the chain is to be asked again about a key that is at rest."""
    if record.state in ("settling", "unknown") or (record.state == "reversed" and record.closed is None):
        return next_look(flight.since, flight.looks) if flight.since else now
    if not is_idle(record, flight):
        return None
    if flight.seen:
        return flight.since + (flight.looks + 1) * SEEN_AGAIN_MS if flight.since else now
    if flight.since:
        return flight.since + flight.looks * _IDLE_EVERY_MS
    end = window_end_ms(record)
    return None if end is None else end + _AFTER_WINDOW_MS


def _waiters_end(flight: Flight) -> int | None:
    return min((one.deadline + LATE_MS + 1 for one in flight.waiters), default=None)


def _seal_end(record: PaymentRecord, rules: Rules) -> int | None:
    if record.bootstrap is None or record.bootstrap.seal is None or record.credit is None or record.state != "credited":
        return None
    return record.credit.at + rules.credential_window_s * 1_000 + 1
