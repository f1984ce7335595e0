"""Whatever fails or dies around a paid event, in any order, however often it is repeated: one credit, one event, and at last one answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import ApiError, KiteError, OutcomeOpen, Unavailable
from kite_common.events.payments import PaymentOutcome, PaymentResult
from kite_common.events.usage import UsageRecorded
from kite_common.ids import TeamId
from kite_common.projection.keys import LAPSE_MS
from kite_common.testing import make, payments
from kite_common.x402.key import event_of
from kite_gateway.application.accept_message import Accepted, AcceptMessage, Submission
from kite_gateway.application.accept_paid import AcceptPaid, Answer, Credited
from kite_gateway.domain.admission import Claim
from kite_gateway.domain.topup import Due, Needed
from kite_gateway.testing import Account, CountingIds, FakeReservations

TEAM, DEPOSIT, PRICE = TeamId(make.TEAM), 1_000_000, 100
CREDITED = payments.outcome()
EVENT = event_of(CREDITED.payment_key, make.NOW_MS)
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
# What one append does: whether the records are in the log, and what its caller is told.
APPENDS = {
    "written": (True, None),
    "refused": (False, Unavailable),
    "lost without an answer": (False, OutcomeOpen),
    "written without an answer": (True, OutcomeOpen),
    "dead before": (False, None),
    "dead after": (True, None),
}


class Died(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass
class World:
    """A gateway, and billing's side of it; `append` and `keeps` are what goes wrong next."""

    reservations: FakeReservations = field(
        default_factory=lambda: FakeReservations({TEAM: Account(price=PRICE, balance=0)}, now_ms=make.NOW_MS)
    )
    logged: list[str] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    kept: list[PaymentResult] = field(default_factory=list)
    credits: int = 0
    append_next: str = "written"
    keeps: bool = True
    arrives: bool = True

    async def append(self, team_id: TeamId, event: bytes, traceparent: str, usage: UsageRecorded, received_ms: int) -> None:  # noqa: ARG002
        written, error = APPENDS[self.append_next]
        if written:
            self.logged.append(usage.event_id)
        if self.append_next.startswith("dead"):
            raise Died
        if error is not None:
            raise error("the log")

    async def of_account(self, team_id: TeamId, applied: int | None, timeout_s: float) -> bool:  # noqa: ARG002 - the port's signature
        return self.arrives

    async def of_team(self, team_id: TeamId, api_key: str | None, timeout_s: float) -> bool:  # noqa: ARG002 - the port's signature
        return self.arrives

    async def keep(self, result: PaymentResult) -> None:
        if self.keeps:
            self.kept.append(result)

    async def pay(self, due: Due) -> PaymentOutcome | None:
        """A till before a billing that takes the payment once, and only where it is needed."""
        if not self.credits:
            if not isinstance(due, Needed):
                return None
            self.credits += 1
            account = self.reservations.accounts[TEAM]
            self.reservations.accounts[TEAM] = replace(account, balance=account.balance + DEPOSIT)
        kept = self.kept[0] if self.kept else None
        return CREDITED.model_copy(update={"stored_status": kept and kept.status, "stored_body": kept and kept.body})

    def bill(self) -> None:
        """Billing reads the log to its end."""
        for event_id in [one for one in self.logged if one not in self.settled]:
            self.settled.add(event_id)
            self.reservations.settle(EVENT if event_id == EVENT else event_id)  # type: ignore[arg-type]  # plain text

    def time_passes(self) -> None:
        """Stream time passes all reservations there are, which it does only behind what is in the log."""
        self.bill()
        self.reservations.now_ms += LAPSE_MS + 2
        self.reservations.stream_time_ms = self.reservations.now_ms - 1


async def send(world: World, key: str | None) -> Answer | None:
    """One request with the payment; None for whatever is no success."""
    clock = FrozenClock(from_unix_ms(make.NOW_MS))
    accept = AcceptMessage(world.reservations, world, clock, CountingIds())
    paid = AcceptPaid(accept, world, world)
    submission = Submission(TEAM, make.agent_message(), TRACE, Claim(key * 32, "body") if key else None)
    try:
        looked = await paid.look(submission)
        result = await paid(submission, looked, world, rendered)
    except (KiteError, Died):
        return None
    if isinstance(result, Credited):
        return result.answer
    return rendered(result) if isinstance(result, Accepted) else None


def rendered(accepted: Accepted) -> Answer:
    return Answer(202, f"{accepted.event_id} {accepted.usage.events_used}".encode())


Step = Callable[[World], None]
sends = st.tuples(st.sampled_from([None, "k", "l"]), st.sampled_from(sorted(APPENDS)), st.booleans(), st.booleans())
between = st.sampled_from(["nothing", "bill", "time passes"])


@given(st.lists(st.tuples(sends, between), max_size=8))
def test_a_payment_is_one_event_whatever_fails_between_its_repeats(schedule: list[tuple[tuple[str | None, str, bool, bool], str]]) -> None:
    world = World()

    async def run() -> None:
        answers = set()
        for (key, world.append_next, world.keeps, world.arrives), then in schedule:
            answers.add(await send(world, key))
            assert world.logged.count(EVENT) <= 1
            if then == "bill":
                world.bill()
            elif then == "time passes":
                world.time_passes()
        world.append_next, world.keeps, world.arrives = "written", True, True
        world.time_passes()
        last = await send(world, None)
        assert last is not None
        assert answers <= {None, last}
        assert (await send(world, "m")) == last
        world.bill()

    asyncio.run(run())
    assert (world.logged, world.credits) == ([EVENT], 1)
    assert world.reservations.accounts[TEAM].balance == DEPOSIT - PRICE
    assert world.reservations.held == {}


@given(st.lists(st.sampled_from([None, "k", "l"]), min_size=2, max_size=12), st.sampled_from(sorted(APPENDS)))
def test_copies_at_once_are_one_event(copies: list[str | None], first_append: str) -> None:
    world = World(append_next=first_append)

    async def run() -> set[Answer | None]:
        first = await asyncio.gather(*(send(world, key) for key in copies))
        world.append_next = "written"
        world.time_passes()
        return {*first, await send(world, None)}

    answers = asyncio.run(run())
    assert len(answers - {None}) == 1
    assert (world.logged, world.credits) == ([EVENT], 1)


def test_a_credit_of_another_team_pays_for_nothing() -> None:
    class Elsewhere(World):
        async def pay(self, due: Due) -> PaymentOutcome | None:  # noqa: ARG002 - whatever it is for
            return CREDITED.model_copy(update={"team_id": "team_other"})

    async def run(world: World) -> ApiError:
        paid = AcceptPaid(AcceptMessage(world.reservations, world, FrozenClock(from_unix_ms(make.NOW_MS)), CountingIds()), world, world)
        submission = Submission(TEAM, make.agent_message(), TRACE)
        try:
            await paid(submission, await paid.look(submission), world, rendered)
        except ApiError as error:
            return error
        raise AssertionError("it was accepted")

    world = Elsewhere()
    error = asyncio.run(run(world))
    assert (error.code, world.logged) == ("payment_already_used", [])
