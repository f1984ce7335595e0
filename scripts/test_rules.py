"""Tests what deploy/observe gives Prometheus and Grafana with promtool: rules and panels parse, and rules tell when they should."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import orjson

from kite_common.runtime.dashboards import DASHBOARDS
from kite_common.runtime.dashboards.panels import plain

ROOT: Final = Path(__file__).resolve().parents[1]
OBSERVE: Final = ROOT / "deploy/observe"
PROMTOOL: Final = (sys.executable, str(ROOT / "scripts/promtool.py"))


def main() -> int:
    """Say what was tested; the exit code of the first that fails."""
    rules = sorted(OBSERVE.glob("*.yml"))
    tests = sorted((OBSERVE / "tests").glob("*.yml"))
    with tempfile.TemporaryDirectory() as folder:
        panels = Path(folder) / "panels.yml"
        panels.write_bytes(panels_as_rules())
        for what in (("check", "rules", "--lint-fatal", *rules, panels), ("test", "rules", *tests)):
            code = subprocess.run([*PROMTOOL, *map(str, what)], check=False).returncode  # noqa: S603 - ours
            if code != 0:
                return code
    return 0


def panels_as_rules() -> bytes:
    """Every expression of every dashboard as a rule, as promtool reads no dashboards. JSON is YAML."""
    groups = [
        {
            "name": dashboard.name,
            "rules": [
                {"record": f"{dashboard.name}_{number}_{letter}", "expr": plain(query.expression)}
                for number, panel in enumerate(dashboard.panels())
                for letter, query in enumerate(panel.queries)
            ],
        }
        for dashboard in DASHBOARDS
    ]
    return orjson.dumps({"groups": groups})


if __name__ == "__main__":
    sys.exit(main())
