"""The points at which tests let billing die: one list, and no point in the code that is not in it."""

import re
from pathlib import Path

import kite_billing
from kite_billing.adapters import payment_faults
from kite_billing.domain.payments.events import PaymentSettling, told

SOURCE = Path(kite_billing.__file__).parent


def test_every_event_of_the_state_machine_has_a_point_before_and_after_its_transaction() -> None:
    events = {"claimed", "settling", "settled", "credited", "rejected", "unknown", "dead", "reversed", "observed", "assigned", "noted"}
    assert set(payment_faults.TRANSITIONS) == {f"payment.{event}.{when}" for event in events for when in ("deciding", "committed")}
    assert f"payment.{told(PaymentSettling(1))[0]}.deciding" in payment_faults.POINTS


def test_every_other_point_is_reached_in_one_place_and_listed() -> None:
    texts = {path: path.read_text() for path in SOURCE.rglob("*.py")}
    named = [name for text in texts.values() for name in re.findall(r"faults\.reached\((\w+)\)", text)]
    assert sorted(getattr(payment_faults, name) for name in named) == sorted(payment_faults.BETWEEN)
    assert len(set(payment_faults.POINTS)) == len(payment_faults.POINTS)
