"""Writes deploy/observe/dashboards, which Grafana loads. `--check`: exit 1 if one is not what would be written, or one is too many."""

import sys
from pathlib import Path
from typing import Final

import orjson

from kite_common.runtime.dashboards import DASHBOARDS
from kite_common.runtime.dashboards.grafana import document

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "deploy/observe/dashboards"


def files() -> dict[Path, str]:
    """Each file with what is to be in it."""
    return {FOLDER / f"{one.name}.json": orjson.dumps(document(one), option=orjson.OPT_INDENT_2).decode() + "\n" for one in DASHBOARDS}


def main() -> int:
    """Write the files, or check them; the exit code."""
    wanted = files()
    wrong = [(file, text) for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    left = sorted(set(FOLDER.glob("*.json")) - set(wanted))
    if "--check" in sys.argv[1:]:
        for file in [*(file for file, _ in wrong), *left]:
            print(f"{file.relative_to(ROOT)} is not what the code says: run scripts/write_dashboards.py", file=sys.stderr)
        return 1 if wrong or left else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in wrong:
        file.write_text(text, "utf-8")
        print(f"wrote {file.relative_to(ROOT)}")
    for file in left:
        file.unlink()
        print(f"removed {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
