"""Puts the payments processor together from plain values. Connects to nothing before it runs."""

from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from kite_billing.adapters.chain import RpcChain
from kite_billing.adapters.facilitator import HttpFacilitator
from kite_billing.adapters.fitness import Fitness
from kite_billing.adapters.payment_work import PaymentWork, WorkParts
from kite_billing.adapters.payments import PaymentsProcessor, PaymentTopics
from kite_billing.application.scan_chain import Scanner
from kite_billing.application.settle_payment import Shared
from kite_billing.domain.payments.rules import BootstrapKeys, Rules
from kite_common.clock import Clock
from kite_common.projection.payments import tell
from kite_common.runtime.component import Component
from kite_common.runtime.metrics import Metrics
from kite_common.stream.group import GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.local import LocalFacts
from kite_common.stream.transaction import TransactionalOwner
from kite_common.x402.terms import PaymentTerms

GROUP: Final = "kite-payments"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsSetup:
    """What a deployment decides. Without `pepper`, or a cipher key in the terms, nobody can be bootstrapped; `plans`: ids of those a new
    team may have."""

    terms: PaymentTerms
    rpc_url: str = field(repr=False)
    facilitator_url: str
    facilitator_token: str | None = field(repr=False)
    pepper: bytes | None = field(repr=False)
    verify_timeout_s: float
    confirmations: int
    confirmations_large: int
    large_atomic: int
    watch_blocks: int
    scan_from_block: int | None
    partitions: int
    instance: str
    plans: frozenset[str]


def rules_of(setup: PaymentsSetup) -> Rules:
    """The rules of the state machine."""
    terms = setup.terms
    keys = BootstrapKeys(terms.cipher_key, setup.pepper) if terms.cipher_key is not None and setup.pepper is not None else None
    return Rules(
        asset=terms.asset, pay_to=terms.pay_to, recipients=terms.recipients, bootstrap=keys, max_timeout_s=terms.max_timeout_s,
        settle_timeout_s=terms.settle_timeout_s, credential_window_s=terms.credential_window_s, confirmations=setup.confirmations,
        confirmations_large=setup.confirmations_large, large_atomic=setup.large_atomic, watch_blocks=setup.watch_blocks,
        plans=setup.plans,
    )  # fmt: skip


def payments(setup: PaymentsSetup, kafka: Kafka, redis: Redis, metrics: Metrics, clock: Clock, prefix: str = "") -> list[Component]:
    """The components in the order they start. `redis` belongs to the caller, who closes it after them."""
    rules, shared, facts, topics = rules_of(setup), Shared(), LocalFacts(), PaymentTopics.behind(prefix)
    chain = RpcChain(setup.rpc_url, rules.asset.address)
    facilitator = HttpFacilitator(
        setup.facilitator_url, setup.facilitator_token, verify_timeout_s=setup.verify_timeout_s, settle_timeout_s=rules.settle_timeout_s
    )
    scanner = Scanner(chain, rules.asset, rules.pay_to, rules.confirmations, rules.watch_blocks, setup.scan_from_block)
    fitness = Fitness(chain, facilitator, rules.asset, shared, lambda: work.cursor(), metrics)
    parts = WorkParts(facilitator, chain, scanner, lambda outcomes: tell(redis, outcomes), clock, metrics)
    work = PaymentWork(parts, rules, shared, facts, watch_s=fitness.watch_s)
    processor = PaymentsProcessor(rules, shared, facts, work, setup.partitions, clock, metrics, topics)
    group, inputs = prefix + GROUP, (topics.inbox,)
    owner = TransactionalOwner(kafka, group, inputs, topics.states, processor, metrics, local=processor)
    return [fitness, work, GroupConsumer(kafka, group, inputs, setup.instance, owner, metrics, partitions=setup.partitions)]
