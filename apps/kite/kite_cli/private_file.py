"""Small JSON files in the data folder that only their owner may read. Knows nothing of what is in them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kite_cli.durable import sync


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file in one step; its mode is 0600 from the first byte on, and it is on the disk on return. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def read_private(path: Path) -> dict[str, Any] | None:
    """What the file holds; None if there is no such file, or none that can be read as a JSON object."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
