"""What callers and receivers were told, kept by those who were told it. Times are seconds of time.monotonic(). Asks nobody."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message or hook that was answered 202.

    `text` is what only this one has in it. `first_tried_s` is when its first try began, `tried_s` the one that was answered, `is_first`
    False if that was the answer to an earlier try. `price_atomic` None: whatever its plan says at the moment.
    """

    team_id: str
    text: str
    gateway: str
    first_tried_s: float
    tried_s: float
    answered_s: float
    is_first: bool
    price_atomic: int | None


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment that was answered 200. `page_atomic` 0: a deposit."""

    team_id: str
    transaction: str
    amount_atomic: int
    began_s: float
    answered_s: float
    page_atomic: int = 0


@dataclass(slots=True)
class Walk:
    """What one reader was shown, in the order it was: (event id, kiteseq, created_at). `charged_atomic`: what its pages said they cost."""

    team_id: str
    rows: list[tuple[str, int, str]] = field(default_factory=list)
    charged_atomic: int = 0


@dataclass(slots=True)
class Arrived:
    """Webhooks of one event: when the first came, how many came, a digest of each body that was seen."""

    team_id: str
    first_s: float
    count: int = 0
    bodies: set[bytes] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Said:
    """A setting that was answered: what was asked for, and what a look at the end must show."""

    team_id: str
    what: str
    value: str


@dataclass(slots=True)
class Memory:
    """All of it, by event id where there is one. `open_texts` were never answered: they may be in the log or not."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    paid: list[Paid] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    arrived: dict[str, Arrived] = field(default_factory=dict)
    said: dict[tuple[str, str], Said] = field(default_factory=dict)
    billed_s: dict[str, float] = field(default_factory=dict)
    read_s: dict[str, float] = field(default_factory=dict)
    open_texts: set[str] = field(default_factory=set)
    twice_answered: list[str] = field(default_factory=list)
    wrong_answers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    def accept(self, event_id: str, accepted: Accepted) -> None:
        """Remember a 202. Two messages with one id are remembered, too."""
        known = self.accepted.setdefault(event_id, accepted)
        if known.text != accepted.text:
            self.twice_answered.append(event_id)
