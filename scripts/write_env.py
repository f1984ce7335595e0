"""Writes .env for docker-compose.yml, with a secret drawn for each that deploy/compose/example.env leaves empty.

Usage: write_env.py [demo] [observe]. The arguments are the profiles `docker compose` is to use; with demo the settings of
deploy/compose/demo.env come along. A .env that is there stays: what is sealed under its secrets would be lost. Needs nothing but Python.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PROFILES: Final = ("demo", "observe")
_EMPTY: Final = re.compile(r"^([A-Z0-9_]+)=$", re.MULTILINE)


def settings(profiles: Sequence[str], draw: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
    """The text of a .env: every setting that is empty gets what `draw` gives, which is 64 hex digits unless said otherwise."""
    files = ["example.env", *(["demo.env"] if "demo" in profiles else [])]
    text = "\n".join((ROOT / "deploy/compose" / name).read_text("utf-8") for name in files)
    filled = _EMPTY.sub(lambda found: f"{found[1]}={draw()}", text)
    return filled + (f"\nCOMPOSE_PROFILES={','.join(profiles)}\n" if profiles else "")


def write(path: Path, text: str) -> None:
    """Write a new file that only its owner may read. Raises FileExistsError if there is one."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def main(profiles: Sequence[str]) -> int:
    """Write it; the exit code."""
    if unknown := set(profiles) - set(PROFILES):
        print(f"there is no profile {', '.join(sorted(unknown))}; there are {', '.join(PROFILES)}", file=sys.stderr)
        return 2
    try:
        write(ROOT / ".env", settings(profiles))
    except FileExistsError:
        print(".env is there and stays: move it away to have another", file=sys.stderr)
        return 1
    print("wrote .env; keep it as you keep the backup of Kafka")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
