"""Writes golden examples that are still missing under contracts/examples/<kind>/v<version>/<name>.json. Changes none.

An example is what some topic already holds, so one that exists is never written again: a payload that changes gets a new version
and new examples beside the old ones, which stay and are read by every consumer's tests (tests/contracts/test_examples.py).
Run it after adding a kind, a version, or a row below: `.venv/bin/python scripts/write_examples.py`. It prints what it wrote; `--check` only
names what is missing.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kite_common import ids
from kite_common.events import agent_message
from kite_common.events.fact import Fact
from kite_common.events.payment_record import Binding, BlockSum, LastCall, PastStep, PaymentRecord, ScanCursor
from kite_common.events.payments import Alternative, PaymentAssigned, PaymentResult, PaymentSeen, PaymentStep, Target
from kite_common.events.usage import FirstAnswer
from kite_common.ids import CommandId, EventId, WebhookConfigId
from kite_common.testing import make, payments

ROOT: Final = Path(__file__).resolve().parent.parent / "contracts" / "examples"
T: Final = make.NOW_MS
COMMAND: Final = CommandId(make.COMMAND_ID)
CONFIG: Final = WebhookConfigId(make.CONFIG_ID)
SECOND_CONFIG: Final = "c7a1e5d2-94b3-4c0e-a6f8-21d3b4e5f607"
SECOND: Final = make.event_id(1_500)
THIRD: Final = make.event_id(2_750)

FACTS: Final[Mapping[str, Fact]] = {
    "message-on-starter": make.usage(idempotency="2f1c8e7a90b34d56a1c2e3f405162738"),
    "message-with-its-first-answer": make.usage(
        event_id=make.event_id(4_000), idempotency="8d21c04f5b7e4a63902f1e7c6a5d3b48", reserved_at=T + 4_000,
        first_answer=FirstAnswer(
            body_digest="5b1d0c7e3a9f482675e1a0c3b2d4f687a9b8c7d6e5f4031221304f5e6d7c8b9a", received_at=T + 3_998, events_used=42,
            events_limit=50_000,
        ),
    ),
    "message-that-came-with-a-payment": make.usage(
        event_id=make.event_id(4_100), payment_claim="c1f0a6d27be9348550f1e2d3c4b5a697", reserved_at=T + 4_100,
        first_answer=FirstAnswer(
            body_digest="", received_at=T + 4_098, events_used=43, events_limit=50_000, receipt=payments.paid().model_dump_json(),
        ),
    ),
    "message-on-a-flat-plan": make.usage(event_id=SECOND, price_atomic=0, reserved_at=T + 1_500),
    "hook-event": make.usage(event_id=THIRD, usage_kind="hook", reserved_at=T + 2_750),
    "paid-replay-of-250-rows": make.usage(
        event_id=make.event_id(9_000), usage_kind="replay", quantity=250, price_atomic=2_500, reserved_at=T + 9_000
    ),
    "debit-of-a-message": make.ledger_entry(),
    "message-on-a-flat-plan-amount-zero": make.ledger_entry(
        id=ids.ledger_entry_of_event(SECOND), event_id=SECOND, amount_atomic=0, balance_after_atomic=0, occurred_at=T + 1_500
    ),
    "credit-of-a-deposit": make.ledger_entry(
        id=ids.ledger_entry_of_command(COMMAND), entry="credit", reason="deposit", contra="deposits", amount_atomic=2_000_000,
        balance_after_atomic=2_999_900, quantity=0, event_id=None, command_id=COMMAND, payment=make.payment(), occurred_at=T + 60_000,
    ),
    "debit-with-shortfall": make.ledger_entry(
        id=ids.ledger_entry_of_event(THIRD), event_id=THIRD, amount_atomic=-40, balance_after_atomic=0,
        shortfall_atomic=60, occurred_at=T + 2_750
    ),
    "starter-on-x402": make.account(period_used=1, period_charged_atomic=100, day_used=1, balance_atomic=999_900, applied=4_819_627),
    "without-subscription": make.account(subscription=None, balance_atomic=40, applied=12),
    "enterprise-on-clerk": make.account(
        subscription=make.subscription("enterprise", provider="clerk"), period_used=48_211, day_used=1_204, balance_atomic=0, applied=977
    ),
    "open-with-first-deposit": make.open_account(),
    "open-free-on-clerk": make.open_account(plan_id=make.plan("free").id, provider="clerk", balance_atomic=0),
    "switch-to-growth": make.subscribe(),
    "cancel": make.cancel_subscription(),
    "settled-deposit": make.credit_wallet(),
    "credit-by-an-operator": make.credit_wallet(payment=None, amount_atomic=500_000),
    "correction-downwards": make.adjust_wallet(),
    "applied": make.command_outcome(),
    "refused-unknown-plan": make.command_outcome(refusal="plan_not_found", balance_atomic=0, subscription_id=None),
    "admin-api-key": make.credential(),
    "read-key-expired-and-revoked": make.credential(
        name="dashboard", permissions=("read",), scopes=("source:github", "agent_to:builder"),
        expires_at=T + 86_400_000, revoked_at=T + 3_600_000
    ),
    "hook-token-of-github": make.credential(make.HOOK_TOKEN),
    "hook-delivery-with-a-key": make.usage(
        event_id=make.event_id(4_200), usage_kind="hook", reserved_at=T + 4_200, idempotency="2f1c8e7a90b34d56a1c2e3f405162738",
        delivery_claim="7d0a4c1be2f93865b1a0c9d8e7f60514",
    ),
    "open-with-a-secret": make.hook_endpoint(),
    "rotated-secret": make.hook_endpoint(
        updated_at=T + 60_000,
        secrets=(
            {"sealed": "v1.1f2e3d4c.kP0vB2wq8sTn5XyZ.Q2hhbmdlcyB3aXRoIGV2ZXJ5IHJvdGF0aW9uLCBuZXZlciByZWFk"},
            {"sealed": "v1.1f2e3d4c.AAAAAAAAAAAAAAAA." + "A" * 43, "expires_at": T + 660_000},
        ),
    ),
    "open-without-a-secret": make.hook_endpoint(source="billing-bot", secrets=()),
    "closed": make.hook_endpoint(active=False, secrets=(), updated_at=T + 7_200_000),
    "ordered": make.team_erased(),
    "carried-out": make.team_erased(archive_erased_at=T + 4_000),
    "active-for-every-type": make.webhook(),
    "rotated-two-secrets": make.webhook(
        event_types=("com.github.*", "com.kite.agent.message"), updated_at=T + 7_200_000,
        secrets=(
            {"sealed": "v1.1f2e3d4c.kP0vB2wq8sTn5XyZ.Q2hhbmdlcyB3aXRoIGV2ZXJ5IHJvdGF0aW9uLCBuZXZlciByZWFk"},
            {"sealed": "v1.1f2e3d4c.AAAAAAAAAAAAAAAA." + "A" * 43, "expires_at": T + 93_600_000},
        ),
    ),
    "signed-with-ed25519": make.webhook(signature="v1a"),
    "in-batches": make.webhook(mode="batch", batch_max_events=50, batch_max_wait_ms=500),
    "deactivated": make.webhook(active=False, updated_at=T + 9_000_000),
    "delivered-at-once": make.delivery_attempted(),
    "retrying-after-503": make.delivery_attempted(
        response_status=503, response_excerpt="upstream is restarting", status="retrying", next_attempt_at=T + 5_600, duration_ms=112
    ),
    "dead-after-timeout": make.delivery_attempted(
        attempt=10, response_status=None, error="timeout", status="dead", reason="attempts_exhausted",
        duration_ms=15_000, started_at=T + 275_000_000
    ),
    "redriven-after-ten-attempts": make.delivery_pending(),
    "test-event-pending": make.delivery_pending(
        event_type="kite.webhook.test", attempts=0, redrives=0, test=True,
    ),
    "redrive": make.delivery_ordered(),
    "deposit-of-two": payments.submitted(),
    "page-whose-repeats-get-a-refusal": payments.submitted(
        purpose="page", target=Target(team_id=make.TEAM, since="abc"), if_new=Alternative(status=0, code="not_needed"),
    ),
    "answer-of-a-message": PaymentResult(
        payment_key=make.PAYMENT_KEY, status=202, body='{"event_id":"' + make.EVENT_ID + '","status":"accepted"}'
    ),
    "credit-in-the-ledger": make.credit_applied(),
    "transfer-on-the-chain": PaymentSeen(
        payment_key=make.PAYMENT_KEY, transaction=make.payment().transaction, block=18_204_113, block_hash="0x" + "4e" * 32, log_index=4,
        payer=make.payment().payer, value="2000000",
    ),
    "given-to-a-team": PaymentAssigned(
        payment_key=make.PAYMENT_KEY, command_id=make.COMMAND_ID, team_id=make.TEAM, note="sent by hand, ticket 21"
    ),
    "settled-on-the-chain": PaymentStep(
        payment_key=make.PAYMENT_KEY, seq=3, event="settled", before="settling", at=T, team_id=make.TEAM,
        transaction=make.payment().transaction, amount_atomic=2_000_000,
    ),
    "credited-deposit": payments.outcome(),
    "refused-for-funds": payments.outcome(result="refused", status=402, code="payment_failed", reason="insufficient_funds", paid=None),
    "deposit-that-is-being-settled": PaymentRecord(
        payment_key=make.PAYMENT_KEY, state="settling", payer=payments.address(payments.payer()), value="1000000",
        binding=Binding(purpose="deposit", fingerprint="3c" * 32, target=Target(team_id=make.TEAM), amount_atomic=1_000_000),
        authorization=payments.authorization(), signature=payments.sign(payments.USDC, payments.authorization()), sent=True, attempts=1,
        last_call=LastCall(began_at=T), claim_block=18_204_110, steps=2,
        history=(PastStep(event="claimed", at=T - 40), PastStep(event="settling", at=T)),
    ),
    "cursor-of-the-scanner": ScanCursor(
        cursor_key=f"scan|eip155:84532|{payments.USDC.address}|{payments.PAY_TO}", block=18_204_113, block_hash="0x" + "4e" * 32,
        genesis="0x" + "0d" * 32, first_block=18_200_000, total="3000000", recent=(BlockSum(block=18_204_113, value="2000000"),),
    ),
    "credit-of-a-payment": make.payment_credit(),
    "reversal-after-a-reorg": make.reverse_credit(),
    "outside-payment-failed": make.set_past_due(),
    "no-endpoint": make.delivery_concluded(),
    "filtered": make.delivery_concluded(
        delivery_id=ids.delivery_of(make.EVENT_ID, CONFIG), webhook_config_id=CONFIG, url=make.URL, status="filtered", reason="event_types"
    ),
    "cancelled-config-deleted": make.delivery_concluded(
        delivery_id=ids.delivery_of(make.EVENT_ID, WebhookConfigId(SECOND_CONFIG)), webhook_config_id=SECOND_CONFIG, url=make.URL,
        status="cancelled", reason="config_deleted",
    ),
    "waiting-for-second-attempt": make.delivery_parked(),
    "event-that-is-no-json": make.dead_letter(),
    "record-without-key-or-value": make.dead_letter(
        reason="the record has no value", topic="kite.ledger", original_key=None, original_value=None, original_headers=()
    ),
}  # fmt: skip

MESSAGES: Final[Mapping[str, tuple[agent_message.AgentMessage, EventId]]] = {
    "shortest": (make.agent_message(body=""), make.EVENT_ID),
    "reply-in-a-thread": (
        make.agent_message(from_="builder", to="planner", body="Done: 3 artifacts.", thread_id="release-2026.4", reply_to_id=make.EVENT_ID),
        SECOND,
    ),
    "text-of-many-scripts-cut-in-the-summary": (
        make.agent_message(from_="Prüfer/α", to="строитель 7", body="Zeile eins\nZeile zwei 🪁 " + "ένα δύο τρία " * 8), THIRD,
    ),
}  # fmt: skip


def main() -> int:
    """Write what is missing, or with `--check` name it; the exit code."""
    payloads = {_path(fact.kind, fact.version, name): fact.to_json() for name, fact in FACTS.items()}
    for name, (message, event_id) in MESSAGES.items():
        payloads[_path(agent_message.TYPE, 1, name)] = agent_message.to_event(message, event_id, T)
    missing = {path: payload for path, payload in payloads.items() if not path.exists()}
    if "--check" in sys.argv[1:]:
        for path in missing:
            print(f"{path.relative_to(ROOT.parent.parent)} is missing: run `make contracts`", file=sys.stderr)
        return 1 if missing else 0
    for path, payload in missing.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(json.loads(payload), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT.parent.parent)}")
    return 0


def _path(kind: str, version: int, name: str) -> Path:
    return ROOT / kind / f"v{version}" / f"{name}.json"


if __name__ == "__main__":
    sys.exit(main())
