"""All that one benchmark found, as plain values that go to JSON as they are. Judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kite_cli.bench.accept import Accepting, Journeys
from kite_cli.bench.cold_start import Start
from kite_cli.bench.drain import Drain
from kite_cli.bench.machine import Machine
from kite_cli.bench.options import Sizes
from kite_cli.bench.payments import Paying
from kite_cli.bench.profiling import Profile


@dataclass(slots=True)
class Results:
    """What was not measured is empty. `at` is the date (UTC) of the beginning, `quick` marks a run that only tries the tool out."""

    machine: Machine
    sizes: Sizes
    at: str
    quick: bool
    starts: tuple[Start, ...] = ()
    accepting: Accepting | None = None
    journeys: Journeys | None = None
    drains: tuple[Drain, ...] = ()
    payments: tuple[Paying, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values: dict[str, Any] = orjson.loads(orjson.dumps(self))
        return values
