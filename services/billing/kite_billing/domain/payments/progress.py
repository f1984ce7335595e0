"""What answers of the facilitator and evidence of the chain lead to. Pure. Unclear is never "failed"; only the chain ends what was sent."""

from typing import Final

from kite_billing.domain.payments import outcomes
from kite_billing.domain.payments.case import Case
from kite_billing.domain.payments.credit import Order, bootstrap, credit, reversal, team_of_binding
from kite_billing.domain.payments.events import (
    LandingEnded,
    Moved,
    PaymentDead,
    PaymentObserved,
    PaymentRejected,
    PaymentReversed,
    PaymentSettled,
    PaymentSettling,
    PaymentUnknown,
)
from kite_billing.domain.payments.facts import (
    Closed,
    Evidence,
    EvidenceRead,
    Invalid,
    NoAnswer,
    NotYet,
    Open,
    Paid,
    Refused,
    Settle,
    SettleAnswer,
    SettleEnded,
    Stray,
    Success,
    Unclear,
    Unreadable,
    Valid,
    Verified,
    Verify,
)
from kite_billing.domain.payments.flight import is_idle
from kite_billing.domain.payments.rules import WAITERS_STAY_MS, may_settle_again, paid_to, window_end_ms
from kite_billing.domain.payments.submission import REVERSED, answer_asking
from kite_common.events.payment_record import BootstrapPart, CallEnd, PaymentRecord, Place
from kite_common.ids import UNATTRIBUTED
from kite_common.money import UNLIMITED

_NONCE_USED: Final = "invalid_exact_evm_nonce_already_used"
USED_ELSEWHERE: Final = "authorization_used_elsewhere"
UNPROVEN: Final = "facilitator_unproven"
INTERRUPTED: Final = "interrupted"
REVERTED: Final = "transaction_failed"


def verified(case: Case, fact: Verified) -> None:
    """The facilitator has judged the payment, or not."""
    if case.flight.doing != "verify" or case.known().state != "claimed":
        return
    match fact.answer:
        case Valid():
            _settle(case)
            case.breaker = case.breaker.tried_new(case.now)
        case Invalid(reason):
            # Somebody may have submitted the authorization before us.
            case.be(doing="check", reason=reason)
            case.look()
        case NoAnswer():
            _not_taken(case)


def settle_ended(case: Case, fact: SettleEnded) -> None:
    """Whatever the facilitator says, the chain is asked."""
    if case.flight.doing != "settle" or case.known().state != "settling":
        return
    case.be(doing="prove", answer=fact.answer)
    case.look(_hint_of(fact.answer))


def evidence_read(case: Case, fact: EvidenceRead) -> None:
    """The chain has been read."""
    case.be(looking=False)
    if case.record is None:
        return
    match fact.evidence:
        case Paid(place):
            _paid(case, place)
        case Closed():
            _closed(case, fact.evidence, fact)
        case Open(reverted):
            _open(case, fact, reverted)
        case NotYet() | Unreadable():
            _unclear(case, fact.evidence)


def _paid(case: Case, place: Place) -> None:
    record = case.known()
    match record.state:
        case "settled" | "credited" | "observed":
            if record.place != place:
                case.note(Moved(case.now, place))
        case "reversed" if record.binding is None:
            observe(case, record.payer, record.value, place, paid_to(record, case.rules))
        case _:
            _settled(case, record, place)
    case.be(seen=False, looks=0, since=0)


def _settled(case: Case, record: PaymentRecord, place: Place) -> None:
    """Proven: the credit is ordered in the same transaction. Who waits goes on waiting, for the ledger."""
    if record.binding is None or (_is_first_bootstrap(record) and case.rules.bootstrap is None):
        _unclear(case, Unreadable("bootstrap_unconfigured"))
        return
    orders: list[Order] = []
    seq, team_id = record.command_seq, team_of_binding(case.key, record.binding)
    if record.credited_to is not None:
        seq += 1
        orders.append(reversal(record, record.credited_to, seq, case.now, case.rules))
    seq += 1
    part: BootstrapPart | None = None
    if _is_first_bootstrap(record) and case.rules.bootstrap is not None:
        part, opened = bootstrap(record, place, seq, case.now, case.rules, case.rules.bootstrap, case.context.draw)
        orders += opened
    else:
        orders.append(credit(record, place, team_id, seq, case.now, case.rules))
    end = _end_of(case.flight.answer) if case.flight.doing == "prove" else None
    case.note(PaymentSettled(case.now, place, seq, team_id, part, end), *orders)
    # What others have submitted says nothing of the facilitator.
    case.breaker = case.breaker.proven() if record.sent else case.breaker.dropped(case.key)
    case.be(doing="rest", answer=None, reason=None, waiters=(*case.flight.waiters, *case.flight.asking), asking=())


def observe(case: Case, payer: str, value: str, place: Place, to: str) -> None:
    """A transfer to an address of ours, `to`, that nobody's request asked for."""
    seq = 1 if case.record is None else case.record.command_seq + 1
    if int(value) > UNLIMITED:
        # No wallet holds so much: it is kept in sight, and credited by nobody.
        case.note(PaymentObserved(case.now, payer, value, place, seq - 1, None, to))
        return
    record = case.note(PaymentObserved(case.now, payer, value, place, seq, UNATTRIBUTED, to))
    case.orders.append(credit(record, place, UNATTRIBUTED, seq, case.now, case.rules))


def _closed(case: Case, closed: Closed, fact: EvidenceRead) -> None:
    record, reason = case.known(), closed.reason
    if record.state == "claimed" and record.credited_to is not None and reason != USED_ELSEWHERE:
        # Observed, then claimed: the money that waits unclaimed is not on the chain any more.
        _left_the_chain(case, record, fact.head)
        record = case.known()
    match record.state:
        case "credited" | "observed":
            _left_the_chain(case, record, fact.head)
        case "claimed" | "settling" | "unknown" | "rejected":
            _take_in(case, closed.stray)
            record = case.note(PaymentDead(case.now, reason))
            case.breaker = case.breaker.dropped(case.key)
            case.tell_waiters(lambda one: outcomes.refused(case.key, one.submission_id, reason, record))
            case.be(doing="rest", answer=None, reason=None, seen=False, looks=0, since=0)
        case "reversed" if record.closed is None:
            strayed = _take_in(case, closed.stray)
            if strayed and record.binding is None:
                return
            record = case.note(PaymentDead(case.now, reason) if strayed else LandingEnded(case.now, reason))
            case.tell_waiters(lambda one: outcomes.refused(case.key, one.submission_id, REVERSED, record))
        case _:
            pass


def _take_in(case: Case, stray: Stray | None) -> bool:
    """The nonce brought us other money than the request signed: it waits unclaimed, else no account would hold what the address has."""
    record = case.known()
    if stray is None or record.credited_to is not None:
        return False
    observe(case, record.payer, str(stray.value), stray.place, stray.paid_to)
    return True


def _open(case: Case, fact: EvidenceRead, reverted: tuple[str, ...]) -> None:
    record, flight = case.known(), case.flight
    match flight.doing:
        case "check" if flight.reason is None:
            # It seemed to be paid already, and is not (any more).
            if record.credited_to is None:
                _verify(case)
            else:
                _left_the_chain(case, record, fact.head)
                _not_taken(case)
        case "check":
            _reject(case, flight.reason or "", None)
        case "prove" if isinstance(flight.answer, Refused):
            case.breaker = case.breaker.clear(case.key)
            _reject(case, flight.answer.reason, "answered")
        case "prove" if _hint_of(flight.answer) in reverted:
            # The facilitator is well: what it sent was mined. Only the payment is not.
            case.breaker = case.breaker.clear(case.key)
            _reject(case, REVERTED, _end_of(flight.answer), _hint_of(flight.answer))
        case "prove":
            _unknown(case, flight.answer, fact.evidence)
        case "rest":
            _open_at_rest(case, record, fact, reverted)
        case _:
            pass


def _open_at_rest(case: Case, record: PaymentRecord, fact: EvidenceRead, reverted: tuple[str, ...]) -> None:
    if record.state in ("credited", "observed"):
        _left_the_chain(case, record, fact.head)
    elif is_idle(record, case.flight):
        case.be(seen=False)
        end = window_end_ms(record)
        if end is not None and case.now < end:
            # Unused, and its window is open: the next look is due when that is over.
            case.be(since=0, looks=0)
        answer_asking(case)
    elif record.state == "unknown" and record.last_call is not None and record.last_call.transaction in reverted:
        # Mined after its answer, or seen late. A facilitator's transactions are mined in order, so what earlier calls sent is over, too.
        case.breaker = case.breaker.clear(case.key)
        _reject(case, REVERTED, None)
    elif record.state in ("settling", "unknown", "reversed"):
        again = case.context.fit and case.breaker.allows(case.key) and may_settle_again(record, case.now, case.rules)
        if again or case.now >= case.flight.since + WAITERS_STAY_MS:
            _count_unproven(case, record)
        if again:
            _settle(case)
        else:
            _still_unknown(case, record)


def _unclear(case: Case, evidence: Evidence) -> None:
    record, flight = case.known(), case.flight
    match flight.doing:
        case "check" if flight.reason in (None, _NONCE_USED) or isinstance(evidence, NotYet):
            _not_taken(case)
        case "check":
            _reject(case, flight.reason or "", None)
        case "prove":
            _unknown(case, flight.answer, evidence)
        case "rest" if record.state in ("settling", "unknown", "reversed"):
            _still_unknown(case, record)
        case "rest" if is_idle(record, flight):
            asking = case.flight.asking
            case.be(asking=(), seen=flight.seen or isinstance(evidence, NotYet))
            for one in asking:
                case.tell(outcomes.pending(record, one.submission_id))
        case _:
            pass


def _verify(case: Case) -> None:
    case.be(doing="verify", reason=None)
    case.effects.append(Verify(case.key))


def _settle(case: Case) -> None:
    case.note(PaymentSettling(case.now))
    case.breaker = case.breaker.ordered(case.key)
    case.be(doing="settle", reason=None, answer=None)
    case.effects.append(Settle(case.key))


def _reject(case: Case, reason: str, end: CallEnd | None, transaction: str | None = None) -> None:
    record = case.note(PaymentRejected(case.now, reason, end, transaction))
    case.breaker = case.breaker.dropped(case.key)
    case.tell_waiters(lambda one: outcomes.refused(case.key, one.submission_id, reason, record))
    case.be(doing="rest", answer=None, reason=None, looks=0, since=0)


def _not_taken(case: Case) -> None:
    """Nothing was tried; the key is idle."""
    case.breaker = case.breaker.dropped(case.key)
    case.tell_waiters(lambda one: outcomes.not_taken(case.key, one.submission_id))
    case.be(doing="rest", answer=None, reason=None)


def _unknown(case: Case, answer: SettleAnswer | None, evidence: Evidence) -> None:
    """After a settle call the chain has not said what came of it: waiters stay three seconds more, however often it is called meanwhile."""
    why, end, hint = _told_by(answer)
    record = case.note(PaymentUnknown(case.now, why, end, hint))
    # A node that is a block behind the facilitator's has not got the transaction yet, and nothing is wrong.
    unproven = hint is not None and isinstance(evidence, Open)
    if unproven:
        case.breaker = case.breaker.dropped(case.key)
    elif isinstance(answer, Unclear):
        case.breaker = case.breaker.unclear(case.key, case.now)
    else:
        case.breaker = case.breaker.clear(case.key)
    unclear_since = case.flight.unclear_since or case.now
    case.be(doing="rest", answer=None, reason=None, since=case.now, looks=0, unclear_since=unclear_since, unproven=unproven)
    _pending_if_due(case, record)


def _count_unproven(case: Case, record: PaymentRecord) -> None:
    """Seconds later the chain has still not got what the last call named: that counts, once."""
    if record.state == "unknown" and case.flight.unproven:
        case.be(unproven=False)
        case.breaker = case.breaker.unclear(case.key, case.now)
        if record.reason == UNPROVEN:
            case.alerts.append(UNPROVEN)


def _still_unknown(case: Case, record: PaymentRecord) -> None:
    if record.state == "settling":
        # Found at rest: whoever ordered the call is gone, and with it how it ended.
        record = case.note(PaymentUnknown(case.now, INTERRUPTED, "open"))
        case.be(since=case.now, looks=0)
    else:
        _pending_if_due(case, record)


def _pending_if_due(case: Case, record: PaymentRecord) -> None:
    if case.now >= (case.flight.unclear_since or case.flight.since) + WAITERS_STAY_MS:
        case.tell_waiters(lambda one: outcomes.pending(record, one.submission_id))


def _left_the_chain(case: Case, record: PaymentRecord, head: int) -> None:
    """The transfer is gone, and so much was built without it that it counts: the credit is taken back."""
    place, account = record.place, record.credited_to
    if place is None or account is None or head - (case.rules.depth(int(record.value)) - 1) < place.block:
        return
    seq = record.command_seq + 1
    order = reversal(record, account, seq, case.now, case.rules)
    case.note(PaymentReversed(case.now, seq, "reorg"), order)
    case.breaker = case.breaker.dropped(case.key)
    case.be(doing="rest", since=case.now, looks=0, reason=None)


def _is_first_bootstrap(record: PaymentRecord) -> bool:
    return record.binding is not None and record.binding.purpose == "bootstrap" and record.bootstrap is None


def _hint_of(answer: SettleAnswer | None) -> str | None:
    return answer.transaction if isinstance(answer, Success | Unclear) else None


def _end_of(answer: SettleAnswer | None) -> CallEnd:
    return answer.end if isinstance(answer, Unclear) else "answered"


def _told_by(answer: SettleAnswer | None) -> tuple[str, CallEnd, str | None]:
    match answer:
        case Unclear(why, end, transaction):
            return why, end, transaction
        case Success(transaction):
            return UNPROVEN, "answered", transaction
        case Refused(reason):
            return reason, "answered", None
        case None:
            return INTERRUPTED, "open", None
