"""What callers are told: outcomes of submissions, and who is given the credentials of a bootstrap. Pure."""

import hmac
from typing import Any, Final

from kite_billing.domain.payments.rules import STORED_RESULT_MS, Rules
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import CREDITED_BEFORE, Alternative, Bootstrapped, PaymentOutcome, PaymentPayer, PaymentSubmitted

_PAYMENT_REQUIRED: Final = 402
_CONFLICT: Final = 409


def alternative(key: str, submission_id: str, given: Alternative) -> PaymentOutcome:
    """What a key that is not known gets instead of being claimed."""
    if given.code == "not_needed":
        return PaymentOutcome(payment_key=key, submission_id=submission_id, result="not_needed")
    return PaymentOutcome(
        payment_key=key, submission_id=submission_id, result="refused", status=given.status, code=given.code, reason=given.reason
    )


def refused(key: str, submission_id: str, reason: str, record: PaymentRecord | None = None) -> PaymentOutcome:
    """402 with a reason."""
    return PaymentOutcome(
        payment_key=key, submission_id=submission_id, result="refused", status=_PAYMENT_REQUIRED, code="invalid_payment", reason=reason,
        after_settle=record is not None and record.sent, transaction=None if record is None else transaction_of(record),
    )  # fmt: skip


def not_taken(key: str, submission_id: str) -> PaymentOutcome:
    """Nothing was tried and nothing has moved: the same payment may come again."""
    return PaymentOutcome(payment_key=key, submission_id=submission_id, result="not_taken")


def pending(record: PaymentRecord, submission_id: str) -> PaymentOutcome:
    """The money may have moved."""
    return PaymentOutcome(
        payment_key=record.payment_key, submission_id=submission_id, result="pending", transaction=transaction_of(record),
        after_settle=record.sent,
    )  # fmt: skip


def in_progress(record: PaymentRecord, submission_id: str) -> PaymentOutcome:
    """A bootstrap is being settled."""
    return PaymentOutcome(payment_key=record.payment_key, submission_id=submission_id, result="in_progress")


def conflict(record: PaymentRecord, submission_id: str, rules: Rules, code: str = "payment_already_used") -> PaymentOutcome:
    """The payment, or the idempotency id, belongs to another request."""
    return PaymentOutcome(
        payment_key=record.payment_key, submission_id=submission_id, result="conflict", status=_CONFLICT, code=code,
        transaction=transaction_of(record), after_settle=record.sent, paid=_paid(record, rules),
    )  # fmt: skip


def credited(record: PaymentRecord, submission_id: str, now: int, rules: Rules, *, with_seal: bool) -> PaymentOutcome:
    """The money is in the wallet; with the stored result, if there is one.

    A top-up whose work was never answered can be repeated for a day; later its caller is told that the wallet has it.
    """
    result, binding = record.credit, record.binding
    if result is None or binding is None:
        return pending(record, submission_id)
    if binding.purpose == "topup" and record.stored_status is None and now > result.at + STORED_RESULT_MS:
        return conflict(record, submission_id, rules).model_copy(update={"reason": CREDITED_BEFORE})
    return PaymentOutcome(
        payment_key=record.payment_key, submission_id=submission_id, result="credited", transaction=transaction_of(record),
        after_settle=record.sent, paid=_paid(record, rules), credited_at=result.at, team_id=result.team_id,
        balance_after_atomic=result.balance_after_atomic, applied=result.applied, applied_partition=result.partition,
        amount_atomic=int(record.value), target=binding.target, bootstrapped=_bootstrapped(record, with_seal),
        stored_status=record.stored_status, stored_body=record.stored_body,
    )  # fmt: skip


def may_see_credentials(record: PaymentRecord, submission: PaymentSubmitted, now: int, rules: Rules) -> bool:
    """Whether a caller of a bootstrap shows what only its first caller can know, inside of the window.

    Once it is mined anybody can rebuild the header, so the header alone shows nothing.
    """
    if record.bootstrap is None or record.bootstrap.seal is None or record.credit is None:
        return False
    if not record.bootstrap.released:
        return may_be_first(record, submission, now)
    return now <= record.credit.at + rules.credential_window_s * 1_000 and _shows_secret(record, submission)


def may_be_first(record: PaymentRecord, submission: PaymentSubmitted, now: int) -> bool:
    """Whether a caller may be the first to have a bootstrap's credentials: one that still waits, and shows what the claim came with.

    A claim that came with neither quote nor long idempotency id has nothing that could be shown: its first outcome of all has them.
    """
    has_secret = record.quote_hash is not None or (record.idempotency_long and record.idempotency_hash is not None)
    return now <= submission.deadline and (_shows_secret(record, submission) or not has_secret)


def transaction_of(record: PaymentRecord) -> str | None:
    """The proven transaction, else the one the facilitator named."""
    return record.place.transaction if record.place is not None else record.hint


def _shows_secret(record: PaymentRecord, submission: PaymentSubmitted) -> bool:
    by_quote = _equal(record.quote_hash, submission.quote_hash)
    by_id = record.idempotency_long and _equal(record.idempotency_hash, submission.idempotency_hash)
    return by_quote or by_id


def _equal(kept: str | None, shown: str | None) -> bool:
    return kept is not None and shown is not None and hmac.compare_digest(kept.encode(), shown.encode())


def _paid(record: PaymentRecord, rules: Rules) -> PaymentPayer | None:
    if record.place is None or record.state not in ("settled", "credited"):
        return None
    return PaymentPayer(
        transaction=record.place.transaction, network=rules.asset.network, payer=record.payer, amount_atomic=int(record.value)
    )


def _bootstrapped(record: PaymentRecord, with_seal: bool) -> Bootstrapped | None:
    part = record.bootstrap
    if part is None:
        return None
    fields: dict[str, Any] = {"team_id": part.team_id, "source": part.source, "plan_id": part.plan_id}
    return Bootstrapped(**fields, seal=part.seal if with_seal else None)
