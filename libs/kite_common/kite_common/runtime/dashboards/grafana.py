"""A dashboard as the JSON that Grafana provisions. Pure: the same list gives the same bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kite_common.runtime.alerts import ALERTS
from kite_common.runtime.dashboards.panels import WHOLE, Dashboard, Panel, Query
from kite_common.runtime.metrics import METRICS

# Of Grafana 11.0; newer ones bring it up to their own when they load it.
_SCHEMA: Final = 39
_PANEL_HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_MEANINGS: Final = {metric.name: metric.meaning for metric in METRICS} | {
    "process_cpu_seconds_total": "CPU time of the process",
    "process_resident_memory_bytes": "memory of the process",
    "process_open_fds": "files and sockets the process has open",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands on the grid, from the left and from the top."""

    x: int
    y: int
    width: int
    height: int

    def json(self) -> dict[str, int]:
        """Grafana's words for it."""
        return {"h": self.height, "w": self.width, "x": self.x, "y": self.y}


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "annotations": {"list": []},
        "description": dashboard.about,
        "editable": False,
        "graphTooltip": 1,
        "links": [{"asDropdown": True, "includeVars": True, "keepTime": True, "tags": ["kite"], "title": "Kite", "type": "dashboards"}],
        "panels": list(_panels(dashboard)),
        "refresh": "30s",
        "schemaVersion": _SCHEMA,
        "tags": ["kite"],
        "templating": {"list": list(_variables(dashboard))},
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "title": dashboard.title,
        "uid": f"kite-{dashboard.name}",
        "version": 1,
    }


def description(panel: Panel) -> str:
    """What its metrics mean, and the pages of what watches them."""
    meanings = [f"`{name}`: {_MEANINGS[name]}." for name in panel.metrics if name in _MEANINGS]
    pages = [*([panel.runbook] if panel.runbook else []), *(alert.name for alert in ALERTS if alert.metric in panel.metrics)]
    links = ", ".join(f"[{page}](${{runbooks}}/{page}.md)" for page in pages)
    return "\n\n".join([*([panel.about] if panel.about else []), *meanings, *([f"When it is too much: {links}"] if links else [])])


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Rows and panels with ids in their order, and places from left to right, line by line."""
    number, top = 0, 0
    for row in dashboard.rows:
        number += 1
        yield {
            "collapsed": False, "gridPos": Place(0, top, WHOLE, 1).json(), "id": number, "panels": [], "title": row.title, "type": "row",
        }  # fmt: skip
        places, top = _places(row.panels, top + 1)
        for panel, place in zip(row.panels, places, strict=True):
            number += 1
            yield _panel(panel, number, place)


def _places(panels: Sequence[Panel], top: int) -> tuple[list[Place], int]:
    """One place each, and the first line below all of them."""
    places, left = [], 0
    for panel in panels:
        if left + panel.width > WHOLE:
            left, top = 0, top + _PANEL_HEIGHT
        places.append(Place(left, top, panel.width, _PANEL_HEIGHT))
        left += panel.width
    return places, top + _PANEL_HEIGHT


def _panel(panel: Panel, number: int, place: Place) -> dict[str, Any]:
    return {
        "datasource": _SOURCE,
        "description": description(panel),
        "fieldConfig": {"defaults": _number_defaults(panel) if panel.now else _chart_defaults(panel), "overrides": []},
        "gridPos": place.json(),
        "id": number,
        "options": _number_options() if panel.now else _chart_options(),
        "targets": [_target(query, letter, now=panel.now) for query, letter in zip(panel.queries, "ABCDEFGH", strict=False)],
        "title": panel.title,
        "type": "stat" if panel.now else "timeseries",
    }


def _target(query: Query, letter: str, *, now: bool) -> dict[str, Any]:
    return {
        "datasource": _SOURCE, "editorMode": "code", "expr": query.expression, "instant": now, "legendFormat": query.legend,
        "range": not now, "refId": letter,
    }  # fmt: skip


def _chart_defaults(panel: Panel) -> dict[str, Any]:
    return {
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line", "fillOpacity": 20 if panel.stacked else 0, "lineWidth": 1, "showPoints": "auto", "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if panel.lines else "off"},
        },
        "thresholds": {"mode": "absolute", "steps": [_step("transparent", None), *(_step("red", line) for line in panel.lines)]},
        "unit": panel.unit,
    }  # fmt: skip


def _number_defaults(panel: Panel) -> dict[str, Any]:
    steps = [_step("red", None), _step("green", panel.least)] if panel.least is not None else [_step("green", None)]
    return {"color": {"mode": "thresholds"}, "decimals": 1, "thresholds": {"mode": "absolute", "steps": steps}, "unit": panel.unit}


def _step(color: str, value: float | None) -> dict[str, Any]:
    return {"color": color, "value": value}


def _chart_options() -> dict[str, Any]:
    return {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _number_options() -> dict[str, Any]:
    return {
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "auto",
    }  # fmt: skip


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {
        "hide": 0, "label": "Prometheus", "multi": False, "name": "datasource", "query": "prometheus", "refresh": 1, "regex": "",
        "type": "datasource",
    }  # fmt: skip
    if dashboard.by_process:
        yield {"allValue": ".*"} | _choice("service", "Service", "label_values(kite_up, service)")
        # No pattern for all of them: it would be the processes of all services, whichever is chosen.
        yield _choice("instance", "Process", 'label_values(kite_up{service=~"$service"}, instance)')
    # Where the pages of this repository can be read; whoever has them elsewhere changes it on top of the dashboard.
    yield {
        "current": {"text": "docs/runbooks", "value": "docs/runbooks"}, "hide": 0, "label": "Runbooks at", "name": "runbooks",
        "query": "docs/runbooks", "type": "textbox",
    }  # fmt: skip


def _choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "current": {"text": "All", "value": "$__all"}, "datasource": _SOURCE, "definition": query, "hide": 0,
        "includeAll": True, "label": label, "multi": True, "name": name, "query": {"qryType": 1, "query": query, "refId": name},
        "refresh": 2, "sort": 1, "type": "query",
    }  # fmt: skip
