"""A process that stood still for half a session knows it before it writes, also if what it writes is the first thing it does."""

import pytest

from kite_common.stream.pulse import BEAT_S, SESSION_S, Pulse


@pytest.mark.parametrize(("still_s", "is_regular"), [
    (0.0, True), (SESSION_S / 2, True), (SESSION_S / 2 + BEAT_S + 0.01, False), (SESSION_S, False), (3_600.0, False),
])  # fmt: skip
def test_whoever_stood_still_for_half_a_session_is_not_regular(still_s: float, is_regular: bool) -> None:
    now = 100.0
    pulse = Pulse(lambda: now)
    now += still_s
    assert pulse.is_regular == is_regular
    assert pulse.still_s == pytest.approx(still_s)


def test_a_beat_begins_anew() -> None:
    now = 100.0
    pulse = Pulse(lambda: now)
    for _ in range(10):
        now += SESSION_S / 3
        assert pulse.is_regular
        pulse.beat()
