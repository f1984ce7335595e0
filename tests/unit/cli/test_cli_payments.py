"""`kitectl payments`: what is shown of a payment, and what an audit adds up."""

from typing import Any

import orjson
import pytest

from kite_cli.admin.payments import Told
from kite_cli.admin.payments_audit import audited
from kite_common.events.ledger import LedgerEntry
from kite_common.events.payment_record import Binding, BootstrapPart, PastStep, PaymentRecord, Place
from kite_common.events.payments import PaymentState, PaymentStep, Target
from kite_common.ids import UNATTRIBUTED
from kite_common.testing import make, payments

SECRETS = ("signature-of-somebody", "seal-of-somebody", "quote-hash-of-somebody", "hash-of-an-id")
PLACE = Place(transaction=payments.TRANSACTION, block=9, block_hash="0x" + "b1" * 32, log_index=3)


def record(state: PaymentState = "credited", **given: Any) -> PaymentRecord:
    fields: dict[str, Any] = {
        "payment_key": make.PAYMENT_KEY, "state": state, "payer": payments.address(payments.payer()), "value": "1000000",
        "credited_to": make.TEAM, "place": PLACE, "steps": 1, "history": (PastStep(event="claimed", at=make.NOW_MS),),
    }  # fmt: skip
    return PaymentRecord(**(fields | given))


def entry(number: int, amount: int, **given: Any) -> LedgerEntry:
    fields: dict[str, Any] = {
        "team_id": make.TEAM, "id": f"entry-{number}", "entry": "credit" if amount > 0 else "reversal",
        "reason": "deposit" if amount > 0 else "reorg", "contra": "deposits", "amount_atomic": amount, "balance_after_atomic": 0,
        "payment": make.payment(), "occurred_at": make.NOW_MS,
    }  # fmt: skip
    return LedgerEntry(**(fields | given))


def test_what_is_shown_has_no_secret() -> None:
    made = record(
        signature=SECRETS[0], quote_hash=SECRETS[2], idempotency_hash=SECRETS[3],
        bootstrap=BootstrapPart(team_id=make.TEAM, source="s", plan_id="p", seal=SECRETS[1]),
        binding=Binding(purpose="bootstrap", fingerprint="f", target=Target(), amount_atomic=1),
    )  # fmt: skip
    step = PaymentStep(payment_key=make.PAYMENT_KEY, seq=1, event="claimed", before=None, at=make.NOW_MS, why="bootstrap")
    shown = Told(made, [step]).to_json()
    assert not any(secret in orjson.dumps(shown).decode() for secret in SECRETS)
    assert (shown["state"], shown["purpose"], shown["transaction"], shown["amount_atomic"]) == (
        "credited", "bootstrap", payments.TRANSACTION, 1_000_000,
    )  # fmt: skip
    assert [(one["event"], one["why"]) for one in shown["steps"]] == [("claimed", "bootstrap")]


def test_a_transaction_the_facilitator_only_named_is_shown_while_nothing_is_proven() -> None:
    assert Told(record("unknown", place=None, hint="0xabc")).to_json()["transaction"] == "0xabc"


def test_credits_records_and_chain_that_agree_are_in_order() -> None:
    audit = audited([entry(1, 1_000_000)], [record()], 1_000_000)
    assert (audit.ok, audit.gap_atomic, audit.to_json()["ok"]) == (True, 0, True)


@pytest.mark.parametrize(
    ("entries", "records", "chain", "gap"),
    [
        ([entry(1, 1_000_000), entry(2, 1_000_000)], [record()], 1_000_000, 1_000_000),
        ([], [], 1_000_000, -1_000_000),
        ([entry(1, 1_000_000)], [], 1_000_000, 0),
        ([], [record()], 0, 0),
    ],
    ids=["credited twice", "paid and not credited", "credited without a payment", "a payment without a credit"],
)
def test_anything_else_is_not(entries: list[LedgerEntry], records: list[PaymentRecord], chain: int, gap: int) -> None:
    audit = audited(entries, records, chain)
    assert (audit.ok, audit.gap_atomic) == (False, gap)


def test_what_is_not_a_payment_counts_on_no_side() -> None:
    gift = entry(1, 5_000, payment=None)
    assert audited([gift], [], 0).ok


def test_an_entry_that_stands_twice_in_the_log_is_one() -> None:
    assert audited([entry(1, 1_000_000), entry(1, 1_000_000)], [record()], 1_000_000).ok


def test_a_reversal_counts_in_full_though_the_wallet_was_empty_and_its_debt_is_paid_later() -> None:
    entries = [
        entry(1, 1_000_000), entry(2, -300_000, shortfall_atomic=700_000), entry(3, 1_000_000), entry(4, -700_000, payment=None),
    ]  # fmt: skip
    assert audited(entries, [record()], 1_000_000).ok


def test_a_credit_counts_in_full_though_the_wallet_could_not_hold_it() -> None:
    assert audited([entry(1, 400_000, shortfall_atomic=600_000)], [record()], 1_000_000).ok


def test_what_was_there_before_or_withdrawn_is_told_by_the_operator() -> None:
    assert audited([entry(1, 1_000_000)], [record()], 1_500_000, before_atomic=500_000).ok
    assert audited([entry(1, 1_000_000)], [record()], 200_000, before_atomic=-800_000).ok


def test_money_that_waits_unclaimed_and_payments_under_way_are_counted() -> None:
    waiting, under_way = record("observed", credited_to=UNATTRIBUTED), record("unknown", credited_to=None)
    audit = audited([entry(1, 1_000_000)], [waiting, under_way], 1_000_000)
    assert (audit.ok, audit.unattributed_atomic, audit.in_flight) == (True, 1_000_000, 1)
