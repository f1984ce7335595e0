"""A world around the payments processor, without IO: a log whose steps commit or not, a chain that mines and reorganises,
a facilitator that lies, accounts that apply commands. Everything happens when a test says so."""

from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from kite_billing.adapters.payments import PaymentsProcessor, PaymentTopics, State, record_of
from kite_billing.application.compare_blocks import compared
from kite_billing.application.prove_payment import prove
from kite_billing.application.scan_chain import Scanner
from kite_billing.application.settle_payment import Desk, Shared
from kite_billing.domain.payments.evidence import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    TRANSFER,
    Block,
    Log,
    Receipt,
    word_of,
)
from kite_billing.domain.payments.evolve import evolve
from kite_billing.domain.payments.facts import (
    Effect,
    EvidenceRead,
    Look,
    NoAnswer,
    Settle,
    SettleAnswer,
    SettleEnded,
    Success,
    Verified,
    Verify,
    VerifyAnswer,
)
from kite_billing.domain.payments.rules import BootstrapKeys, Rules
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.codec import Record, decode, encode
from kite_common.events.commands import CreditWallet, OpenAccount, ReverseCredit
from kite_common.events.fact import Fact
from kite_common.events.payment_record import PaymentRecord, ScanCursor
from kite_common.events.payments import CreditApplied, PaymentOutcome, PaymentStep, PaymentSubmitted
from kite_common.runtime.metrics import Metrics
from kite_common.stream.input import Input
from kite_common.stream.local import LocalFacts, LocalQueue
from kite_common.stream.transaction import Position, Step
from kite_common.testing import payments as make
from kite_common.topics import COMMANDS, PAYMENT_EVENTS, PAYMENTS

ResultT = TypeVar("ResultT")
TERMS = make.terms()
NOW_MS = make.NOW_S * 1_000


def rules(**given: Any) -> Rules:
    """Rules of the deployment the tests' payments are made for."""
    fields: dict[str, Any] = {
        "asset": TERMS.asset, "pay_to": TERMS.pay_to, "recipients": TERMS.recipients,
        "bootstrap": BootstrapKeys(b"k" * 32, b"pepper of the tests"),
    }  # fmt: skip
    return Rules(**(fields | given))


def word(number: int, what: str = "0") -> str:
    """32 bytes as hex."""
    return "0x" + f"{what}{number:x}".rjust(64, "0")


def done(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


@dataclass(frozen=True)
class Transfer:
    """A transaction of the world's chain: an authorization used or cancelled, one that the token refuses (`revert`), or a plain transfer
    (nonce None)."""

    payer: str
    nonce: str | None
    value: int
    valid_before_s: int = 1 << 62
    kind: str = "pay"
    number: int = 0


@dataclass
class WorldChain:
    """`kite_billing.application.ports.Chain` over blocks that tests mine and drop."""

    now_s: int = make.NOW_S
    blocks: list[tuple[int, str, list[Transfer]]] = field(default_factory=list)
    pool: list[Transfer] = field(default_factory=list)
    hashes: int = 0
    numbers: int = 0
    # Every payment to us that ever stood in a block: transaction, hash of the block, payer, value.
    ever_paid: set[tuple[str, str, str, int]] = field(default_factory=set)
    # What the token refused, by the hash of the block it stands in.
    reverted: dict[str, list[Transfer]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(3):
            self.mine([])

    def send(self, transfer: Transfer) -> str:
        """A transaction waits to be mined; its hash."""
        self.numbers += 1
        self.pool.append(Transfer(transfer.payer, transfer.nonce, transfer.value, transfer.valid_before_s, transfer.kind, self.numbers))
        return word(self.numbers, "f")

    def mine(self, transfers: Sequence[Transfer] | None = None) -> None:
        """A block with these, None = everything that waits; what the token refuses is reverted."""
        wanted = list(self.pool) if transfers is None else list(transfers)
        self.pool = [one for one in self.pool if one not in wanted]
        self.hashes += 1
        used, taken = self.used(), []
        for one in wanted:
            if one.kind == "revert" or (one.nonce is not None and ((one.payer, one.nonce) in used or self.now_s >= one.valid_before_s)):
                self.reverted.setdefault(word(self.hashes, "b"), []).append(one)
                continue
            taken.append(one)
            if one.nonce is not None:
                used[(one.payer, one.nonce)] = one
        self.blocks.append((self.now_s, word(self.hashes, "b"), taken))
        self.ever_paid |= {
            (word(one.number, "f"), word(self.hashes, "b"), one.payer, one.value) for one in taken if one.kind == "pay"
        }  # fmt: skip

    def reorganise(self, *, again: bool) -> None:
        """The newest block is another, empty one now; its transactions wait again, or are lost."""
        time, _, transfers = self.blocks.pop()
        self.hashes += 1
        self.blocks.append((time, word(self.hashes, "b"), []))
        if again:
            self.pool += transfers

    def used(self) -> dict[tuple[str, str], Transfer]:
        """Every nonce that is used up."""
        return {(one.payer, one.nonce): one for _, _, block in self.blocks for one in block if one.nonce is not None}

    def paid(self) -> int:
        """What payTo has."""
        return sum(one.value for _, _, block in self.blocks for one in block if one.kind == "pay")

    def _receipts(self) -> list[Receipt]:
        receipts = []
        for number, (_, block_hash, transfers) in enumerate(self.blocks):
            index = 0
            receipts += [
                Receipt(word(one.number, "f"), number, block_hash, False, ()) for one in self.reverted.get(block_hash, ())
            ]
            for one in transfers:
                logs, transaction = [], word(one.number, "f")
                topics: list[tuple[tuple[str, ...], str]] = []
                if one.nonce is not None:
                    first = AUTHORIZATION_CANCELED if one.kind == "cancel" else AUTHORIZATION_USED
                    topics.append(((first, word_of(one.payer), one.nonce), "0x"))
                if one.kind == "pay":
                    topics.append(((TRANSFER, word_of(one.payer), word_of(TERMS.pay_to)), hex(one.value)))
                for topic, data in topics:
                    logs.append(Log(TERMS.asset.address, topic, data, number, block_hash, transaction, index))
                    index += 1
                receipts.append(Receipt(transaction, number, block_hash, True, tuple(logs)))
        return receipts

    async def head(self) -> Block:
        return await self.block(len(self.blocks) - 1)

    async def block(self, number: int) -> Block:
        time, block_hash, _ = self.blocks[number]
        return Block(number, block_hash, time)

    async def receipt(self, transaction: str) -> Receipt | None:
        return next((one for one in self._receipts() if one.transaction == transaction), None)

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        return (payer, nonce) in self.used()

    async def logs_of_nonce(self, payer: str, nonce: str, first: int, last: int) -> Sequence[Log]:
        topics = (word_of(payer), nonce)
        return [log for one in self._receipts() for log in one.logs if log.topics[1:] == topics and first <= log.block <= last]

    async def transfers_to(self, pay_to: str, first: int, last: int) -> Sequence[Log]:
        return [log for one in self._receipts() for log in one.logs if log.topics[0] == TRANSFER and first <= log.block <= last]


@dataclass
class Accounts:
    """Applies commands of payments as the accounts processor does: by the seq of the key in the account."""

    applied: dict[tuple[str, str], int] = field(default_factory=dict)
    net: Counter[str] = field(default_factory=Counter)
    entries: list[tuple[str, str, int]] = field(default_factory=list)

    def apply(self, command: Fact) -> CreditApplied | None:
        """What comes of a command; a repeat is answered as before."""
        settled = command.payment if isinstance(command, OpenAccount) else getattr(command, "settled", None)
        assert settled is not None
        assert isinstance(command, OpenAccount | CreditWallet | ReverseCredit)
        place = (settled.payment_key, command.team_id)
        amount = command.balance_atomic if isinstance(command, OpenAccount) else command.amount_atomic
        if settled.seq > self.applied.get(place, 0):
            self.applied[place] = settled.seq
            signed = -amount if isinstance(command, ReverseCredit) else amount
            self.net[settled.payment_key] += signed
            self.entries.append((*place, signed))
        if isinstance(command, ReverseCredit):
            return None
        return CreditApplied(
            payment_key=settled.payment_key, seq=settled.seq, team_id=command.team_id, balance_after_atomic=amount, applied=1, partition=0
        )


class Hands:
    """`kite_billing.adapters.payments.Works` that lets a test decide when anything is done."""

    def __init__(self) -> None:
        self.ordered: list[tuple[Effect, PaymentRecord]] = []
        self.told: list[PaymentOutcome] = []
        self.desk: Desk | None = None
        self.cursor: Callable[[str], ScanCursor | None] = lambda _: None

    def owns(self, partition: int, desk: Desk, cursor: Callable[[str], ScanCursor | None]) -> None:
        self.desk, self.cursor = desk, cursor

    def begin(self, partition: int, effect: Effect, record: PaymentRecord) -> None:
        self.ordered.append((effect, record))

    def tell(self, outcomes: Sequence[PaymentOutcome]) -> None:
        self.told += outcomes

    def releases(self, partition: int) -> None:
        self.ordered.clear()


class World:
    """All of it, with one partition."""

    def __init__(self, **given: Any) -> None:
        self.rules, self.chain, self.accounts = rules(**given), WorldChain(), Accounts()
        self.clock = FrozenClock(from_unix_ms(NOW_MS))
        self.inbox: list[Record] = []
        self.commands: list[Fact] = []
        self.states: dict[str, State] = {}
        self.events: list[PaymentStep] = []
        self.outcomes: list[PaymentOutcome] = []
        self.folded: dict[str, PaymentRecord | None] = {}
        self.decided: list[tuple[str, Any]] = []
        self.scanner = Scanner(self.chain, self.rules.asset, self.rules.pay_to, 1, 5, from_block=1)
        self.offset = self.submissions = 0
        self.ever_sent: set[str] = set()
        self.settles: defaultdict[str, int] = defaultdict(int)
        self.start()

    @property
    def now_ms(self) -> int:
        return self.clock.unix_ms()

    def start(self) -> None:
        """A new owner with what is in the log."""
        self.shared = Shared(fit=True, head=len(self.chain.blocks) - 1)
        self.facts, self.hands, self.metrics = LocalFacts(), Hands(), Metrics()
        self.processor = PaymentsProcessor(self.rules, self.shared, self.facts, self.hands, 1, self.clock, self.metrics)
        self.queue: LocalQueue = self.facts.open(0)
        self.processor.restored(0, self.states, Position(0, 0))

    def restart(self) -> None:
        """The owner dies: what it was at is gone."""
        self.processor.released(0)
        self.start()

    def publish(self, fact: Fact) -> None:
        """A record for the inbox."""
        self.inbox.append(encode(fact))

    def submit(self, number: int = 0, **given: Any) -> PaymentSubmitted:
        """A caller shows the first payer's payment with this nonce, now; each call is another submission."""
        self.submissions += 1
        fields: dict[str, Any] = {
            "submission_id": f"submission-{self.submissions}", "authorization": make.authorization(nonce=word(number, "a")),
            "signature": "0x" + "1b" * 65, "sent_at": self.now_ms, "deadline": self.now_ms + 20_000,
        }  # fmt: skip
        made = make.submitted(**(fields | given))
        self.publish(made)
        return made

    def told(self, submission: PaymentSubmitted) -> PaymentOutcome | None:
        """What its caller was told; at most one thing."""
        found = [one for one in self.outcomes if one.submission_id == submission.submission_id]
        assert len(found) <= 1
        return found[0] if found else None

    def step(self, *, records: int = 100, commit: bool = True) -> Step[State]:
        """Decide about what waits; without `commit` the transaction fails, and a new owner begins."""
        inputs = [self._input(one) for one in self.inbox[self.offset : self.offset + records]]
        local = self.queue.take(100)
        step = self.processor.step_local(0, inputs, local, self.states, 0)
        if not commit:
            self.restart()
            return step
        self.offset += len(inputs)
        self._commit(step)
        return step

    def record(self, key: str) -> PaymentRecord | None:
        """The committed record of a key."""
        return record_of(self.states.get(key))

    def records(self) -> dict[str, PaymentRecord]:
        """All committed records."""
        found = {key: record_of(state) for key, state in self.states.items()}
        return {key: record for key, record in found.items() if record is not None}

    def next_effect(self, kind: type[Effect], key: str | None = None) -> tuple[Effect, PaymentRecord]:
        """Take the oldest ordered effect of a kind."""
        found = next(one for one in self.hands.ordered if isinstance(one[0], kind) and key in (None, one[0].key))
        self.hands.ordered.remove(found)
        return found

    def has_effect(self, kind: type[Effect]) -> bool:
        return any(isinstance(effect, kind) for effect, _ in self.hands.ordered)

    def verify(self, answer: VerifyAnswer) -> None:
        """The facilitator answers the oldest verify."""
        effect, record = self.next_effect(Verify)
        assert record.state == "claimed"
        self.queue.put(Verified(effect.key, answer))

    def settle(self, answer: Callable[[str], SettleAnswer], *, sends: bool, kind: str = "pay") -> None:
        """The facilitator answers the oldest settle, having sent the transaction or not; it is told the hash."""
        effect, record = self.next_effect(Settle)
        committed = self.record(effect.key)
        assert committed is not None
        assert (committed.state, committed.sent) == ("settling", True), "no settle without a committed PaymentSettling"
        self.settles[effect.key] += 1
        self.queue.put(SettleEnded(effect.key, answer(self.pay(record, kind) if sends else word(9, "e"))))

    def pay(self, record: PaymentRecord, kind: str = "pay") -> str:
        """Somebody submits the record's authorization; `revert`: its payer has no money by then."""
        assert record.authorization is not None
        made = record.authorization
        return self.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before), kind))

    def look(self) -> None:
        """The oldest look is answered by the chain as it is now."""
        effect, _ = self.next_effect(Look)
        assert isinstance(effect, Look)
        evidence, head = done(prove(self.chain, self.rules.asset.address, effect.question))
        self.shared.head = max(self.shared.head, head)
        self.queue.put(EvidenceRead(effect.key, evidence, head))

    def pass_time(self, seconds: float) -> None:
        """Time goes on, on the chain too, and keys that asked for it are woken."""
        self.clock.advance(timedelta(seconds=seconds))
        self.chain.now_s = self.now_ms // 1_000
        self.wake()

    def wake(self) -> None:
        """Tell keys whose time has come."""
        assert self.hands.desk is not None
        for due in self.hands.desk.due(self.now_ms):
            self.queue.put(due)

    def watch(self) -> None:
        """Compare blocks, as the owner does from time to time."""
        done(self._compare())

    async def _compare(self) -> None:
        assert self.hands.desk is not None
        head = len(self.chain.blocks) - 1
        async for fact in compared(self.chain, head, self.hands.desk.watched, self.rules.watch_blocks):
            self.queue.put(fact)

    def scan(self) -> None:
        """Read the next range of the chain."""
        cursor = self.hands.cursor(self.scanner.key)
        scanned = done(self.scanner.first()) if cursor is None else done(self.scanner.next(cursor))[0]
        if scanned is not None:
            self.queue.put(scanned)

    def apply_commands(self, *, twice: bool = False) -> None:
        """Accounts apply what waits."""
        waiting, self.commands = self.commands, []
        for command in waiting:
            for _ in range(2 if twice else 1):
                applied = self.accounts.apply(command)
                if applied is not None:
                    self.publish(applied)

    def settle_down(self) -> None:
        """Nothing lies or fails any more: everything that was begun comes to its end."""
        for _ in range(400):
            busy = bool(self.hands.ordered) or self.offset < len(self.inbox) or bool(self.commands)
            while self.has_effect(Look):
                self.look()
            while self.has_effect(Verify):
                self.verify(NoAnswer("down"))
            while self.has_effect(Settle):
                self.settle(Success, sends=True)
                self.chain.mine()
            self.apply_commands()
            self.watch()
            self.scan()
            self.step()
            if not busy and not self.hands.ordered and self.offset == len(self.inbox) and not self.commands:
                break
        else:
            raise AssertionError("it does not come to rest")

    def _input(self, record: Record) -> Input:
        return Input(PAYMENTS.name, 0, 0, self.now_ms, record.key, record.value, record.headers)

    def _commit(self, step: Step[State]) -> None:
        self.states.update(step.states)
        for key in step.removed:
            del self.states[key]
        topics = PaymentTopics()
        for topic, record in step.records:
            assert topic == PAYMENT_EVENTS.name, (topic, record)
            fact = decode(record.headers, record.value)
            assert isinstance(fact, PaymentStep)
            self.events.append(fact)
        for topic, partition, record in step.elsewhere:
            assert partition == 0
            if topic == topics.inbox:
                self.inbox.append(record)
            elif topic == COMMANDS.name:
                self.commands.append(decode(record.headers, record.value))
        self._fold(step)
        self.processor.committed(0, step, Position(0, 0))
        self.outcomes += self.hands.told
        self.hands.told.clear()

    def _fold(self, step: Step[State]) -> None:
        for effect in step.effects:
            decided = effect.decided  # type: ignore[attr-defined]
            for event in decided.decision.events:
                self.folded[decided.key] = evolve(self.folded.get(decided.key), event, decided.key)
                self.decided.append((decided.key, event))
            if decided.decision.removed:
                self.folded.pop(decided.key, None)
