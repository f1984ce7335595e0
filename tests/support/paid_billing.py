"""Billing with payments on: a process to kill, a chain of its own, a facilitator and a node that do as they are told, and callers.

Callers speak to billing as edges do: through the log, and Redis for the answer. Signatures, transfers and balances are real.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from kite_cli.admin.payments_audit import Audit, PaidAt, audit_payments
from kite_cli.admin.whole_topic import read_topic
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.target import LogTarget
from kite_common import ids
from kite_common.events.codec import decode, encode
from kite_common.events.commands import OpenAccount
from kite_common.events.fact import Fact
from kite_common.events.ledger import LedgerEntry
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import Authorization, PaymentFact, PaymentOutcome, PaymentSubmitted, Target
from kite_common.log_position import partition_of
from kite_common.plans import shipped_catalog
from kite_common.projection.payments import PaymentSender
from kite_common.runtime.faults import FAULT_POINT
from kite_common.runtime.system import SystemClock, random_bytes, token_hex
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.state import MARKER_KEY
from kite_common.topics import (
    ACCOUNTS,
    COMMANDS,
    CREDENTIALS,
    DEAD_LETTERS,
    EVENTS,
    LEDGER,
    PAYMENT_EVENTS,
    PAYMENT_STATES,
    PAYMENTS,
    Topic,
)
from kite_common.x402.key import payment_key, payment_partition, transfer_key
from kite_common.x402.networks import asset_of
from support import chain as chains
from support.chain import PAY_TO, OwnChain, own_chain
from support.chain_faults import SECRET_TEXT, FacilitatorDouble, RpcProxy, facilitator_double, rpc_proxy
from support.log import running
from support.stack import RunningStack

PARTITIONS: Final = 2
# A database of our own, so that other tests may wipe theirs.
DATABASE: Final = 10
USDC: Final = asset_of("eip155:84532")
# Short, so that a call whose end nobody knows may be made again soon.
SETTLE_TIMEOUT_S: Final = 2.0
WAIT_S: Final = 6.0
_TOPICS: Final = (EVENTS, COMMANDS, ACCOUNTS, LEDGER, DEAD_LETTERS, CREDENTIALS, PAYMENTS, PAYMENT_EVENTS, PAYMENT_STATES)
_PROGRAM: Final = Path(__file__).parents[1] / "integration" / "billing" / "billing_forks.py"


@dataclass(frozen=True)
class Payment:
    """A signed authorization and the one request it pays for."""

    signed: chains.Authorization
    team_id: str
    fingerprint: str

    @property
    def authorization(self) -> Authorization:
        """As it stands in the log."""
        one = self.signed
        return Authorization(
            from_address=one.payer.lower(), to_address=one.to.lower(), value=str(one.value), valid_after=str(one.valid_after),
            valid_before=str(one.valid_before), nonce=one.nonce,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """Its payment key."""
        return payment_key(USDC, self.authorization)

    def submission(self, wait_s: float = WAIT_S, **given: Any) -> PaymentSubmitted:
        """One showing of it, now."""
        now = SystemClock().unix_ms()
        fields: dict[str, Any] = {
            "payment_key": self.key, "submission_id": str(uuid.uuid4()), "sent_at": now, "deadline": now + round(wait_s * 1_000),
            "purpose": "deposit", "fingerprint": self.fingerprint, "target": Target(team_id=self.team_id),
            "authorization": self.authorization, "signature": self.signed.signature, "x402_version": 2, "pay_to": PAY_TO.lower(),
            "amount_atomic": self.signed.value,
        }  # fmt: skip
        return PaymentSubmitted(**(fields | given))


@dataclass
class Process:
    """A billing process. `returncode` None: it runs, as far as is known."""

    forks: "Forks"
    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self.forks.ask({"poll": self.pid})
        return self.returncode

    def kill(self) -> None:
        """SIGKILL it, and wait for its end."""
        if self.returncode is None:
            self.returncode = self.forks.ask({"kill": self.pid})


class Forks:
    """Starts billing processes quickly: see `billing_forks.py`."""

    def __init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("X402_", "KITE_"))}
        self._inherited = inherited
        self._parent = subprocess.Popen([sys.executable, str(_PROGRAM)], env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, environment: Mapping[str, str], prefix: str, log: Path) -> Process:
        """A new process with these settings."""
        pid = self.ask({"start": self._inherited | dict(environment), "prefix": prefix, "log": str(log)})
        assert pid is not None
        return Process(self, pid)

    def ask(self, order: Mapping[str, Any]) -> int | None:
        """The answer to an order."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(order).encode() + b"\n")
        self._parent.stdin.flush()
        answer: int | None = json.loads(self._parent.stdout.readline())
        return answer

    def close(self) -> None:
        """Kill all that still run."""
        self._parent.communicate()


@dataclass
class PaidBilling:
    """The scene. `facilitator` and `node` are honest at first."""

    chain: OwnChain
    facilitator: FacilitatorDouble
    node: RpcProxy
    kafka: Kafka
    prefix: str
    redis: Redis
    sender: PaymentSender
    inbox: Publisher
    commands: Publisher
    log: Path
    port: int
    environment: dict[str, str]
    forks: "Forks"
    payments: list[Payment] = field(default_factory=list)

    @property
    def target(self) -> LogTarget:
        """The log as operators reach it."""
        return LogTarget(self.kafka.bootstrap, "", PARTITIONS, 1, None, prefix=self.prefix)

    def start(self, fault: str | None = None, **environment: str) -> Process:
        """Billing as a process, which dies at a point if one is given; started again under the same name."""
        armed = {} if fault is None else {FAULT_POINT: fault}
        return self.forks.start(self.environment | environment | armed, self.prefix, self.log)

    async def payment(self, value: int = chains.USDC, **given: Any) -> Payment:
        """A payment nobody has seen, of a payer with money, for a team of its own."""
        payer = await self.chain.payer()
        return self.payment_of(payer, value, **given)

    def payment_of(self, payer: chains.Payer, value: int = chains.USDC, **given: Any) -> Payment:
        """The same, of this payer."""
        made = Payment(payer.authorize(value, **given), ids.new_team_id(random_bytes(16)), random_bytes(32).hex())
        self.payments.append(made)
        return made

    async def show(self, payment: Payment, **given: Any) -> PaymentOutcome:
        """Show a payment once; `pending` if nobody answers in time."""
        return await self.sender.submit(payment.submission(**given))

    async def pay(self, payment: Payment, within_s: float = 60.0) -> PaymentOutcome:
        """Pay as a client does that resends the same payment on 503 and never signs anew; the first other answer."""
        async with asyncio.timeout(within_s):
            while True:
                outcome = await self.show(payment)
                if outcome.result not in ("pending", "not_taken"):
                    return outcome
                await asyncio.sleep(0.2)

    async def open_team(self, balance: int = chains.USDC) -> str:
        """Open an account as operators do, without a payment."""
        plan = shipped_catalog().by_name("starter")
        assert plan is not None
        opened = OpenAccount(
            team_id=ids.new_team_id(random_bytes(16)), command_id=str(uuid.uuid4()), sent_at=SystemClock().unix_ms(), plan_id=plan.id,
            provider="x402", balance_atomic=balance,
        )  # fmt: skip
        await self.commands.publish(partition_of(opened.team_id.encode(), PARTITIONS), [encode(opened)])
        return opened.team_id

    async def balance(self, team_id: str) -> int:
        """What a team's wallet has, by the ledger."""
        return sum(one.amount_atomic for one in await self.read(LEDGER) if isinstance(one, LedgerEntry) and one.team_id == team_id)

    async def publish(self, fact: PaymentFact) -> None:
        """A record for the inbox of payments, as others than callers write it."""
        await self.inbox.publish(payment_partition(fact.payment_key, PARTITIONS), [encode(fact)])

    async def transfer(self, amount: int) -> str:
        """Somebody sends payTo money without a word; the key it will have."""
        transaction = await self.chain.transfer(PAY_TO, amount)
        receipt = await self.chain.receipt(transaction)
        assert receipt is not None
        return transfer_key(USDC, receipt["from"], transaction, 0)

    async def read(self, topic: Topic) -> list[Fact]:
        """Everything committed in a topic, the owners' markers left out."""
        inputs = await read_topic(self.target, topic, range(PARTITIONS))
        return [decode(one.headers, one.value) for one in inputs if one.key != MARKER_KEY and one.value is not None]

    async def record(self, key: str) -> PaymentRecord | None:
        """The newest record of a key."""
        records = [one for one in await self.read(PAYMENT_STATES) if isinstance(one, PaymentRecord) and one.payment_key == key]
        return records[-1] if records else None

    async def state(self, key: str) -> str | None:
        """The state of a key."""
        record = await self.record(key)
        return None if record is None else record.state

    async def entries(self, team_id: str) -> list[int]:
        """What payments have moved in a team's wallet, in order."""
        ledger = [one for one in await self.read(LEDGER) if isinstance(one, LedgerEntry)]
        return [one.amount_atomic for one in ledger if one.team_id == team_id and one.payment is not None]

    async def audit(self, within_s: float = 20.0) -> Audit:
        """What `kitectl payments audit` finds."""
        return await audit_payments(self.target, PaidAt(self.chain.url, self.chain.token, (PAY_TO,)), 0, within_s)

    async def readiness(self) -> tuple[int, str]:
        """Status and body of /readyz; raises OSError while nobody listens."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: billing\r\nconnection: close\r\n\r\n")
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            writer.close()

    async def metrics(self) -> str:
        """The text of /metrics."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nhost: billing\r\nconnection: close\r\n\r\n")
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def secrets_in_the_open(self) -> list[str]:
        """Where something stands that must stand nowhere: signatures in the log of the process or in steps, texts of others in either."""
        shown, steps = self.log.read_text(), "".join(one.to_json().decode() for one in await self.read(PAYMENT_EVENTS))
        secrets = [SECRET_TEXT, "sk_live_4711", *(one.signed.signature for one in self.payments)]
        return [f"{secret[:20]} in {name}" for secret in secrets for name, text in (("log", shown), ("steps", steps)) if secret in text]


@contextlib.asynccontextmanager
async def paid_billing(stack: RunningStack, folder: Path) -> AsyncIterator[PaidBilling]:
    """A scene with topics, database, chain, facilitator and node of its own; billing is not started."""
    prefix, url = f"t{token_hex(4)}.", stack.redis_url.rsplit("/", 1)[0] + f"/{DATABASE}"
    kafka, book = Kafka(stack.kafka, client_id="test"), PortBook()
    await ensure_topics(kafka, [replace(topic, name=prefix + topic.name) for topic in _TOPICS], PARTITIONS, 1)
    redis = Redis.from_url(url)
    await redis.flushdb()
    inbox, commands = (Publisher(kafka, prefix + topic.name, PARTITIONS) for topic in (PAYMENTS, COMMANDS))
    sender = PaymentSender(redis, inbox, PARTITIONS, WAIT_S)
    async with contextlib.AsyncExitStack() as open_things:
        open_things.push_async_callback(redis.aclose)
        open_things.callback(book.release)
        chain = await open_things.enter_async_context(own_chain(folder / "chain"))
        facilitator = await open_things.enter_async_context(facilitator_double(chain))
        node = await open_things.enter_async_context(rpc_proxy(chain.url))
        await open_things.enter_async_context(running(inbox, commands, sender))
        port = book.pick()
        environment = _environment(stack, url, prefix, port, facilitator, node)
        log = folder / "billing.log"
        forks = Forks()
        open_things.callback(forks.close)
        yield PaidBilling(chain, facilitator, node, kafka, prefix, redis, sender, inbox, commands, log, port, environment, forks)


def _environment(
    stack: RunningStack, redis_url: str, prefix: str, port: int, facilitator: FacilitatorDouble, node: RpcProxy
) -> dict[str, str]:
    return {
        "KITE_KAFKA_BOOTSTRAP": stack.kafka, "KITE_REDIS_URL": redis_url, "KITE_PARTITIONS": str(PARTITIONS), "KITE_INSTANCE": prefix,
        "KITE_HOST": LOOPBACK, "KITE_PORT": str(port), "KITE_API_KEY_PEPPER": "pepper of the tests", "PYTHONUNBUFFERED": "1",
        "X402_ENABLED": "true", "X402_PAY_TO": PAY_TO, "X402_RPC_URL": node.own_url, "X402_FACILITATOR_URL": facilitator.url,
        "X402_BOOTSTRAP_CIPHER_KEY": "c" * 32, "X402_SETTLE_TIMEOUT_S": str(SETTLE_TIMEOUT_S), "X402_VERIFY_TIMEOUT_S": "2",
        "X402_SCAN_FROM_BLOCK": "0",
    }  # fmt: skip
