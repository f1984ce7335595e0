"""Writes deploy/observe/alerts.yml and slos.yml, the rules that Prometheus loads. `--check`: exit 1 if one is not what would be written."""

import sys
from pathlib import Path
from typing import Final

import orjson

from kite_common.runtime.alerts import ALERTS, Alert
from kite_common.runtime.slos import SLOS, Burn, Slo, burning, recorded

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "deploy/observe"
HEAD: Final = "# Written by scripts/write_alerts.py from kite_common.runtime.{module}: change it there.\ngroups:\n"


def files() -> dict[Path, str]:
    """Each file with what is to be in it."""
    return {FOLDER / "alerts.yml": alerts(), FOLDER / "slos.yml": slos()}


def alerts() -> str:
    """The rules of conditions."""
    return HEAD.format(module="alerts") + "  - name: kite\n    rules:\n" + "".join(_rule(one) for one in ALERTS)


def slos() -> str:
    """The rules of SLOs: how much of each window is bad, and when that is too much."""
    groups = (
        f"  - name: kite-slo-{slo.name}\n    rules:\n"
        + "".join(_record(*one) for one in recorded(slo)) + "".join(_burn(slo, *one) for one in burning(slo))
        for slo in SLOS
    )  # fmt: skip
    return HEAD.format(module="slos") + "".join(groups)


def main() -> int:
    """Write the files, or check them; the exit code."""
    wrong = [(file, text) for file, text in files().items() if not file.exists() or file.read_text("utf-8") != text]
    for file, text in wrong:
        if "--check" in sys.argv[1:]:
            print(f"{file.relative_to(ROOT)} is not what the code says: run scripts/write_alerts.py", file=sys.stderr)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 1 if wrong and "--check" in sys.argv[1:] else 0


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


def _record(name: str, window: str, expression: str) -> str:
    return f"      - record: {name}\n        expr: {_quoted(expression)}\n        labels: {{window: {window}}}\n"


def _burn(slo: Slo, name: str, expression: str, burn: Burn) -> str:
    return (
        f"      - alert: {name}\n"
        f"        expr: {_quoted(expression)}\n"
        f"        labels: {{severity: {burn.severity}, window: {burn.long}}}\n"
        "        annotations:\n"
        f"          summary: {_quoted(f'{slo.means}: the budget of thirty days burns {burn.factor:g} times as fast as it may')}\n"
        f"          runbook: docs/runbooks/{name}.md\n"
    )


def _quoted(content: str) -> str:
    # A string of JSON is one of YAML.
    return orjson.dumps(content).decode()


if __name__ == "__main__":
    sys.exit(main())
