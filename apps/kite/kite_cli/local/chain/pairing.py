"""Chain and log belong together: the log knows payments of this chain and no other. Kept or dropped together, or the start ends here."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.local.step import StepFailed

_MARK: Final = "generation"
# Beside the chain's mark once the chain was saved: holds that mark.
_SAVED: Final = "saved"


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two: its folder, and whether anything was ever stored in it."""

    folder: Path
    has_data: bool

    @property
    def generation(self) -> str:
        """The mark it shares with its other half; empty if it has none, or nothing that a mark could be of."""
        return _read(self.folder / _MARK) if self.has_data else ""


def pair(log: Half, chain: Half) -> None:
    """Mark both as belonging together if neither belongs to another. Raises StepFailed if they do not belong together."""
    if chain.has_data and chain.generation != log.generation:
        raise _separated("its log is gone or another one")
    if log.generation and not chain.has_data and not _is_unsaved(chain.folder, log.generation):
        raise _separated("the chain is gone")
    mark = log.generation or secrets.token_hex(8)
    for half in (chain, log):  # the chain first: a log that has a mark had a chain, also if this ends between the two
        half.folder.mkdir(parents=True, exist_ok=True)
        _write(half.folder / _MARK, mark)
    if chain.has_data:
        note_saved(chain.folder)


def note_saved(chain: Path) -> None:
    """Remember that the chain of this folder has a state, so that it is missed when it is gone. Raises OSError."""
    _write(chain / _SAVED, _read(chain / _MARK))


def _is_unsaved(chain: Path, generation: str) -> bool:
    """Say whether the chain was ended before it had a state, which is none that could be gone."""
    return _read(chain / _MARK) == generation != _read(chain / _SAVED)


def _read(path: Path) -> str:
    return path.read_text("ascii").strip() if path.exists() else ""


def _write(path: Path, mark: str) -> None:
    if _read(path) == mark:
        return
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(mark + "\n", "ascii")
    temporary.replace(path)


def _separated(reason: str) -> StepFailed:
    return StepFailed(
        "chain",
        f"the local chain and the log of the payments on it do not belong together: {reason}",
        "Keep or drop both: put back what was removed, or move the whole data folder away to start with an empty one.",
    )
