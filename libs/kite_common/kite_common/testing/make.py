"""Builders of realistic values for tests: every argument has a default, a test names only what it is about. No IO.

`make.usage(price_atomic=80)`, `make.snapshot(balance_atomic=0)`. Ids and times are fixed, so that equal calls give equal values.
"""

from typing import Any, Final

from kite_common import auth, ids
from kite_common.events.accounts import AccountSnapshot, Subscription, Terms
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record
from kite_common.events.commands import (
    AdjustWallet,
    CancelSubscription,
    CommandOutcome,
    CreditWallet,
    OpenAccount,
    PageDebit,
    ReverseCredit,
    SetPastDue,
    SettledPayment,
    Subscribe,
)
from kite_common.events.credentials import CredentialIssued
from kite_common.events.deliveries import (
    DeadLetter,
    DeliveryAttempted,
    DeliveryConcluded,
    DeliveryOrdered,
    DeliveryParked,
    DeliveryPending,
)
from kite_common.events.envelope import CONTENT_TYPE_HEADER, with_kiteseq
from kite_common.events.erasures import TeamErased
from kite_common.events.hooks import HookEndpoint
from kite_common.events.ledger import LedgerEntry, PaymentReference
from kite_common.events.notices import SubscriptionNotice
from kite_common.events.payments import CreditApplied
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import SealedSecret, WebhookConfigured
from kite_common.ids import EventId
from kite_common.log_position import kiteseq
from kite_common.plans import Plan, shipped_catalog

TEAM: Final = "team_4q2mfx7vkz3bgyh5tjwnc6dlpe"
# 2026-04-30T10:00:00.000Z
NOW_MS: Final = 1_777_543_200_000
MONTH_MS: Final = 30 * 86_400_000
EVENT_ID: Final = ids.uuid7(NOW_MS, 0x2_5B1E_77A0_93C4_D5F6_0718)
COMMAND_ID: Final = "5e0f6a52-6b0c-4f0e-9d0e-0d2b6f5c8a11"
CONFIG_ID: Final = "0f2d9c1e-58a7-4a3f-8b62-3d1f5e7a9c04"
PEPPER: Final = b"pepper of the tests, 32 bytes ok"
API_KEY: Final = auth.new_api_key(bytes(range(20)))
HOOK_TOKEN: Final = auth.new_hook_token(bytes(range(20, 40)))
URL: Final = "https://hooks.example.com/kite"
WEBHOOK_SECRET: Final = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - of the tests


def event_id(number: int = 0) -> EventId:
    """The id of the n-th event: all different, in ascending order."""
    return ids.uuid7(NOW_MS + number, 0x2_5B1E_77A0_93C4_D5F6_0718)


def agent_message(**given: Any) -> AgentMessage:
    """A message from `planner` to `builder`."""
    return AgentMessage(**({"from_": "planner", "to": "builder", "body": "Please build the release."} | given))


def event(message: AgentMessage | None = None, *, event_id: EventId = EVENT_ID, received_ms: int = NOW_MS) -> bytes:
    """The stored CloudEvent of a message, without kiteseq."""
    return to_event(message or agent_message(), event_id, received_ms)


def event_record(message: AgentMessage | None = None, *, event_id: EventId = EVENT_ID, team_id: str = TEAM) -> Record:
    """The record of a stored event as it stands in kite.events."""
    return Record(team_id.encode(), event(message, event_id=event_id), ((RECORD_HEADER, EVENT_RECORD), CONTENT_TYPE_HEADER))


def plan(name: str = "starter") -> Plan:
    """A plan that comes with Kite. Raises LookupError if there is none of that name."""
    found = shipped_catalog().by_name(name)
    if found is None:
        raise LookupError(name)
    return found


def terms(plan_name: str = "starter", **given: Any) -> Terms:
    """What that plan grants and costs."""
    granted = plan(plan_name)
    return Terms(**({name: getattr(granted, name) for name in Terms.model_fields} | given))


def subscription(plan_name: str = "starter", **given: Any) -> Subscription:
    """An active x402 subscription in its first period, begun a day before NOW_MS."""
    start = NOW_MS - 86_400_000
    fields: dict[str, Any] = {
        "id": ids.subscription_of(ids.CommandId(COMMAND_ID)), "plan_id": plan(plan_name).id, "plan_name": plan_name, "provider": "x402",
        "status": "active", "anchored_at": start, "period_start": start, "period_end": start + MONTH_MS, "terms": terms(plan_name),
    }  # fmt: skip
    return Subscription(**(fields | given))


def account(**given: Any) -> AccountSnapshot:
    """An account with a starter subscription, 1 USDC and no usage. `subscription=None` for a team without one."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "opened_at": NOW_MS - 86_400_000, "subscription": subscription(), "day": NOW_MS // 86_400_000,
        "balance_atomic": 1_000_000, "applied": 1,
    }  # fmt: skip
    return AccountSnapshot(**(fields | given))


def usage(**given: Any) -> UsageRecorded:
    """One message at the starter price."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "event_id": EVENT_ID, "usage_kind": "message", "price_atomic": 100, "subscription_id": subscription().id,
        "reserved_at": NOW_MS,
    }  # fmt: skip
    return UsageRecorded(**(fields | given))


def payment(**given: Any) -> PaymentReference:
    """A settled transfer on Base Sepolia."""
    fields: dict[str, Any] = {
        "network": "eip155:84532", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payer": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "transaction": "0x" + "5a" * 32,
    }  # fmt: skip
    return PaymentReference(**(fields | given))


def ledger_entry(**given: Any) -> LedgerEntry:
    """The debit of one message."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "id": ids.ledger_entry_of_event(EVENT_ID), "entry": "debit", "reason": "event", "contra": "revenue",
        "amount_atomic": -100, "balance_after_atomic": 999_900, "quantity": 1, "event_id": EVENT_ID, "occurred_at": NOW_MS,
    }  # fmt: skip
    return LedgerEntry(**(fields | given))


def open_account(**given: Any) -> OpenAccount:
    """Open an account on the starter plan with 1 USDC."""
    return OpenAccount(**(_command() | {"plan_id": plan().id, "provider": "x402", "balance_atomic": 1_000_000} | given))


def subscribe(**given: Any) -> Subscribe:
    """Switch to the growth plan."""
    return Subscribe(**(_command() | {"plan_id": plan("growth").id, "provider": "x402"} | given))


def cancel_subscription(**given: Any) -> CancelSubscription:
    """End the subscription."""
    return CancelSubscription(**(_command() | given))


def credit_wallet(**given: Any) -> CreditWallet:
    """A deposit of 2 USDC."""
    return CreditWallet(**(_command() | {"amount_atomic": 2_000_000, "payment": payment()} | given))


PAYMENT_KEY: Final = (
    "eip155:84532|0x036cbd53842c5426634e7929541ec2318f3dcf7e|0x70997970c51812dc3a010c7d01b50e0d17dc79c8|0x" + "5a" * 32
)


def settled_payment(**given: Any) -> SettledPayment:
    """A payment that is proven on the chain."""
    fields: dict[str, Any] = {"payment_key": PAYMENT_KEY, "seq": 1, "log_index": 4, "reference": payment()}
    return SettledPayment(**(fields | given))


def page_debit(**given: Any) -> PageDebit:
    """A page of 250 rows at the starter price."""
    fields: dict[str, Any] = {"event_id": event_id(9_000), "rows": 250, "amount_atomic": 2_500}
    return PageDebit(**(fields | given))


def payment_credit(settled: SettledPayment | None = None, **given: Any) -> CreditWallet:
    """The credit of a settled payment of 1 USDC."""
    return CreditWallet(**(_payment_command(settled) | {"payment": (settled or settled_payment()).reference} | given))


def reverse_credit(settled: SettledPayment | None = None, **given: Any) -> ReverseCredit:
    """The reversal of that payment."""
    return ReverseCredit(**(_payment_command(settled or settled_payment(seq=2)) | given))


def credit_applied(**given: Any) -> CreditApplied:
    """The answer to that credit."""
    fields: dict[str, Any] = {
        "payment_key": PAYMENT_KEY, "seq": 1, "team_id": TEAM, "balance_after_atomic": 2_000_000, "applied": 4_819, "partition": 3,
    }  # fmt: skip
    return CreditApplied(**(fields | given))


def set_past_due(**given: Any) -> SetPastDue:
    """An outside payment has failed."""
    return SetPastDue(**(_command() | {"past_due": True} | given))


def notice(**given: Any) -> SubscriptionNotice:
    """The month of a starter plan is nearly used up."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "event_id": ids.notice_of(ids.TeamId(TEAM), "of the examples"), "kind": "quota_warning", "at_ms": NOW_MS,
        "reason": "month", "events_used": 80_000, "events_limit": 100_000, "balance_atomic": 1_000_000,
        "period_end_ms": subscription().period_end,
    }  # fmt: skip
    return SubscriptionNotice(**(fields | given))


def adjust_wallet(**given: Any) -> AdjustWallet:
    """A correction of -5,000."""
    return AdjustWallet(**(_command() | {"amount_atomic": -5_000, "note": "double deposit, ticket 17"} | given))


def command_outcome(**given: Any) -> CommandOutcome:
    """A command that was applied."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "command_id": COMMAND_ID, "applied": 7, "balance_atomic": 1_000_000, "subscription_id": subscription().id,
    }  # fmt: skip
    return CommandOutcome(**(fields | given))


def credential(text: str = API_KEY, **given: Any) -> CredentialIssued:
    """The credential of a text, hashed under PEPPER: an admin API key, or a hook token for `khk_...`."""
    is_key = text.startswith("kite_")
    prefix = (auth.parse_api_key if is_key else auth.parse_hook_token)(text).prefix
    fields: dict[str, Any] = {
        "team_id": TEAM, "id": "9b6f0c1d-2f4e-4b7a-8c3d-5e1f2a3b4c5d", "prefix": prefix, "secret_hash": auth.hash_secret(PEPPER, text),
        "credential": "api_key" if is_key else "hook_token", "name": "bootstrap" if is_key else "github",
        "permissions": ("admin",) if is_key else (), "source": None if is_key else "github", "created_at": NOW_MS,
    }  # fmt: skip
    return CredentialIssued(**(fields | given))


def webhook(**given: Any) -> WebhookConfigured:
    """An active config for every event type. The sealed text is of the right form but opens under no key."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "id": CONFIG_ID, "url": URL, "secrets": (SealedSecret(sealed="v1.1f2e3d4c.AAAAAAAAAAAAAAAA." + "A" * 43),),
        "created_at": NOW_MS, "updated_at": NOW_MS,
    }  # fmt: skip
    return WebhookConfigured(**(fields | given))


def hook_endpoint(**given: Any) -> HookEndpoint:
    """An open endpoint for GitHub with one secret. The sealed text is of the right form but opens under no key."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "id": ids.endpoint_of(ids.TeamId(TEAM), "github"), "source": "github", "created_at": NOW_MS, "updated_at": NOW_MS,
        "secrets": (SealedSecret(sealed="v1.1f2e3d4c.AAAAAAAAAAAAAAAA." + "A" * 43),),
    }  # fmt: skip
    return HookEndpoint(**(fields | given))


def team_erased(**given: Any) -> TeamErased:
    """The order to erase the team, not carried out yet."""
    fields: dict[str, Any] = {"team_id": TEAM, "id": "0f4a8e52-6b1c-7d3e-9a57-c2b4d6f80e13", "ordered_at": NOW_MS}
    return TeamErased(**(fields | given))


def delivery_attempted(**given: Any) -> DeliveryAttempted:
    """A first attempt that was answered with 200."""
    fields = _delivery() | {
        "webhook_config_id": CONFIG_ID, "url": URL, "attempt": 1, "started_at": NOW_MS + 4, "duration_ms": 38, "response_status": 200,
        "status": "delivered",
    }  # fmt: skip
    return DeliveryAttempted(**(fields | given))


def delivery_concluded(**given: Any) -> DeliveryConcluded:
    """An event that had no endpoint."""
    fields = _delivery() | {"delivery_id": ids.delivery_of(EVENT_ID, None), "status": "no_endpoint", "at": NOW_MS + 4}
    return DeliveryConcluded(**(fields | given))


def delivery_parked(**given: Any) -> DeliveryParked:
    """A delivery that waits five seconds for its second attempt."""
    body = with_kiteseq(event(), kiteseq(4711, 3)).decode()
    fields = _delivery() | {
        "webhook_config_id": CONFIG_ID, "attempts": 1, "due_at": NOW_MS + 5_000, "parked_at": NOW_MS + 40, "appended_at": NOW_MS + 2,
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "body": body,
    }  # fmt: skip
    return DeliveryParked(**(fields | given))


def delivery_pending(**given: Any) -> DeliveryPending:
    """A dead delivery that is redriven after its ten attempts."""
    fields = _delivery() | {"webhook_config_id": CONFIG_ID, "attempts": 10, "redrives": 1, "at": NOW_MS + 4}
    return DeliveryPending(**(fields | given))


def delivery_ordered(**given: Any) -> DeliveryOrdered:
    """The order to redrive it."""
    named = _delivery()
    fields = named | {
        "id": ids.redrive_of(named["delivery_id"], 1), "webhook_config_id": CONFIG_ID, "attempts": 10, "redrives": 1,
        "requested_at": NOW_MS, "body": with_kiteseq(event(), kiteseq(4711, 3)).decode(),
    }  # fmt: skip
    return DeliveryOrdered(**(fields | given))


def dead_letter(**given: Any) -> DeadLetter:
    """A record that was no JSON."""
    fields: dict[str, Any] = {
        "team_id": TEAM, "service": "replay", "reason": "event: not JSON", "fault": "ours", "topic": "kite.events", "partition": 3,
        "offset": 4711, "at": NOW_MS, "original_key": "dGVhbV8x", "original_value": "eyJicm9rZW4i",
        "original_headers": (("kite-record", "ZXZlbnQ="),),
    }  # fmt: skip
    return DeadLetter(**(fields | given))


def _command() -> dict[str, Any]:
    return {"team_id": TEAM, "command_id": COMMAND_ID, "sent_at": NOW_MS}


def _payment_command(settled: SettledPayment | None) -> dict[str, Any]:
    settled = settled or settled_payment()
    return _command() | {"command_id": f"{settled.payment_key}#{settled.seq}", "amount_atomic": 1_000_000, "settled": settled}


def _delivery() -> dict[str, Any]:
    return {
        "team_id": TEAM, "delivery_id": ids.delivery_of(EVENT_ID, ids.WebhookConfigId(CONFIG_ID)), "event_id": EVENT_ID,
        "event_type": "com.kite.agent.message", "kiteseq": kiteseq(4711, 3),
    }  # fmt: skip
