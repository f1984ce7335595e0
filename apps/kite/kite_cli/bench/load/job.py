"""What a generator is told to do and what it answers: plain values that travel as JSON lines. Does nothing."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

Kind = Literal["closed", "open", "delivered", "replayable"]


@dataclass(frozen=True, slots=True)
class Sender:
    """A team that sends, with its key. repr() hides the key."""

    team_id: str
    key: str

    def __repr__(self) -> str:
        return f"Sender({self.team_id})"


@dataclass(frozen=True, slots=True)
class Job:
    """One run against a gateway on loopback.

    `rate` is messages a second (of no meaning for `closed`), `body_bytes` the length of each message's text, `seed` fixes the arrival
    times. The first `warm_up_s` seconds are sent like all others and not counted.
    """

    kind: Kind
    port: int
    senders: tuple[Sender, ...]
    connections: int
    rate: float
    warm_up_s: float
    measure_s: float
    body_bytes: int
    seed: int
    patience_s: float = 10.0

    def to_json(self) -> bytes:
        """One line."""
        return orjson.dumps(asdict(self))

    @staticmethod
    def from_json(line: bytes) -> "Job":
        """The job of a line that `to_json` made."""
        fields: dict[str, Any] = orjson.loads(line)
        return Job(**fields | {"senders": tuple(Sender(**one) for one in fields["senders"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. Latencies are milliseconds.

    `statuses`: answers by HTTP status; 0 = the connection was lost, -1 = no answer in time. `per_s`: answers with 202 a second.
    `late_p99_ms`: how late the generator itself was with requests for which a connection was free; it is part of the latencies.
    `unseen`: accepted messages that did not arrive where the run waits for them (`delivered` and `replayable` only).
    """

    count: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float
    statuses: dict[str, int]
    late_p99_ms: float = 0.0
    unseen: int = 0

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "Outcome":
        """The outcome of its JSON object, in which a figure that there is none of (no answers) is null."""
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in fields.items()}
        return Outcome(**known)

    @property
    def errors(self) -> int:
        """Answers that are not 202, and answers that did not come."""
        return sum(count for status, count in self.statuses.items() if status != "202")
