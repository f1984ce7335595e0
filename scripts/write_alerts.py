"""Writes deploy/observe/alerts.yml, the rules that Prometheus loads. `--check`: exit 1 if the file is not what would be written."""

import sys
from pathlib import Path
from typing import Final

import orjson

from kite_common.runtime.alerts import ALERTS, Alert

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT / "deploy/observe/alerts.yml"
HEAD: Final = """# Written by scripts/write_alerts.py from kite_common.runtime.alerts: change it there.
groups:
  - name: kite
    rules:
"""


def text() -> str:
    """The file."""
    return HEAD + "".join(_rule(one) for one in ALERTS)


def main() -> int:
    """Write the file, or check it; the exit code."""
    wanted = text()
    if FILE.exists() and FILE.read_text("utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{FILE.relative_to(ROOT)} is not what the code says: run scripts/write_alerts.py", file=sys.stderr)
        return 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(wanted, "utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
    return 0


def _rule(one: Alert) -> str:
    return (
        f"      - alert: {one.name}\n"
        f"        expr: {_quoted(one.when)}\n"
        f"        for: {one.for_s}s\n"
        f"        labels: {{severity: {one.severity}}}\n"
        "        annotations:\n"
        f"          summary: {_quoted(one.means)}\n"
        f"          action: {_quoted(one.do)}\n"
        f"          runbook: docs/runbooks/{one.name}.md\n"
    )


def _quoted(content: str) -> str:
    # A string of JSON is one of YAML.
    return orjson.dumps(content).decode()


if __name__ == "__main__":
    sys.exit(main())
