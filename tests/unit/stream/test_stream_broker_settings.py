"""Which settings of a broker would lose a position."""

import pytest

from kite_common.stream.admin import broker_problems
from kite_common.topics import EVENTS, OFFSETS_RETENTION_MINUTES


def test_positions_are_to_be_kept_as_long_as_events() -> None:
    assert EVENTS.retention_ms == OFFSETS_RETENTION_MINUTES * 60_000


@pytest.mark.parametrize("value", ["129600", "9999999"])
def test_a_broker_that_keeps_positions_long_enough_is_right(value: str) -> None:
    assert broker_problems(1, {"offsets.retention.minutes": value}) == []


@pytest.mark.parametrize("settings", [{"offsets.retention.minutes": "10080"}, {"offsets.retention.minutes": "129599"}, {}])
def test_one_that_forgets_them_earlier_or_does_not_tell_is_named(settings: dict[str, str]) -> None:
    [problem] = broker_problems(7, settings)
    assert problem.startswith("broker 7: offsets.retention.minutes is ")
