"""Every alert has its runbook and every runbook its alert; metrics, settings, log events and commands that they name are there."""

import re
from pathlib import Path
from typing import Final

import pytest
from typer.main import get_command

from kite_cli.cli import app
from kite_cli.services import SERVICES, settings_of
from kite_common.config import env_name
from kite_common.runtime.alerts import ALERTS
from kite_common.runtime.metrics import METRICS
from kite_common.runtime.slos import SLOS

ROOT: Final = Path(__file__).resolve().parents[2]
RUNBOOKS: Final = sorted((ROOT / "docs/runbooks").glob("*.md"))
CODE: Final = "\n".join(
    file.read_text("utf-8") for place in ("services", "libs", "apps") for file in sorted((ROOT / place).rglob("*.py"))
)  # fmt: skip
SECTIONS: Final = ["## What callers see", "## Look", "## Do", "## It is over when"]
METRIC_NAMES: Final = {one.name for one in METRICS}
SETTINGS: Final = {
    env_name(settings_of(service), field) for service in SERVICES for field in settings_of(service).model_fields
}  # fmt: skip

each = pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)


def test_every_alert_has_one_and_there_are_no_others() -> None:
    assert [path.name for path in RUNBOOKS] == sorted([*(f"{alert.name}.md" for alert in ALERTS), *(f"slo-{slo.name}.md" for slo in SLOS)])


def test_what_prometheus_loads_has_every_alert_with_its_runbook() -> None:
    rules = (ROOT / "deploy/observe/alerts.yml").read_text("utf-8")
    assert re.findall(r"- alert: (\S+)", rules) == [alert.name for alert in ALERTS]
    assert re.findall(r"runbook: docs/runbooks/(\S+)\.md", rules) == [alert.name for alert in ALERTS]
    named = set(re.findall(r"kite_[a-z0-9_]+", " ".join(alert.when for alert in ALERTS)))
    assert named <= METRIC_NAMES


@each
def test_it_has_all_sections_in_order(runbook: Path) -> None:
    lines = runbook.read_text("utf-8").splitlines()
    assert lines[0] == f"# {runbook.stem}"
    assert [line for line in lines if line.startswith("## ")] == SECTIONS


@each
def test_what_it_names_is_there(runbook: Path) -> None:
    text = runbook.read_text("utf-8")
    quoted = " ".join(re.findall(r"`([^`]+)`", text))
    assert set(re.findall(r"\bkite_[a-z0-9_]+", text)) <= METRIC_NAMES
    assert set(re.findall(r"\b(?:KITE|X402)_[A-Z0-9_]+", text)) <= SETTINGS
    assert [event for event in re.findall(r"\b[a-z_]+\.[a-z_]+\b", quoted) if _is_ours(event) and f'"{event}"' not in CODE] == []
    for words in re.findall(r"`kitectl ([a-z]+(?: [a-z]+)?)", text):
        assert _is_command(words.split()), words
    for other in re.findall(r"\b(?:kite-[a-z]+)\b", quoted):
        assert f'"{other}"' in CODE, other


def _is_ours(event: str) -> bool:
    """Kafka's and the system's own names have dots, too."""
    return not event.startswith(("kite.", "system.", "transaction.", "max.", "min.")) and not event.endswith(".sh")


def _is_command(words: list[str]) -> bool:
    command = get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            return not hasattr(command, "commands")
        command = found
    return True
