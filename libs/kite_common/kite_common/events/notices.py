"""`kite.subscription.*`: what Kite tells a team in its own stream about limits and funds (wire contract, 9.3). Knows no account."""

from dataclasses import dataclass
from typing import Final, Literal

import orjson

from kite_common.clock import rfc3339
from kite_common.events.accounts import BlockReason
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record
from kite_common.events.envelope import CONTENT_TYPE_HEADER
from kite_common.ids import EventId

NoticeKind = Literal["quota_warning", "quota_exhausted", "quota_restored", "payment_failed"]
SOURCE: Final = "https://getkite.sh/billing"
_PREFIX: Final = "kite.subscription."
_HEADERS: Final = ((RECORD_HEADER, EVENT_RECORD), CONTENT_TYPE_HEADER)


@dataclass(frozen=True, slots=True)
class SubscriptionNotice:
    """One notice. `events_used` and `events_limit` are those of the reason's scope, of the month where it has none.

    `reason` is None for payment_failed; `balance_atomic` on plans without a wallet.
    """

    team_id: str
    event_id: EventId
    kind: NoticeKind
    at_ms: int
    reason: BlockReason | None
    events_used: int
    events_limit: int
    balance_atomic: int | None
    period_end_ms: int

    @property
    def type(self) -> str:
        """The CloudEvent type."""
        return _PREFIX + self.kind

    def to_event(self) -> bytes:
        """The stored CloudEvent: JSON bytes, without kiteseq; equal notices give equal bytes."""
        told = {} if self.reason is None else {"reason": self.reason}
        return orjson.dumps({
            "specversion": "1.0",
            "id": self.event_id,
            "source": SOURCE,
            "type": self.type,
            "time": rfc3339(self.at_ms),
            "datacontenttype": "application/json",
            "data": {
                **told,
                "events_used": self.events_used,
                "events_limit": self.events_limit,
                "balance_atomic": self.balance_atomic,
                "current_period_end": rfc3339(self.period_end_ms),
            },
            "kiteid": self.event_id,
            "kitesummary": f"{self.type} from kite",
        })  # fmt: skip

    def record(self) -> Record:
        """The record of kite.events. No usage stands beside it: notices are free."""
        return Record(self.team_id.encode(), self.to_event(), _HEADERS)
