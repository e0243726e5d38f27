"""Place panels on a board, in Grafana's classic model, which Grafana 10 and later load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grafana.panel import CHAIN, JOB, SOURCE, Panel, Query


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading; `repeat` draws them once for each value of a variable."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False
    repeat: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: its file's name, its place in URLs, its rows and its variables."""

    file: str
    uid: str
    title: str
    rows: Sequence[Row]
    variables: Sequence[dict[str, Any]]

    def model(self) -> dict[str, Any]:
        """Return the whole dashboard as Grafana reads it."""
        return {
            "id": None,
            "uid": self.uid,
            "title": self.title,
            "tags": ["keeper"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "timezone": "utc",
            "time": {"from": "now-6h", "to": "now"},
            "links": [LINKS],
            "templating": {"list": [DATASOURCE, *self.variables]},
            "annotations": {"list": MARKS if CHAINS in self.variables else MARKS[:1]},
            "panels": list(layout(self.rows)),
        }


def draw(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """Return one panel at a place of the grid."""
    steps = [{"color": colour, "value": value} for colour, value in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": dict(panel.custom),
    }
    if panel.kind == "timeseries" and len(panel.steps) > 1:
        defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.description} Alert: {panel.alert}."
        if panel.alert
        else panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": dict(panel.options),
        "targets": [target(query, index, panel.kind) for index, query in enumerate(panel.queries)],
    }


def target(query: Query, index: int, kind: str) -> dict[str, Any]:
    """Return one query of a panel."""
    instant = query.instant or kind == "stat"
    shape = "heatmap" if kind == "heatmap" else "table" if kind == "table" else "time_series"
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": shape,
        "instant": instant,
        "range": not instant,
        "exemplar": query.exemplar,
    }


def layout(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield rows and panels from left to right and downwards; ids follow row and place."""
    y = 0
    for row, each in enumerate(rows, 1):
        head: dict[str, Any] = {
            "id": 100 * row,
            "type": "row",
            "title": each.title,
            "collapsed": each.collapsed,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            "panels": [],
        }
        if each.repeat:
            head["repeat"] = each.repeat
        y += 1
        drawn, x, tallest = [], 0, 0
        for place, panel in enumerate(each.panels, 1):
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            drawn.append(draw(panel, 100 * row + place, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
        if each.collapsed:
            head["panels"] = drawn
            yield head
        else:
            yield head
            yield from drawn


def variable(name: str, definition: str, *, many: bool) -> dict[str, Any]:
    """Return a variable that offers the values of a label."""
    offered: dict[str, Any] = {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "definition": definition,
        "query": {"query": definition, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
    }
    if many:
        offered["current"] = {"text": "All", "value": "$__all"}
    return offered


def annotation(name: str, expr: str, colour: str) -> dict[str, Any]:
    """Return marks where a query is not empty."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "step": "30s",
        "titleFormat": name,
        "textFormat": "{{chain}} {{breaker}} {{version}}",
    }


DATASOURCE: dict[str, Any] = {
    "name": "datasource",
    "type": "datasource",
    "query": "prometheus",
}
JOBS = variable("job", "label_values(keeper_build_info, job)", many=False)
CHAINS = variable("chain", f"label_values(keeper_head_number{{{JOB}}}, chain)", many=True)
INSTANCES = variable("instance", f"label_values(keeper_build_info{{{JOB}}}, instance)", many=True)
MARKS = [
    annotation("Started", f"changes(process_start_time_seconds{{{JOB}}}[1m]) > 0", "blue"),
    annotation("Breaker", f"keeper_breaker_open{{{CHAIN}}} == 1", "red"),
    annotation("Reorg", f"increase(keeper_reorgs_total{{{CHAIN}}}[1m]) > 0", "orange"),
]
LINKS: dict[str, Any] = {
    "title": "Keeper",
    "type": "dashboards",
    "tags": ["keeper"],
    "asDropdown": True,
    "icon": "dashboard",
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "The other boards, for the same chains and time",
    "url": "",
}
