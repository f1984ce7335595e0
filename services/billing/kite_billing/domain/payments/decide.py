"""One fact at one payment key -> events, effects, commands, outcomes. The way into the state machine. Pure."""

from dataclasses import dataclass
from typing import assert_never

from kite_billing.domain.payments import outcomes
from kite_billing.domain.payments.case import Case, Context, Decision
from kite_billing.domain.payments.credit import credit, reversal
from kite_billing.domain.payments.events import PaymentAssigned, PaymentCredited, PaymentDead, ResultStored
from kite_billing.domain.payments.facts import DeepEnough, Due, EvidenceRead, HashChanged, KeyFact, SettleEnded, Verified
from kite_billing.domain.payments.flight import Flight
from kite_billing.domain.payments.progress import USED_ELSEWHERE, evidence_read, observe, settle_ended, verified
from kite_billing.domain.payments.rules import Rules
from kite_billing.domain.payments.submission import submitted
from kite_billing.domain.payments.watch import deep_enough, due, hash_changed
from kite_common.events import payments as inbox
from kite_common.events.payment_record import CreditResult, PaymentRecord, Place
from kite_common.ids import UNATTRIBUTED


@dataclass(frozen=True, slots=True)
class ForeignSubmission:
    """A submission of another key that comes under the idempotency id this key holds."""

    submission: inbox.PaymentSubmitted


InboxFact = inbox.PaymentSubmitted | inbox.PaymentResult | inbox.CreditApplied | inbox.PaymentSeen | inbox.PaymentAssigned
Fact = InboxFact | ForeignSubmission | KeyFact


def decide(key: str, record: PaymentRecord | None, flight: Flight | None, fact: Fact, context: Context) -> Decision:
    """What the fact leads to. The same arguments give the same decision; a repeated fact moves no money."""
    case = Case(key, record, flight or Flight(), context, context.breaker)
    match fact:
        case inbox.PaymentSubmitted():
            submitted(case, fact)
        case ForeignSubmission():
            submitted(case, fact.submission, foreign=True)
        case inbox.PaymentSeen():
            _seen(case, fact)
        case _:
            if record is not None:
                _of_known(case, fact)
    return case.decision()


def _of_known(
    case: Case, fact: inbox.PaymentResult | inbox.CreditApplied | inbox.PaymentAssigned | KeyFact
) -> None:  # fmt: skip
    match fact:
        case Verified():
            verified(case, fact)
        case SettleEnded():
            settle_ended(case, fact)
        case EvidenceRead():
            evidence_read(case, fact)
        case Due():
            due(case)
        case HashChanged():
            hash_changed(case)
        case DeepEnough():
            deep_enough(case)
        case inbox.CreditApplied():
            _credit_applied(case, fact)
        case inbox.PaymentResult():
            _result(case, fact)
        case inbox.PaymentAssigned():
            _assigned(case, fact)
        case _:
            assert_never(fact)


def _seen(case: Case, fact: inbox.PaymentSeen) -> None:
    """The scanner's report: an unknown key is observed, a known one reads its evidence, until that is deep enough."""
    record = case.record
    place = Place(transaction=fact.transaction, block=fact.block, block_hash=fact.block_hash, log_index=fact.log_index)
    if record is None:
        observe(case, fact.payer, fact.value, place, fact.pay_to or case.rules.pay_to)
    elif _is_over(record) and _is_another(record, fact, case.rules):
        # Unused when its window ended, but the payer had signed twice under the nonce, and the other one was good for longer.
        observe(case, fact.payer, fact.value, place, fact.pay_to or case.rules.pay_to)
        case.note(PaymentDead(case.now, USED_ELSEWHERE))
    elif case.flight.is_running:
        case.be(seen=True)
    elif record.state not in ("settled", "credited", "observed") or (record.state != "settled" and record.place != place):
        case.be(seen=record.state in ("claimed", "rejected"), since=case.flight.since or case.now)
        case.look()


def _is_over(record: PaymentRecord) -> bool:
    """Whether nothing is expected of the key's authorization any more, and no account has money of it."""
    return record.credited_to is None and (record.state == "dead" or record.closed is not None)


def _is_another(record: PaymentRecord, fact: inbox.PaymentSeen, rules: Rules) -> bool:
    """Whether the transfer is not the one that the key's authorization signs."""
    signed = record.authorization
    return signed is not None and (int(fact.value), fact.pay_to or rules.pay_to) != (int(signed.value), signed.to_address)


def _credit_applied(case: Case, fact: inbox.CreditApplied) -> None:
    """The ledger has it: everybody who waits is told."""
    record = case.known()
    if record.state != "settled" or (fact.seq, fact.team_id) != (record.command_seq, record.credited_to):
        return
    result = CreditResult(
        at=case.now, team_id=fact.team_id, balance_after_atomic=fact.balance_after_atomic, applied=fact.applied, partition=fact.partition,
        refused=fact.refused,
    )  # fmt: skip
    sealed = record.bootstrap is not None and record.bootstrap.seal is not None and not record.bootstrap.released
    first = next((one for one in case.flight.waiters if outcomes.may_be_first(record, one, case.now)), None) if sealed else None
    credited = case.note(PaymentCredited(case.now, result, first is not None))
    case.tell_waiters(
        lambda one: outcomes.credited(
            credited, one.submission_id, case.now, case.rules,
            with_seal=one is first or outcomes.may_see_credentials(credited, one, case.now, case.rules),
        )  # fmt: skip
    )


def _result(case: Case, fact: inbox.PaymentResult) -> None:
    """What the work after the credit was answered with; the first one stays."""
    record = case.known()
    if record.credit is not None and record.stored_status is None and len(fact.body.encode()) <= inbox.LARGEST_RESULT_BYTES:
        case.note(ResultStored(case.now, fact.status, fact.body))


def _assigned(case: Case, fact: inbox.PaymentAssigned) -> None:
    """Unclaimed money goes to a team: out of where it waits, and in there, together."""
    record = case.known()
    if record.credited_to != UNATTRIBUTED or record.place is None or record.state not in ("observed", "dead") or case.flight.is_running:
        return
    seq = record.command_seq + 2
    orders = (
        reversal(record, UNATTRIBUTED, seq - 1, case.now, case.rules),
        credit(record, record.place, fact.team_id, seq, case.now, case.rules),
    )
    case.note(PaymentAssigned(case.now, fact.team_id, seq, fact.note), *orders)
