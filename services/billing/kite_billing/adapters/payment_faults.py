"""The points at which a test may let billing die while it is at a payment, all in one place; `kite_common.runtime.faults` does it.

Two for each event of the state machine: `deciding`, before its transaction (nothing of it is in the log), and `committed`, right after it
(all of it is, and nothing that it orders has begun). Beside them what is done between two steps.
"""

from collections.abc import Iterable
from typing import Final, get_args

from kite_billing.domain.payments.events import PaymentEvent, told
from kite_common.events.payment_record import StepName
from kite_common.runtime import faults

DECIDING: Final = "deciding"
COMMITTED: Final = "committed"

VERIFY_BEFORE: Final = "payment.verify.before"
VERIFY_ENDED: Final = "payment.verify.ended"
SETTLE_BEFORE: Final = "payment.settle.before"
SETTLE_ENDED: Final = "payment.settle.ended"
LOOK_ENDED: Final = "payment.look.ended"
SCAN_ENDED: Final = "payment.scan.ended"
OUTCOME_BEFORE: Final = "payment.outcome.before"
OUTCOME_TOLD: Final = "payment.outcome.told"
LEDGER_DECIDING: Final = "payment.ledger.deciding"
LEDGER_COMMITTED: Final = "payment.ledger.committed"

EVENTS: Final[tuple[str, ...]] = get_args(StepName)
TRANSITIONS: Final = tuple(f"payment.{event}.{when}" for event in EVENTS for when in (DECIDING, COMMITTED))
BETWEEN: Final = (
    VERIFY_BEFORE, VERIFY_ENDED, SETTLE_BEFORE, SETTLE_ENDED, LOOK_ENDED, SCAN_ENDED, OUTCOME_BEFORE, OUTCOME_TOLD, LEDGER_DECIDING,
    LEDGER_COMMITTED,
)  # fmt: skip
POINTS: Final = TRANSITIONS + BETWEEN


def transitions_reached(events: Iterable[PaymentEvent], when: str) -> None:
    """Die here if one of these events was named with this moment."""
    for event in events:
        faults.reached(f"payment.{told(event)[0]}.{when}")
