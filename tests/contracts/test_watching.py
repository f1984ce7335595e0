"""What deploy/observe holds: for each promise a rule, a panel, a page and a line in the docs; for each rule a test in which it tells."""

import re
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for two calls

from kite_common.runtime.alerts import ALERTS, Alert
from kite_common.runtime.dashboards import DASHBOARDS
from kite_common.runtime.dashboards.grafana import document
from kite_common.runtime.metrics import METRICS, Metrics
from kite_common.runtime.slos import BURNS, SLOS, Slo

ROOT: Final = Path(__file__).resolve().parents[2]
PLACE: Final = ROOT / "deploy/observe"
METRIC_NAMES: Final = {one.name for one in METRICS}
# Series of a histogram.
PARTS: Final = re.compile("_(bucket|count|sum)$")

each_slo = pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def loaded(path: str) -> Any:
    return yaml.safe_load((PLACE / path).read_text("utf-8"))


def rules_of(path: str) -> list[dict[str, Any]]:
    return [rule for group in loaded(path)["groups"] for rule in group["rules"]]


def asked(path: str) -> list[dict[str, Any]]:
    """Every moment at which a test of rules asks for alerts."""
    return [one for test in loaded(f"tests/{path}")["tests"] for one in test["promql_expr_test"]]


def told(path: str) -> set[tuple[str, str]]:
    """Names of alerts that some test expects, with their severity."""
    samples = " ".join(sample["labels"] for one in asked(path) for sample in one["exp_samples"])
    return set(re.findall(r'alertname="([a-z-]+)",alertstate="firing",severity="([a-z]+)"', samples))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: str(one.name))
def test_what_grafana_loads_is_what_the_code_says(dashboard: Any) -> None:
    assert orjson.loads((PLACE / f"dashboards/{dashboard.name}.json").read_bytes()) == document(dashboard)


def test_there_is_no_dashboard_that_the_code_does_not_know() -> None:
    assert {file.stem for file in (PLACE / "dashboards").iterdir()} == {one.name for one in DASHBOARDS}


@each_alert
def test_an_alert_is_tested_where_it_tells_somebody_and_where_it_does_not(alert: Alert) -> None:
    moments = [one for one in asked("alerts.yml") if f'alertname="{alert.name}"' in one["expr"]]
    assert [one for one in moments if one["exp_samples"]]
    assert [one for one in moments if not one["exp_samples"]]
    assert (alert.name, alert.severity) in told("alerts.yml")


def exposed(metrics: Metrics) -> set[str]:
    """Names of all series that a process tells."""
    lines = bytes(metrics.exposition().body).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_a_process_tells_no_gauge_that_nobody_in_it_sets() -> None:
    """It would stand at 0, and `kite_x402_fit == 0` is a page: where payments are off, and in all services that take none."""
    gauges = {one.name for one in METRICS if one.type == "gauge"}
    metrics = Metrics()
    assert exposed(metrics) & gauges == set()
    metrics.gauge("kite_x402_fit").set(0)
    metrics.up("billing")
    assert exposed(metrics) & gauges == {"kite_x402_fit", "kite_up"}


@each_alert
def test_an_alert_says_nothing_of_a_process_that_has_measured_nothing(alert: Alert) -> None:
    """What it compares is not there, or a counter, of which a rise is asked for."""
    counters = {one.name for one in METRICS if one.type == "counter"}
    there = exposed(Metrics()) & {PARTS.sub("", name) for name in re.findall(r"kite_[a-z0-9_]+", alert.when)}
    assert there <= counters
    assert all(f"increase({name}" in alert.when for name in there)


@each_slo
def test_a_promise_has_metric_rule_test_panel_page_and_a_line_in_the_docs(slo: Slo) -> None:
    alert = f"slo-{slo.name}"
    metrics = {PARTS.sub("", name) for name in re.findall(r"kite_[a-z_]+", slo.bad + slo.total)}
    assert metrics <= METRIC_NAMES
    rules = [rule for rule in rules_of("slos.yml") if rule.get("alert") == alert]
    assert [(rule["labels"]["severity"], rule["labels"]["window"]) for rule in rules] == [(burn.severity, burn.long) for burn in BURNS]
    assert {rule["annotations"]["runbook"] for rule in rules} == {f"docs/runbooks/{alert}.md"}
    assert all(slo.metric in rule["expr"] for rule in rules)
    assert {severity for name, severity in told("slos.yml") if name == alert} == {burn.severity for burn in BURNS}
    panels = orjson.loads((PLACE / "dashboards/slo.json").read_bytes())["panels"]
    shown = [panel for panel in panels if f"(${{runbooks}}/{alert}.md)" in panel.get("description", "")]
    assert any(slo.metric in target["expr"] for panel in shown for target in panel["targets"])
    page = (ROOT / f"docs/runbooks/{alert}.md").read_text("utf-8")
    assert any(name in page for name in METRIC_NAMES)
    assert f"[{alert}](runbooks/{alert}.md)" in (ROOT / "docs/operations.md").read_text("utf-8")


def test_a_page_of_operations_names_every_dashboard() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    assert [one.title for one in DASHBOARDS if one.title not in text] == []


def test_no_label_of_kite_is_one_that_prometheus_writes_itself() -> None:
    """With `honor_labels` a process's own would win."""
    assert {"instance", "job"}.isdisjoint(label for metric in METRICS for label in metric.labels)
