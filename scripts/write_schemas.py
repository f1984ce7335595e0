"""Writes contracts/schemas/<kind>.v<version>.json, the JSON Schema of each payload's newest version. `--check` only compares.

Schemas of former versions stay as they were written.
"""

import json
import sys
from pathlib import Path
from typing import Final

from kite_common.events.registry import LATEST

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "contracts" / "schemas"


def documents() -> dict[Path, str]:
    """What each file must hold."""
    return {
        FOLDER / f"{kind}.v{fact.version}.json": json.dumps(fact.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
        for kind, fact in LATEST.items()
    }


def main() -> int:
    """Write the files, or check them; the exit code."""
    wanted = documents()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make contracts` and look at the difference", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
