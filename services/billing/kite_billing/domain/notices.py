"""What a team has to be told about its limits and funds, once per cause: compares an account with what it was told. Sends nothing.

Blocked means what admission refuses for: a quota used up, or a wallet that cannot pay for one event. Billing sees it when the charges are
settled, moments after admission has begun to refuse.
"""

from dataclasses import dataclass
from typing import Final

from kite_common.events.accounts import AccountSnapshot, Block, BlockReason, Subscription
from kite_common.events.notices import NoticeKind, SubscriptionNotice
from kite_common.ids import EventId, TeamId, notice_of
from kite_common.money import UNLIMITED

DAY_MS: Final = 86_400_000
# Above every counter, below every balance.
NEVER: Final = UNLIMITED + 1
_NO_BALANCE: Final = -1


@dataclass(frozen=True, slots=True)
class Noticed:
    """The account that remembers what was told, and what is to be told now, in order."""

    account: AccountSnapshot
    notices: tuple[SubscriptionNotice, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """Until one of these is reached `noticed` has nothing to tell: events of the period, events of the day, balance below."""

    used: int
    day_used: int
    balance: int


def noticed(account: AccountSnapshot, cause: str, at_ms: int) -> Noticed:
    """Tell what `cause` (an event or command id) has led to; nothing if the team knows it all. Without an active subscription nothing
    is blocked, and nothing is restored."""
    current = account.subscription
    if current is None or current.status != "active":
        return Noticed(account.model_copy(update={"blocks": ()}) if account.blocks else account)
    told = _Telling(account, current, at_ms)
    told.warn("month", account.warned_month, f"{current.id}:{current.period_start}")
    told.warn("day", account.warned_day, str(account.day))
    told.compare(blocking(account, current), cause)
    return Noticed(account.model_copy(update=told.changes) if told.changes else account, tuple(told.notices))


def payment_failed(account: AccountSnapshot, current: Subscription, command_id: str, at_ms: int) -> SubscriptionNotice:
    """The notice that the subscription is past due from now on."""
    return _Telling(account, current, at_ms).notice("payment_failed", None, command_id)


def blocking(account: AccountSnapshot, current: Subscription) -> tuple[BlockReason, ...]:
    """Why ingest is refused under an active subscription, in the order admission checks."""
    found: list[BlockReason] = []
    if account.period_used >= current.terms.events_per_month:
        found.append("month")
    if account.day_used >= current.terms.events_per_day:
        found.append("day")
    if account.balance_atomic < current.price_atomic_per_event:
        found.append("wallet")
    return tuple(found)


def watch(account: AccountSnapshot) -> Watch:
    """What charging has to look out for, given what the team was told."""
    current = account.subscription
    if current is None or current.status != "active":
        return Watch(NEVER, NEVER, _NO_BALANCE)
    told = {block.reason for block in account.blocks}
    return Watch(
        _next(current.terms.events_per_month, account.warned_month, told=("month" in told)),
        _next(current.terms.events_per_day, account.warned_day, told=("day" in told)),
        _NO_BALANCE if "wallet" in told else current.price_atomic_per_event,
    )


def due_ms(account: AccountSnapshot) -> int | None:
    """When time alone ends a block of this account; None if it has none of that kind."""
    current, reasons = account.subscription, {block.reason for block in account.blocks}
    ends = [(account.day + 1) * DAY_MS] if "day" in reasons else []
    if "month" in reasons and current is not None:
        ends.append(current.period_end)
    return min(ends, default=None)


def _next(limit: int, warned: int, *, told: bool) -> int:
    if told:
        return NEVER
    return limit if warned == limit else _warn_at(limit)


def _warn_at(limit: int) -> int:
    """80 %, rounded up."""
    return -(-limit * 4 // 5)


class _Telling:
    """One look at an account: notices, and changes of what is remembered."""

    def __init__(self, account: AccountSnapshot, current: Subscription, at_ms: int) -> None:
        self._account, self._current, self._at_ms = account, current, at_ms
        self.notices: list[SubscriptionNotice] = []
        self.changes: dict[str, object] = {}

    def warn(self, reason: BlockReason, warned: int, span: str) -> None:
        used, limit = self._scope(reason)
        if warned == limit or used < _warn_at(limit):
            return
        self.changes[f"warned_{reason}"] = limit
        # Who is told that all is used up need not be told that little is left.
        if used < limit:
            self.notices.append(self.notice("quota_warning", reason, f"{reason}:{span}:{limit}"))

    def compare(self, reasons: tuple[BlockReason, ...], cause: str) -> None:
        known = {block.reason: block for block in self._account.blocks}
        if reasons == tuple(known):
            return
        blocks = []
        for reason in reasons:
            if reason not in known:
                self.notices.append(self.notice("quota_exhausted", reason, f"{reason}:{cause}"))
                blocks.append(Block(reason, self.notices[-1].event_id))
            else:
                blocks.append(known[reason])
        if not blocks:
            ended = self._account.blocks[0]
            self.notices.append(self.notice("quota_restored", ended.reason, ended.notice_id))
        self.changes["blocks"] = tuple(blocks)

    def notice(self, kind: NoticeKind, reason: BlockReason | None, cause: str) -> SubscriptionNotice:
        account, current = self._account, self._current
        used, limit = self._scope(reason)
        return SubscriptionNotice(
            team_id=account.team_id, event_id=EventId(notice_of(TeamId(account.team_id), f"{kind}:{cause}")), kind=kind,
            at_ms=self._at_ms, reason=reason, events_used=used, events_limit=limit,
            balance_atomic=account.balance_atomic if current.provider == "x402" else None, period_end_ms=current.period_end,
        )  # fmt: skip

    def _scope(self, reason: BlockReason | None) -> tuple[int, int]:
        account, terms = self._account, self._current.terms
        return (account.day_used, terms.events_per_day) if reason == "day" else (account.period_used, terms.events_per_month)
