"""What the chain proves, and what the scanner finds on it: over a chain that tests mine, reorganise and break."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from kite_billing.application.compare_blocks import compared
from kite_billing.application.ports import ChainUnreadable
from kite_billing.application.prove_payment import LOG_MISSING, prove
from kite_billing.application.scan_chain import Scanner
from kite_billing.domain.payments.evidence import AUTHORIZATION_USED, TRANSFER, Block, Log, Receipt, used_before, word_of
from kite_billing.domain.payments.facts import Closed, DeepEnough, Evidence, HashChanged, NotYet, Open, Paid, Question, Unreadable
from kite_billing.domain.payments.scan import RANGE_BLOCKS, range_after
from kite_common.events.payment_record import Place, ScanCursor
from kite_common.testing import payments
from kite_common.x402.key import transfer_key
from support.payments_world import TERMS, Transfer, WorldChain, done, word

PAYER = payments.address(payments.payer())
ASSET = TERMS.asset.address
NONCE = word(1, "a")
VALUE = 1_000_000


def question(**given: object) -> Question:
    asked = Question(
        payer=PAYER, pay_to=TERMS.pay_to, value=VALUE, nonce=NONCE, valid_before_s=payments.NOW_S + 300, hints=(), place=None,
        claim_block=3, needed_depth=1,
    )  # fmt: skip
    return replace(asked, **given)  # type: ignore[arg-type]


def evidence(chain: WorldChain, **given: object) -> Evidence:
    return done(prove(chain, ASSET, question(**given)))[0]


def used(chain: WorldChain, kind: str = "pay", value: int = VALUE) -> str:
    transaction = chain.send(Transfer(PAYER, NONCE, value, kind=kind))
    chain.mine()
    return transaction


@pytest.fixture
def chain() -> WorldChain:
    return WorldChain()


def test_an_unused_authorization_is_open_until_a_block_of_the_end_of_its_window_is_deep(chain: WorldChain) -> None:
    assert evidence(chain) == Open()
    chain.now_s += 299
    chain.mine([])
    assert evidence(chain) == Open()
    chain.now_s += 1
    chain.mine([])
    assert evidence(chain, needed_depth=2) == Open()
    chain.mine([])
    assert evidence(chain, needed_depth=2) == Closed("authorization_expired")


@pytest.mark.parametrize("hinted", [False, True])
def test_a_payment_is_proven_by_its_transfer_at_the_needed_depth(chain: WorldChain, hinted: bool) -> None:
    transaction = used(chain)
    hints = (transaction,) if hinted else ()
    assert evidence(chain, hints=hints, needed_depth=3) == NotYet(transaction)
    chain.mine([])
    chain.mine([])
    found = evidence(chain, hints=hints, needed_depth=3)
    assert isinstance(found, Paid)
    assert (found.place.transaction, found.place.block, found.place.log_index) == (transaction, 3, 1)


def test_what_is_unused_comes_with_the_named_transactions_that_were_reverted(chain: WorldChain) -> None:
    transaction = used(chain, "revert")
    assert evidence(chain, hints=(word(9, "e"), transaction)) == Open((transaction,))
    assert isinstance(evidence(chain, hints=(transaction, used(chain))), Paid)


def test_a_made_up_hash_proves_nothing(chain: WorldChain) -> None:
    assert evidence(chain, hints=(word(9, "e"),)) == Open()


@pytest.mark.parametrize(("kind", "reason"), [("cancel", "authorization_canceled"), ("elsewhere", "authorization_used_elsewhere")])
def test_a_used_nonce_alone_is_no_payment(chain: WorldChain, kind: str, reason: str) -> None:
    used(chain, kind)
    found = evidence(chain)
    assert isinstance(found, Closed)
    assert found.reason == reason


@pytest.mark.parametrize("given_", [{"value": VALUE + 1}, {"pay_to": "0x" + "99" * 20}])
def test_a_transfer_of_other_values_is_not_ours(chain: WorldChain, given_: dict[str, object]) -> None:
    used(chain)
    assert evidence(chain, **given_) == Closed("authorization_used_elsewhere")


@dataclass
class OneTransaction(WorldChain):
    """A chain whose newest block has one transaction with these logs."""

    logs: tuple[Log, ...] = ()

    async def receipt(self, transaction: str) -> Receipt | None:
        return Receipt(word(1, "f"), 2, self.blocks[2][1], True, self.logs)

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        return True

    async def logs_of_nonce(self, payer: str, nonce: str, first: int, last: int) -> Sequence[Log]:
        return [log for log in self.logs if log.topics[1:] == (word_of(payer), nonce)]


def logs(*wanted: tuple[str, ...]) -> tuple[Log, ...]:
    return tuple(
        Log(ASSET, topics, hex(VALUE) if topics[0] == TRANSFER else "0x", 2, "0xb", word(1, "f"), index)
        for index, topics in enumerate(wanted)
    )


USE, OTHER_USE = (AUTHORIZATION_USED, word_of(PAYER), NONCE), (AUTHORIZATION_USED, word_of(PAYER), word(2, "a"))
TO_US, TO_OTHERS = (TRANSFER, word_of(PAYER), word_of(TERMS.pay_to)), (TRANSFER, word_of(PAYER), word_of("0x" + "99" * 20))


@pytest.mark.parametrize(
    ("order", "is_paid"),
    [
        ((USE, TO_US), True),
        ((OTHER_USE, TO_OTHERS, USE, TO_US), True),
        ((USE, TO_OTHERS, OTHER_USE, TO_US), False),
        ((USE, OTHER_USE, TO_US), False),
        ((TO_US, USE), False),
    ],
    ids=["alone", "after another", "pays others, another pays us", "one transfer for two", "before it"],
)
def test_only_the_transfer_directly_behind_the_use_counts(order: tuple[tuple[str, ...], ...], is_paid: bool) -> None:
    found = evidence(OneTransaction(logs=logs(*order)))
    assert isinstance(found, Paid) is is_paid
    assert is_paid or found == Closed("authorization_used_elsewhere")


@dataclass
class Broken(WorldChain):
    """A node that cannot answer one kind of question, or has not got a log."""

    broken: str = ""

    async def head(self) -> Block:
        self._fail("head")
        return await super().head()

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        self._fail("state")
        return await super().authorization_used(payer, nonce, at_block)

    async def logs_of_nonce(self, payer: str, nonce: str, first: int, last: int) -> Sequence[Log]:
        self._fail("logs")
        return [] if self.broken == "no log" else await super().logs_of_nonce(payer, nonce, first, last)

    async def receipt(self, transaction: str) -> Receipt | None:
        return None if self.broken == "no receipt" else await super().receipt(transaction)

    def _fail(self, what: str) -> None:
        if self.broken == what:
            raise ChainUnreadable("eth_call: TimeoutError")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("head", "eth_call: TimeoutError"), ("state", "eth_call: TimeoutError"), ("logs", "eth_call: TimeoutError"),
        ("no log", LOG_MISSING), ("no receipt", "receipt_missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_never_guessed(broken: str, why: str) -> None:
    chain = Broken(broken=broken)
    used(chain)
    assert evidence(chain) == Unreadable(why)


def test_a_plain_transfer_is_known_by_its_place_and_gone_only_when_its_block_is(chain: WorldChain) -> None:
    transaction = chain.send(Transfer(PAYER, None, VALUE))
    chain.mine()
    place = Place(transaction=transaction, block=3, block_hash=chain.blocks[3][1], log_index=0)
    asked: dict[str, object] = {"nonce": None, "place": place, "transfer_number": 0, "valid_before_s": None}
    assert evidence(chain, **asked) == Paid(place)
    chain.reorganise(again=True)
    assert evidence(chain, **asked) == Open()
    chain.mine()
    moved = evidence(chain, **asked)
    assert isinstance(moved, Paid)
    assert moved.place.block == 4


def scanner(chain: WorldChain, depth: int = 1) -> Scanner:
    return Scanner(chain, TERMS.asset, TERMS.pay_to, depth, 2, from_block=3)


def scanned(chain: WorldChain, cursor: ScanCursor) -> tuple[ScanCursor, list[str]]:
    found, _ = done(scanner(chain).next(cursor))
    assert found is not None
    return found.cursor, [one.payment_key for one in found.seen]


def test_the_scanner_reports_each_transfer_under_its_key_and_adds_them_up(chain: WorldChain) -> None:
    cursor = done(scanner(chain).first()).cursor
    used(chain)
    plain = chain.send(Transfer(PAYER, None, 70_000))
    chain.mine()
    after, keys = scanned(chain, cursor)
    assert keys == [f"{TERMS.asset.network}|{ASSET}|{PAYER}|{NONCE}", transfer_key(TERMS.asset, PAYER, plain, 0)]
    assert (after.block, after.total) == (4, str(VALUE + 70_000))
    assert done(scanner(chain).next(after))[0] is None


def test_after_a_reorganisation_it_steps_back_and_counts_anew(chain: WorldChain) -> None:
    cursor = done(scanner(chain).first()).cursor
    used(chain)
    cursor, _ = scanned(chain, cursor)
    chain.reorganise(again=True)
    cursor, keys = scanned(chain, cursor)
    assert (keys, cursor.block, cursor.total) == ([], 2, "0")
    chain.mine()
    cursor, keys = scanned(chain, cursor)
    assert (len(keys), cursor.total) == (1, str(VALUE))


def test_it_never_steps_back_before_the_first_scanned_block(chain: WorldChain) -> None:
    used(chain)
    cursor = done(Scanner(chain, TERMS.asset, TERMS.pay_to, 1, 2, from_block=4).first()).cursor
    chain.mine([])
    cursor, _ = scanned(chain, cursor)
    chain.reorganise(again=False)
    for expected in (3, 4):
        cursor, keys = scanned(chain, cursor)
        assert (keys, cursor.block, cursor.total) == ([], expected, "0")


def test_it_waits_for_the_depth_and_for_a_node_that_lags(chain: WorldChain) -> None:
    cursor = done(scanner(chain, depth=2).first()).cursor
    used(chain)
    assert done(scanner(chain, depth=2).next(cursor)) == (None, 0)
    ahead = cursor.model_copy(update={"block": 99})
    assert done(scanner(chain).next(ahead)) == (None, 0)


def test_ranges_are_as_long_as_a_node_answers(chain: WorldChain) -> None:
    cursor = done(scanner(chain).first()).cursor
    assert range_after(cursor, cursor.block) is None
    first, last = range_after(cursor, cursor.block + 10 * RANGE_BLOCKS) or (0, 0)
    assert (first, last - first + 1) == (cursor.block + 1, RANGE_BLOCKS)


def test_a_use_by_another_payer_or_of_another_token_is_not_the_transfers_own() -> None:
    use, transfer = logs(USE, TO_US)
    assert used_before(transfer, (use, transfer), ASSET) == NONCE
    assert used_before(transfer, (replace(use, address="0x" + "77" * 20), transfer), ASSET) is None
    assert used_before(transfer, (replace(use, topics=(USE[0], word_of("0x" + "77" * 20), NONCE)), transfer), ASSET) is None
    assert used_before(transfer, (replace(use, index=5), transfer), ASSET) is None


async def changes(chain: WorldChain, watch_blocks: int, *places: tuple[int, str]) -> list[HashChanged | DeepEnough]:
    """What comparing these blocks says, each under its number in the list."""
    watched = {
        str(number): Place(transaction=word(number, "f"), block=block, block_hash=block_hash, log_index=0)
        for number, (block, block_hash) in enumerate(places)
    }
    return [one async for one in compared(chain, len(chain.blocks) - 1, watched, watch_blocks)]


def test_every_watched_block_is_compared_whatever_stands_above_or_beside_it(chain: WorldChain) -> None:
    stands, lost = [(number, block[1]) for number, block in enumerate(chain.blocks)], word(99, "b")
    assert done(changes(chain, 9, stands[2], stands[1], (1, lost), (0, lost))) == [HashChanged("2"), HashChanged("3")]


def test_what_stands_deep_enough_is_watched_no_longer_and_what_is_above_the_head_waits(chain: WorldChain) -> None:
    stands = [(number, block[1]) for number, block in enumerate(chain.blocks)]
    assert done(changes(chain, 2, *stands, (3, word(99, "b")))) == [DeepEnough("1"), DeepEnough("0")]
