"""Dashboards: what they look at is there, what somebody is told of can be seen, nothing lies over anything else."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

from kite_common.runtime.alerts import ALERTS
from kite_common.runtime.dashboards import DASHBOARDS
from kite_common.runtime.dashboards.grafana import description, document
from kite_common.runtime.dashboards.panels import Dashboard, Panel, metric_of, plain
from kite_common.runtime.metrics import METRICS
from kite_common.runtime.slos import BURNS, SLOS

ROOT: Final = Path(__file__).resolve().parents[3]
KNOWN: Final = {metric.name: metric for metric in METRICS}
RECORDED: Final = {slo.metric for slo in SLOS}
# What prometheus_client says of every process by itself, and labels that Prometheus puts on what it scrapes.
OF_THE_PROCESS: Final = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
OF_THE_TARGET: Final = {"instance"}
# One series with its labels, if any, and the ways to name labels outside of it.
SERIES: Final = re.compile(r"\b((?:kite_|process_|kite:)[a-z0-9_:]+)(?:\{([^}]*)\})?")
NAMED: Final = re.compile(r"\b(?:by|on|group_left) \(([^)]*)\)")

PANELS: Final = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels()]
each = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[f"{one.name}: {panel.title}" for one, panel in PANELS])
every = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: str(one.name))


def expressions(panel: Panel) -> list[str]:
    return [query.expression for query in panel.queries]


def labels_of(series: str) -> set[str]:
    if series in RECORDED:
        return {"window"}
    metric = KNOWN.get(metric_of(series)) or KNOWN.get(series)
    bucket = {"le"} if series.endswith("_bucket") else set()
    return OF_THE_TARGET | bucket | (set(metric.labels) if metric is not None else set())


@each
def test_its_series_are_there(panel: Panel) -> None:
    assert panel.metrics
    for expression in expressions(panel):
        for series, _ in SERIES.findall(plain(expression)):
            if series in RECORDED | OF_THE_PROCESS:
                continue
            metric = KNOWN[metric_of(series)]
            assert (series != metric.name) == (metric.type == "histogram"), series
            assert metric.type != "gauge" or not re.search(rf"(rate|increase)\({series}\b", expression), series
            assert metric.type != "counter" or re.search(rf"(rate|increase)\({series}\b", expression), series


@each
def test_its_labels_are_those_of_its_series(panel: Panel) -> None:
    for query in panel.queries:
        used = SERIES.findall(query.expression)
        have = set().union(*(labels_of(series) for series, _ in used))
        for series, selected in used:
            assert set(re.findall(r"(\w+)\s*=", selected)) <= labels_of(series), series
        grouped = {label.strip() for labels in NAMED.findall(query.expression) for label in labels.split(",") if label.strip()}
        assert grouped <= have
        shown = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        assert shown <= (grouped or have)


@each
def test_a_line_is_where_somebody_is_told_and_on_a_bound_of_a_bucket(panel: Panel) -> None:
    metrics = [KNOWN[name] for name in panel.metrics if name in KNOWN]
    if metrics and all(metric.type == "histogram" for metric in metrics):
        assert all(set(panel.lines) <= set(metric.buckets) for metric in metrics)
    elif metrics and all(metric.type == "gauge" for metric in metrics) and panel.lines:
        told = " ".join(alert.when for alert in ALERTS if alert.metric in panel.metrics)
        bounds = {float(text) for text in re.findall(r"[<>=]=? ([0-9.]+)", told)}
        # The facilitator says in its metric's meaning what it does at 3; what must be 0 or 1 is told of when it is not.
        assert set(panel.lines) <= bounds | {1.0, 3.0}


@each
def test_it_says_what_it_shows_and_where_to_read_on(panel: Panel) -> None:
    text = description(panel)
    pages = re.findall(r"\(\$\{runbooks\}/([a-z0-9-]+)\.md\)", text)
    assert {alert.name for alert in ALERTS if alert.metric in panel.metrics} <= set(pages)
    assert all((ROOT / f"docs/runbooks/{page}.md").exists() for page in pages)
    assert all(f"`{name}`: " in text for name in panel.metrics if name not in RECORDED)
    assert text
    assert all(1 <= len(query.legend) <= 50 for query in panel.queries)
    assert len(panel.title) <= 70


def test_whatever_is_told_of_can_be_seen_and_so_can_every_metric() -> None:
    shown = {name for _, panel in PANELS for name in panel.metrics}
    assert {alert.metric for alert in ALERTS} <= shown
    assert {slo.metric for slo in SLOS} <= shown
    assert set(KNOWN) <= shown


def test_a_budget_has_the_lines_of_its_alerts() -> None:
    burns = [panel for dashboard, panel in PANELS if dashboard.name == "slo" and panel.lines]
    assert len(burns) == len(SLOS)
    assert {panel.lines for panel in burns} == {tuple(sorted(burn.factor for burn in BURNS))}


def panels_of(dashboard: Dashboard) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = document(dashboard)["panels"]
    return panels


@every
def test_ids_titles_and_letters_are_unique(dashboard: Dashboard) -> None:
    panels = panels_of(dashboard)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters)


@every
def test_nothing_lies_over_anything_else_or_beyond_the_edge(dashboard: Dashboard) -> None:
    places = [panel["gridPos"] for panel in panels_of(dashboard)]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, two in combinations(places, 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]


@every
def test_all_queries_are_there_and_go_where_the_reader_says(dashboard: Dashboard) -> None:
    panels = [panel for panel in panels_of(dashboard) if panel["type"] != "row"]
    assert [[target["expr"] for target in panel["targets"]] for panel in panels] == [expressions(panel) for panel in dashboard.panels()]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    asked = {name for panel in panels for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
    variables = {variable["name"] for variable in document(dashboard)["templating"]["list"]}
    assert asked - {"__rate_interval"} <= variables
    assert "$" not in "".join(plain(target["expr"]) for panel in panels for target in panel["targets"])


@pytest.mark.parametrize("dashboard", [one for one in DASHBOARDS if one.by_process], ids=lambda one: str(one.name))
def test_all_processes_are_those_of_the_services_that_are_chosen(dashboard: Dashboard) -> None:
    """With a pattern of its own for `All` Grafana would not fill in what the query has found."""
    variables = {variable["name"]: variable for variable in document(dashboard)["templating"]["list"]}
    assert "$service" in variables["instance"]["query"]["query"]
    assert "allValue" not in variables["instance"]


def test_uids_differ_and_are_short_enough_for_grafana() -> None:
    uids = [document(one)["uid"] for one in DASHBOARDS]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 for uid in uids)
