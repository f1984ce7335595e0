"""What a submission leads to, by the state of its key. Pure."""

from dataclasses import replace
from typing import Final

from kite_billing.domain.payments import outcomes
from kite_billing.domain.payments.case import Case
from kite_billing.domain.payments.events import CredentialsReleased, PaymentClaimed
from kite_billing.domain.payments.facts import Verify
from kite_billing.domain.payments.flight import Doing, Flight, is_idle, is_new
from kite_billing.domain.payments.rules import HELD_ID_MS, LATE_MS, RUNNING_OF_PAYER, RUNNING_OF_PROCESS
from kite_common.events.payment_record import Binding, PaymentRecord, Requirement
from kite_common.events.payments import Alternative, PaymentSubmitted
from kite_common.money import UNLIMITED
from kite_common.x402.precheck import RECIPIENT_MISMATCH, VALUE_MISMATCH

REVERSED: Final = "payment_reversed"
_NO_PLAN: Final = Alternative(status=404, code="plan_not_found")


def submitted(case: Case, submission: PaymentSubmitted, *, foreign: bool = False) -> None:
    """A caller shows a payment. `foreign`: another authorization under this key's idempotency id, so it gets this key's outcome."""
    if _is_late(case, submission) or case.flight.has(submission.submission_id):
        return
    if is_new(case.record, case.flight) and not foreign:
        if submission.if_new is not None:
            case.tell(outcomes.alternative(case.key, submission.submission_id, submission.if_new))
        else:
            start(case, submission)
        return
    _known(case, case.known(), submission, foreign)


def holds_id(record: PaymentRecord, flight: Flight | None, now: int) -> bool:
    """Whether a key holds its idempotency id, so that no other authorization under it is settled."""
    match record.state:
        case "claimed":
            return record.sent or (flight is not None and flight.is_running)
        case "rejected":
            return record.sent
        case "settling" | "unknown" | "settled":
            return True
        case "credited":
            return record.credit is not None and now <= record.credit.at + HELD_ID_MS
        case _:
            return False


def would_start(record: PaymentRecord | None, flight: Flight | None) -> bool:
    """Whether a submission of this key would set money in motion: only then does another key's idempotency id stand in its way."""
    return record is None or is_new(record, flight) or is_idle(record, flight)


def start(case: Case, submission: PaymentSubmitted) -> None:
    """Claim the key for this request, and ask the facilitator; or the chain, if the money seems to be there already."""
    reason = _unusable(case, submission)
    if reason is not None:
        case.tell(outcomes.refused(case.key, submission.submission_id, reason))
        return
    if _lacks_plan(case, submission):
        case.tell(outcomes.alternative(case.key, submission.submission_id, _NO_PLAN))
        return
    if not _may_start(case, submission):
        case.tell(outcomes.not_taken(case.key, submission.submission_id))
        return
    record = case.note(_claim(case, submission))
    case.breaker = case.breaker.ordered(case.key)
    seen = record.credited_to is not None or case.flight.seen
    doing: Doing = "check" if seen else "verify"
    case.flight = replace(case.flight, doing=doing, reason=None, answer=None, looks=0, since=0).with_waiter(submission)
    if seen:
        case.look()
    else:
        case.effects.append(Verify(case.key))


def answer_asking(case: Case) -> None:
    """The chain says that an idle key which was sent is unused: those who asked are judged, and the first who may starts again."""
    asking = [one for one in case.flight.asking if not _is_late(case, one)]
    case.be(asking=())
    for one in asking:
        if one.if_new is not None and is_idle(case.known(), case.flight):
            case.tell(outcomes.alternative(case.key, one.submission_id, one.if_new))
        elif is_idle(case.known(), case.flight):
            start(case, one)
        else:
            _join(case, case.known(), one)


def _known(case: Case, record: PaymentRecord, submission: PaymentSubmitted, foreign: bool) -> None:
    submission_id = submission.submission_id
    if record.state == "dead":
        case.tell(outcomes.refused(case.key, submission_id, record.reason or "", record))
    elif not _is_same(record, submission, foreign):
        case.tell(outcomes.conflict(record, submission_id, case.rules))
    elif record.state == "credited":
        _tell_credited(case, record, submission)
    elif record.closed is not None:
        case.tell(outcomes.refused(case.key, submission_id, REVERSED, record))
    elif is_idle(record, case.flight):
        case.be(asking=(*case.flight.asking, submission))
        case.look()
    else:
        _join(case, record, submission)


def _join(case: Case, record: PaymentRecord, submission: PaymentSubmitted) -> None:
    """Wait for what comes of it, with a look at the chain at once if nobody is at it."""
    is_bootstrap = record.binding is not None and record.binding.purpose == "bootstrap"
    if is_bootstrap and (record.state == "settling" or (record.state == "claimed" and case.flight.is_running)):
        case.tell(outcomes.in_progress(record, submission.submission_id))
        return
    case.flight = case.flight.with_waiter(submission)
    if record.state in ("settling", "unknown", "reversed") and not case.flight.is_running:
        case.look()


def _tell_credited(case: Case, record: PaymentRecord, submission: PaymentSubmitted) -> None:
    with_seal = outcomes.may_see_credentials(record, submission, case.now, case.rules)
    case.tell(outcomes.credited(record, submission.submission_id, case.now, case.rules, with_seal=with_seal))
    if with_seal and record.bootstrap is not None and not record.bootstrap.released:
        case.note(CredentialsReleased(case.now))


def _is_late(case: Case, submission: PaymentSubmitted) -> bool:
    """Whether its caller has surely given up: nobody would hear of what is started."""
    return case.now > submission.deadline + LATE_MS


def _is_same(record: PaymentRecord, submission: PaymentSubmitted, foreign: bool) -> bool:
    """Whether it is the same request, paid with the same authorization; under an idempotency id the authorization may be another."""
    binding = record.binding
    return (
        binding is not None
        and (binding.purpose, binding.fingerprint) == (submission.purpose, submission.fingerprint)
        and (foreign or record.authorization == submission.authorization)
    )


def _unusable(case: Case, submission: PaymentSubmitted) -> str | None:
    """What edges refuse already: nothing of it may get as far as a wallet."""
    if not 0 < int(submission.authorization.value) <= UNLIMITED:
        return VALUE_MISMATCH
    return None if submission.authorization.to_address in case.rules.recipients else RECIPIENT_MISMATCH


def _lacks_plan(case: Case, submission: PaymentSubmitted) -> bool:
    """Whether accounts would refuse to open the team: edges may have read other plans than we have."""
    plans, plan_id = case.rules.plans, submission.target.plan_id
    return submission.purpose == "bootstrap" and plans is not None and (plan_id or "").lower() not in plans


def _may_start(case: Case, submission: PaymentSubmitted) -> bool:
    context, breaker = case.context, case.breaker
    if not context.fit or (submission.purpose == "bootstrap" and case.rules.bootstrap is None):
        return False
    if not breaker.allows(case.key) or (breaker.is_open and context.unresolved and not breaker.wants_new(case.now)):
        # With nothing left to try it on, and from time to time, a new payment has to show whether the facilitator is well again.
        return False
    return context.running_of_payer < RUNNING_OF_PAYER and context.running_of_process < RUNNING_OF_PROCESS


def _claim(case: Case, submission: PaymentSubmitted) -> PaymentClaimed:
    rules, amount = case.rules, int(submission.authorization.value)
    return PaymentClaimed(
        at=case.now,
        binding=Binding(
            purpose=submission.purpose, fingerprint=submission.fingerprint, target=submission.target, amount_atomic=submission.amount_atomic
        ),
        authorization=submission.authorization,
        signature=submission.signature,
        x402_version=submission.x402_version,
        requirement=Requirement(
            network=rules.asset.network, asset=rules.asset.address, pay_to=submission.authorization.to_address, amount_atomic=amount,
            max_timeout_s=rules.max_timeout_s, name=rules.asset.name, version=rules.asset.version,
        ),
        head=case.context.head,
        quote_hash=submission.quote_hash,
        idempotency_hash=submission.idempotency_hash,
        idempotency_long=submission.idempotency_long,
    )  # fmt: skip
