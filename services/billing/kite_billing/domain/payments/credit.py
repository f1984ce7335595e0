"""The commands a payment gives to accounts, and what a bootstrap makes. Pure: random bytes are arguments; sends nothing."""

from dataclasses import dataclass, field

from kite_billing.domain.payments.rules import BootstrapKeys, Rules
from kite_common import auth
from kite_common.events.commands import CreditWallet, OpenAccount, PageDebit, ReverseCredit, SettledPayment
from kite_common.events.credentials import CredentialIssued
from kite_common.events.ledger import PaymentReference
from kite_common.events.payment_record import Binding, BootstrapPart, PaymentRecord, Place
from kite_common.ids import TeamId
from kite_common.x402 import key as keys
from kite_common.x402.seal import Credentials, seal_credentials

Order = CreditWallet | OpenAccount | ReverseCredit | CredentialIssued


@dataclass(frozen=True, slots=True)
class Draw:
    """Random bytes of one bootstrap: 20 for the API key, 20 for the hook token, 12 for the seal's nonce."""

    api_key: bytes = field(repr=False)
    hook_token: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


def team_of_binding(key: str, binding: Binding) -> TeamId:
    """Whose wallet a payment goes to."""
    return keys.team_of(key) if binding.purpose == "bootstrap" else TeamId(binding.target.team_id or "")


def settled_payment(record: PaymentRecord, place: Place, seq: int, rules: Rules) -> SettledPayment:
    """What a command says of the money."""
    reference = PaymentReference(
        network=rules.asset.network, asset=rules.asset.checksum, payer=record.payer, transaction=place.transaction
    )
    return SettledPayment(payment_key=record.payment_key, seq=seq, log_index=place.log_index, reference=reference)


def credit(record: PaymentRecord, place: Place, team_id: str, seq: int, now: int, rules: Rules) -> CreditWallet:
    """Add the money to a wallet; the page it buys goes with its first credit."""
    settled, key = settled_payment(record, place, seq, rules), record.payment_key
    return CreditWallet(
        team_id=team_id, command_id=keys.command_id(key, seq), sent_at=now, amount_atomic=int(record.value), payment=settled.reference,
        settled=settled, page=_page(record, team_id, now) if record.credit is None else None,
    )  # fmt: skip


def reversal(record: PaymentRecord, team_id: str, seq: int, now: int, rules: Rules) -> ReverseCredit:
    """Take the money out of the wallet it stands in. Raises ValueError for a record that was never proven."""
    if record.place is None:
        raise ValueError("only a proven payment can be taken back")
    settled, key = settled_payment(record, record.place, seq, rules), record.payment_key
    return ReverseCredit(
        team_id=team_id, command_id=keys.command_id(key, seq), sent_at=now, amount_atomic=int(record.value), settled=settled
    )


def bootstrap(
    record: PaymentRecord, place: Place, seq: int, now: int, rules: Rules, secrets: BootstrapKeys, draw: Draw
) -> tuple[BootstrapPart, tuple[Order, ...]]:
    """A team with its account, subscription and two credentials, and its secrets sealed. Plain texts exist only in here."""
    key, binding = record.payment_key, record.binding
    if binding is None or binding.target.plan_id is None or binding.target.source is None:
        raise ValueError("a bootstrap names plan and source")
    team_id, settled = keys.team_of(key), settled_payment(record, place, seq, rules)
    texts = Credentials(auth.new_api_key(draw.api_key), auth.new_hook_token(draw.hook_token))
    opened = OpenAccount(
        team_id=team_id, command_id=keys.command_id(key, seq), sent_at=now, plan_id=binding.target.plan_id, provider="x402",
        balance_atomic=int(record.value), subscription_id=keys.subscription_of(key), payment=settled,
    )  # fmt: skip
    seal = seal_credentials(secrets.cipher_key, key, texts, draw.nonce)
    part = BootstrapPart(team_id=team_id, source=binding.target.source, plan_id=binding.target.plan_id, seal=seal)
    return part, (opened, *_credentials(key, team_id, binding.target.source, texts, secrets.pepper, now))


def _credentials(key: str, team_id: TeamId, source: str, texts: Credentials, pepper: bytes, now: int) -> tuple[CredentialIssued, ...]:
    api_key = CredentialIssued(
        team_id=team_id, id=keys.api_credential_of(key), prefix=auth.parse_api_key(texts.api_key).prefix, credential="api_key",
        secret_hash=auth.hash_secret(pepper, texts.api_key), name="bootstrap", permissions=("admin",), scopes=("*",), created_at=now,
    )  # fmt: skip
    hook_token = CredentialIssued(
        team_id=team_id, id=keys.hook_credential_of(key), prefix=auth.parse_hook_token(texts.hook_token).prefix, credential="hook_token",
        secret_hash=auth.hash_secret(pepper, texts.hook_token), name="bootstrap", permissions=(), source=source, created_at=now,
    )  # fmt: skip
    return api_key, hook_token


def _page(record: PaymentRecord, team_id: str, now: int) -> PageDebit | None:
    binding = record.binding
    if binding is None or binding.purpose != "page" or binding.target.team_id != team_id:
        return None
    event_id = keys.event_of(record.payment_key, now)
    return PageDebit(event_id=event_id, rows=binding.target.rows or 0, amount_atomic=binding.amount_atomic)
