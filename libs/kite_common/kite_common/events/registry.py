"""Which class reads which (kind, version), and how older versions become the newest. Reads no topic."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import (
    AdjustWallet,
    CancelSubscription,
    CommandOutcome,
    CreditWallet,
    OpenAccount,
    ReverseCredit,
    SetPastDue,
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
from kite_common.events.erasures import TeamErased
from kite_common.events.fact import Fact
from kite_common.events.hooks import HookEndpoint
from kite_common.events.ledger import LedgerEntry
from kite_common.events.payment_record import PaymentRecord, ScanCursor
from kite_common.events.payments import (
    CreditApplied,
    PaymentAssigned,
    PaymentOutcome,
    PaymentResult,
    PaymentSeen,
    PaymentStep,
    PaymentSubmitted,
)
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import WebhookConfigured

# The newest version of every kind.
LATEST: Final[Mapping[str, type[Fact]]] = {
    fact.kind: fact
    for fact in (
        UsageRecorded, LedgerEntry, AccountSnapshot, OpenAccount, Subscribe, CancelSubscription, CreditWallet, AdjustWallet,
        ReverseCredit, SetPastDue, CommandOutcome, CredentialIssued, PaymentSubmitted, PaymentResult, CreditApplied, PaymentSeen,
        PaymentAssigned, PaymentStep, PaymentOutcome, PaymentRecord, ScanCursor, HookEndpoint, WebhookConfigured, DeliveryAttempted,
        DeliveryConcluded, DeliveryParked, DeadLetter, DeliveryPending, DeliveryOrdered, TeamErased,
    )
}  # fmt: skip

# (kind, version) -> the payload one version later, as plain JSON values. Named v1_to_v2 and so on when they come.
UPCASTERS: Final[Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]] = {}
