"""From where to where a log is read, and what its readers had done by then."""

from collections.abc import Mapping, Sequence
from typing import cast

from kite_cli.admin.audit.log_reader import LogReader
from kite_cli.admin.audit.partition import DELIVERY_GROUP, RETRIES_GROUP
from kite_cli.admin.audit.plan import ARCHIVE_GROUP, BILLING_GROUP, bounds
from kite_common.topics import EVENTS, RETRIES

PREFIX = "mine-"


class Log:
    """Every group has read up to 7 of everything; every topic has offsets 0 to 10."""

    async def committed(self, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[tuple[str, int], int]]:
        assert all(group.startswith(PREFIX) for group in groups)
        return {group: {(topic, 0): 7 for topic in topics} for group, topics in groups.items()}

    async def ends(self, topics: Sequence[str], partitions: Sequence[int]) -> dict[tuple[str, int], int]:
        return {(topic, number): 10 for topic in topics for number in partitions}

    async def firsts(self, topics: Sequence[str], partitions: Sequence[int], since_ms: int | None = None) -> dict[tuple[str, int], int]:
        return {(topic, number): 0 if since_ms is None else 3 for topic in topics for number in partitions}


async def test_what_groups_have_read_is_found_by_their_names() -> None:
    """Behind a prefix nobody was found: what had no outcome counted as not delivered yet, whatever delivery had done."""
    found = await bounds(cast(LogReader, Log()), PREFIX, [0], None)
    for looked in (found.before, found.after):
        assert looked.keys() >= {BILLING_GROUP, DELIVERY_GROUP, RETRIES_GROUP, ARCHIVE_GROUP}
        assert looked[DELIVERY_GROUP][PREFIX + EVENTS.name, 0] == 7
        assert looked[RETRIES_GROUP][PREFIX + RETRIES[0].name, 0] == 7


async def test_only_what_grows_by_use_is_cut_by_a_time() -> None:
    found = await bounds(cast(LogReader, Log()), PREFIX, [0], 1)
    assert found.spans[PREFIX + EVENTS.name, 0].first == 3
    assert found.spans[PREFIX + RETRIES[0].name, 0].first == 0
