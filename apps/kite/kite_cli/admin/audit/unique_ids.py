"""Whether any of many ids stands twice, in bounded memory: ids are dealt out to files by their last byte, and each file is looked at alone.

Sorting 16-byte ids with numpy would need a dependency the command does not have, and a table in SQLite takes about ten times as long an
id. So 24 bytes an id (16 of the id, 8 of its offset) are appended to one of 64 buckets; a bucket that is full goes to its file.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BUCKETS: Final = 64
_ID: Final = 16
_ENTRY: Final = _ID + 8
# 64 of them are 4 MiB a process.
_FULL: Final = 64 * 1024


class UniqueIds:
    """Ids with the offsets they stand at. `folder` must exist; files in it are named after `name`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._files = [folder / f"{name}.{bucket}" for bucket in range(_BUCKETS)]
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self.count = 0

    def add(self, text: str, offset: int) -> None:
        """An id stands at an offset."""
        self.count += 1
        packed = _packed(text)
        number = packed[-1] % _BUCKETS
        bucket = self._buckets[number]
        bucket += packed + offset.to_bytes(8, "big")
        if len(bucket) >= _FULL:
            with self._files[number].open("ab") as file:
                file.write(bucket)
            bucket.clear()

    def doubled(self) -> Iterator[tuple[str, int, int]]:
        """Each id that stands more than once: the id as far as it is known, where it stands first, and where again. Ends the use."""
        for number, path in enumerate(self._files):
            content = bytes(self._buckets[number])
            self._buckets[number] = bytearray()
            if path.exists():
                content = path.read_bytes() + content
                path.unlink()
            ids = [content[at : at + _ID] for at in range(0, len(content), _ENTRY)]
            if len(set(ids)) != len(ids):
                yield from _repeats(ids, content)


def _repeats(ids: list[bytes], content: bytes) -> Iterator[tuple[str, int, int]]:
    first: dict[bytes, int] = {}
    for place, packed in enumerate(ids):
        offset = int.from_bytes(content[place * _ENTRY + _ID : (place + 1) * _ENTRY], "big")
        if packed in first:
            yield _text(packed), first[packed], offset
        else:
            first[packed] = offset


def _packed(text: str) -> bytes:
    try:
        packed = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        packed = b""
    # What is no UUID is told apart by its digest.
    return packed if len(packed) == _ID else hashlib.sha256(text.encode()).digest()[:_ID]


def _text(packed: bytes) -> str:
    digits = packed.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
