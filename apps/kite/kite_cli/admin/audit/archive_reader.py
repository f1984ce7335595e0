"""Reads what the archive holds: sums of blocks and, of blocks that differ, rows. A server over HTTP, or the engine in this process."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from kite_cli.admin.audit.archive import BLOCK_BITS, KEPT_OF_ERASED, Block, Differing, Slice, TableName
from kite_cli.admin.audit.bounds import Span
from kite_common.errors import Unavailable
from kite_common.runtime.system import SystemClock
from kite_replay.adapters.clickhouse.address import Address, InProcess, parse_address
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.generations import generations_of
from kite_replay.domain.generation import serving

# What names a row beside its position, time and team, and its bytes.
_NAMED_BY: Final[dict[TableName, tuple[str, str]]] = {
    "events": ("event_id", "body"), "ledger": ("entry_id", "fact"), "deliveries": ("delivery_id", "fact")
}  # fmt: skip
_SETTINGS: Final = {"max_execution_time": 3600, "max_threads": 2}


class ArchiveReader:
    """Opens on construction. All of it blocks, and raises Unavailable."""

    def __init__(self, url: str) -> None:
        address = parse_address(url)
        try:
            address = _served(address)
            self._client = open_client(address, address.database)
        except (ClickHouseError, OSError) as error:
            raise _away(error, address) from error
        self._address = address

    def close(self) -> None:
        """End of use; the engine lets go of its folder."""
        self._client.close()

    def tails(self, table: TableName) -> dict[int, int]:
        """The offset of the last row, by partition."""
        # `count()` keeps it from the projection: what is audited is the rows.
        rows = self._query(f"SELECT partition, max(log_offset), count() FROM {table} GROUP BY partition")  # noqa: S608 - our table names
        return {int(partition): int(last) for partition, last, _ in rows}

    def left(self, table: TableName, teams: Collection[str]) -> dict[str, int]:
        """How many rows there are of these teams, by team; those without are left out."""
        if not teams or table in KEPT_OF_ERASED:
            return {}
        text = f"SELECT team_id, count() FROM {table} WHERE team_id IN {{erased:Array(String)}} GROUP BY team_id"  # noqa: S608
        return {str(team_id): int(rows) for team_id, rows in self._query(text, {"erased": sorted(teams)})}

    def slices(self, table: TableName, spans: Mapping[int, Span], erased: Collection[str]) -> dict[int, Slice]:
        """What there is of these offsets, by partition, but for what is still there of erased teams."""
        text = (
            f"SELECT partition, bitShiftRight(log_offset, {BLOCK_BITS}) AS block, count(), sum({_digest(table)}) FROM {table}"  # noqa: S608
            f" WHERE {_within()}{_without(table, erased)} GROUP BY partition, block"
        )
        parameters = _bounds(spans) | {"erased": sorted(erased)}
        blocks: dict[int, dict[int, Block]] = {number: {} for number in spans}
        for partition, block, rows, digests in self._query(text, parameters):
            blocks[int(partition)][int(block)] = Block(int(rows), int(digests))
        before = self._query(
            f"SELECT partition, toUnixTimestamp64Milli(max(created_at)) FROM {table}"  # noqa: S608
            " WHERE log_offset < {firsts:Array(UInt64)}[indexOf({partitions:Array(UInt16)}, partition)] GROUP BY partition", parameters,
        )  # fmt: skip
        times = {int(partition): int(at_ms) for partition, at_ms in before}
        return {number: Slice(span.first, span.end, times.get(number, 0), blocks[number]) for number, span in spans.items()}

    def rows(self, differing: Differing, erased: Collection[str]) -> dict[int, list[int]]:
        """The digests of a block's rows, by offset, but for those of erased teams."""
        first, end = differing.block << BLOCK_BITS, (differing.block + 1) << BLOCK_BITS
        span = Span(max(first, differing.first), min(end, differing.end))
        text = f"SELECT log_offset, {_digest(differing.table)} FROM {differing.table} WHERE {_within()}"  # noqa: S608
        text += _without(differing.table, erased)
        found: dict[int, list[int]] = {}
        for offset, digest in self._query(text, _bounds({differing.partition: span}) | {"erased": sorted(erased)}):
            found.setdefault(int(offset), []).append(int(digest))
        return found

    def _query(self, text: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        try:
            return self._client.query(text, parameters=dict(parameters or {}), settings=_SETTINGS).result_rows
        except (ClickHouseError, OSError) as error:
            raise _away(error, self._address) from error


def _served(address: Address) -> Address:
    """The generation that is served now (docs/rebuilds.md). Raises Unavailable while another takes over."""
    generations = generations_of(address)
    number = serving(generations.last(), SystemClock().unix_ms())
    if number is None:
        raise Unavailable("the archive is being replaced by one that was rebuilt: audit again in two minutes")
    return generations.address(number)


def _digest(table: TableName) -> str:
    name, content = _NAMED_BY[table]
    parts = f"toString(log_offset), ':', toString(toUnixTimestamp64Milli(created_at)), ':', team_id, ':', {name}, ':', {content}"
    return f"CRC32(concat({parts}))"


def _within() -> str:
    place = "indexOf({partitions:Array(UInt16)}, partition)"
    return (
        "has({partitions:Array(UInt16)}, partition)"
        f" AND log_offset >= {{firsts:Array(UInt64)}}[{place}] AND log_offset < {{ends:Array(UInt64)}}[{place}]"
    )


def _without(table: TableName, erased: Collection[str]) -> str:
    return " AND team_id NOT IN {erased:Array(String)}" if erased and table not in KEPT_OF_ERASED else ""


def _bounds(spans: Mapping[int, Span]) -> dict[str, Any]:
    return {
        "partitions": list(spans), "firsts": [span.first for span in spans.values()], "ends": [span.end for span in spans.values()]
    }  # fmt: skip


def _away(error: Exception, address: Address) -> Unavailable:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200] if isinstance(address, InProcess) else type(error).__name__
    return Unavailable(f"the archive does not answer: {reason}")
