"""What an event makes of a payment's record. Pure and total for the events `decide` makes; decides nothing."""

from typing import Any, Final, assert_never

from kite_billing.domain.payments.events import (
    CredentialsReleased,
    LandingEnded,
    Moved,
    PaymentAssigned,
    PaymentClaimed,
    PaymentCredited,
    PaymentDead,
    PaymentEvent,
    PaymentObserved,
    PaymentRejected,
    PaymentReversed,
    PaymentSettled,
    PaymentSettling,
    PaymentUnknown,
    ResultStored,
    SealRemoved,
    WatchEnded,
    told,
)
from kite_common.events.payment_record import CallEnd, LastCall, PastStep, PaymentRecord

KEPT_STEPS: Final = 30


def evolve(record: PaymentRecord | None, event: PaymentEvent, key: str) -> PaymentRecord:
    """The record after an event. Raises ValueError if anything but a claim or an observation comes first."""
    if record is None:
        record = _first(event, key)
    name, why = told(event)
    changes: dict[str, Any] = _changes(record, event)
    history = (*record.history, PastStep(event=name, at=event.at, why=why))[-KEPT_STEPS:]
    return record.model_copy(update=changes | {"steps": record.steps + 1, "history": history})


def _first(event: PaymentEvent, key: str) -> PaymentRecord:
    if isinstance(event, PaymentClaimed):
        authorization = event.authorization
        return PaymentRecord(
            payment_key=key, state="claimed", payer=authorization.from_address, value=authorization.value, claim_block=event.head
        )
    if isinstance(event, PaymentObserved):
        return PaymentRecord(payment_key=key, state="observed", payer=event.payer, value=event.value, claim_block=event.place.block)
    raise ValueError("a payment begins with a claim or an observation")


def _changes(record: PaymentRecord, event: PaymentEvent) -> dict[str, Any]:
    match event:
        case PaymentClaimed():
            return _claimed(record, event)
        case PaymentSettling():
            attempts = record.attempts + 1
            return {"state": "settling", "sent": True, "attempts": attempts, "last_call": LastCall(began_at=event.at), "reason": None}
        case PaymentSettled():
            return {
                "state": "settled", "place": event.place, "command_seq": event.command_seq, "credited_to": event.credited_to,
                "closed": None, "reason": None, "bootstrap": event.bootstrap or record.bootstrap, "paid_to": None,
                "last_call": _ended(record, event.end, event.at),
            }  # fmt: skip
        case PaymentCredited():
            return {"state": "credited", "credit": event.credit} | _released(record, event.released)
        case PaymentRejected():
            hint = event.transaction or record.hint
            return {"state": "rejected", "reason": event.reason, "hint": hint, "last_call": _ended(record, event.end, event.at)}
        case PaymentUnknown():
            hint, call = event.transaction or record.hint, _ended(record, event.end, event.at, event.transaction)
            return {"state": "unknown", "reason": event.why, "hint": hint, "last_call": call}
        case PaymentDead():
            return {"state": "dead", "reason": event.reason, "signature": None}
        case PaymentReversed() | PaymentObserved() | PaymentAssigned():
            return _put_elsewhere(event)
        case _:
            return _noted(record, event)


def _put_elsewhere(event: PaymentReversed | PaymentObserved | PaymentAssigned) -> dict[str, Any]:
    """Money goes into another account, or into none, without a caller's doing."""
    match event:
        case PaymentReversed():
            return {"state": "reversed", "command_seq": event.command_seq, "credited_to": None, "reason": event.why}
        case PaymentObserved():
            return {
                "state": "observed", "place": event.place, "command_seq": event.command_seq, "credited_to": event.credited_to,
                "reason": None, "closed": None, "value": event.value, "paid_to": event.paid_to,
            }  # fmt: skip
        case PaymentAssigned():
            return {"state": "settled", "command_seq": event.command_seq, "credited_to": event.team_id}


def _noted(
    record: PaymentRecord, event: Moved | ResultStored | CredentialsReleased | SealRemoved | WatchEnded | LandingEnded
) -> dict[str, Any]:
    match event:
        case Moved():
            return {"place": event.place}
        case ResultStored():
            return {"stored_status": event.status, "stored_body": event.body}
        case CredentialsReleased():
            return _released(record, True)
        case SealRemoved():
            return {"bootstrap": None if record.bootstrap is None else record.bootstrap.model_copy(update={"seal": None})}
        case WatchEnded():
            return {"deep": True, "signature": None}
        case LandingEnded():
            return {"closed": event.reason, "signature": None}
        case _:
            assert_never(event)


def _claimed(record: PaymentRecord, event: PaymentClaimed) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "state": "claimed", "signature": event.signature, "x402_version": event.x402_version, "reason": None, "hint": record.hint,
        "payer": event.authorization.from_address,
    }  # fmt: skip
    if record.sent and record.binding is not None:
        # What was sent stays what it is: only the work on it starts again, also for another authorization under its idempotency id.
        return changes if event.authorization == record.authorization else {"state": "claimed", "reason": None}
    return changes | {
        "binding": event.binding, "authorization": event.authorization, "requirement": event.requirement,
        "value": record.value if record.credited_to is not None else event.authorization.value,
        "quote_hash": event.quote_hash, "idempotency_hash": event.idempotency_hash, "idempotency_long": event.idempotency_long,
    }  # fmt: skip


def _ended(record: PaymentRecord, end: CallEnd | None, at: int, transaction: str | None = None) -> LastCall | None:
    """The last call with its end, and what it named, if it was open and one is known."""
    call = record.last_call
    if call is None or end is None or end == "open":
        return call
    return call.model_copy(update={"end": end, "ended_at": at, "transaction": transaction})


def _released(record: PaymentRecord, released: bool) -> dict[str, Any]:
    if not released or record.bootstrap is None:
        return {}
    return {"bootstrap": record.bootstrap.model_copy(update={"released": True})}
