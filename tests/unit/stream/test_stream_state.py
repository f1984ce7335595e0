"""The marker of a state topic, and where an owner may begin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.stream.state import MARKER_KEY, Marker, StateMismatch, read_marker, start_positions


class FakeFeed:
    """Committed positions of a group; every topic begins at 2."""

    partition = 5

    def __init__(self, committed: dict[str, int]) -> None:
        self._committed = committed

    async def committed(self, topic: str) -> int | None:
        return self._committed.get(topic)

    async def seek_to_beginning(self, topic: str) -> int:
        return {"a": 2, "b": 2}[topic]

    async def end_offset(self, topic: str) -> int:
        return {"a": 9, "b": 9}[topic]


@given(st.dictionaries(st.text(), st.integers(0, 1 << 53)), st.integers(0, 1 << 53))
def test_a_marker_is_read_as_it_was_written(positions: dict[str, int], applied: int) -> None:
    marker = Marker(positions, applied)
    record = marker.record()
    assert record.key == MARKER_KEY
    assert read_marker(record.value) == marker


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"positions":[]}', b'{"positions":{"a":"x"},"applied":1}', b"\xff"])
def test_other_bytes_are_no_marker(value: bytes | None) -> None:
    with pytest.raises(Malformed):
        read_marker(value)


@pytest.mark.parametrize(
    ("marked", "committed", "expected"),
    [
        ({}, {}, {"a": 2, "b": 2}),
        ({"a": 7}, {"a": 7}, {"a": 7, "b": 2}),
        ({"a": 7, "b": 9}, {"a": 7, "b": 9}, {"a": 7, "b": 9}),
        # The group's positions expire when it is away for a week; the marker does not.
        ({"a": 7, "b": 9}, {}, {"a": 7, "b": 9}),
    ],
)
async def test_an_owner_begins_where_state_and_group_agree(
    marked: dict[str, int], committed: dict[str, int], expected: dict[str, int]
) -> None:
    assert await start_positions(FakeFeed(committed), ["a", "b"], Marker(marked)) == expected


@pytest.mark.parametrize(
    ("marked", "committed"),
    [({}, {"a": 7}), ({"a": 6}, {"a": 7}), ({"a": 8}, {"a": 7}), ({"a": 7}, {"a": 7, "b": 1}), ({"a": 10}, {"a": 10})],
)
async def test_it_refuses_to_begin_where_they_do_not(marked: dict[str, int], committed: dict[str, int]) -> None:
    with pytest.raises(StateMismatch):
        await start_positions(FakeFeed(committed), ["a", "b"], Marker(marked))
