"""Chain and log belong together: the log knows payments of this chain and no other. Kept or dropped together, or the start ends here."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.local.step import StepFailed

_MARK: Final = "generation"


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two: its folder, and whether anything was ever stored in it."""

    folder: Path
    has_data: bool

    @property
    def generation(self) -> str:
        """The mark it shares with its other half; empty if it has none, or nothing that a mark could be of."""
        path = self.folder / _MARK
        return path.read_text("ascii").strip() if self.has_data and path.exists() else ""


def pair(log: Half, chain: Half) -> None:
    """Mark both as belonging together if neither belongs to another. Raises StepFailed if they do not belong together."""
    if chain.has_data and chain.generation != log.generation:
        raise _separated("its log is gone or another one")
    if log.generation and not chain.has_data and not (chain.folder / _MARK).exists():
        raise _separated("the chain is gone")
    mark = log.generation or secrets.token_hex(8)
    for half in (log, chain):
        half.folder.mkdir(parents=True, exist_ok=True)
        (half.folder / _MARK).write_text(mark + "\n", "ascii")


def _separated(reason: str) -> StepFailed:
    return StepFailed(
        "chain",
        f"the local chain and the log of the payments on it do not belong together: {reason}",
        "Keep or drop both: put back what was removed, or move the whole data folder away to start with an empty one.",
    )
