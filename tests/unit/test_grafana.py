import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from grafana.alerts import ALERTS, Alert
from keeper.metrics import BREAKERS, ChainLabels, Metrics
from keeper.types import Reason

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
ANY_BOARD = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
README = (GRAFANA / "README.md").read_text(encoding="utf-8")
UNUSED: Mapping[str, str] = {}
"""Exported metrics that no panel shows, and why."""


def panels_of(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def panels() -> Iterator[Mapping[str, Any]]:
    for board in BOARDS.values():
        yield from panels_of(board)


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]
    for board in BOARDS.values():
        for mark in board["annotations"]["list"]:
            yield mark["expr"]
        for variable in board["templating"]["list"]:
            if inside := re.fullmatch(r"label_values\((.+), \w+\)", variable.get("definition", "")):
                yield inside[1]


def selected(query: str) -> Iterator[str]:
    found: list[str] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None
            found.append(node.name)
        return True

    filled = re.sub(r"\$__\w+", "5m", query).replace("$job", "j").replace("$chain", "c")
    promql_parser.walk(promql_parser.parse(filled), visit)
    yield from found


@cache
def exported() -> frozenset[str]:
    metrics = Metrics(
        version="1",
        commit="c",
        mode="dry",
        chains={"x": ChainLabels(12, ["p"], ["e"], "0x1", relays=["r"])},
        strategies=["s"],
    )
    names = set()
    for family in metrics.registry.collect():
        if family.name.startswith("keeper_"):
            suffix = {"counter": "_total", "histogram": "_bucket", "info": "_info"}
            names.add(family.name + suffix.get(family.type, ""))
    return frozenset(names)


def test_board_is_what_build_writes() -> None:
    build = [sys.executable, "-m", "grafana.build", "--check"]
    done = subprocess.run(build, cwd=GRAFANA.parent, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_query_parses_and_asks_for_what_is_exported(query: str) -> None:
    names = {name for name in selected(query) if name.startswith("keeper_")}
    assert names <= exported()


def test_every_exported_metric_is_shown_or_justified() -> None:
    shown = {name for query in queries() for name in selected(query)}
    assert exported() - shown == set(UNUSED)


@ANY_BOARD
def test_panels_follow_the_conventions(board: Mapping[str, Any]) -> None:
    numbers = [panel["id"] for panel in panels_of(board)]
    assert len(numbers) == len(set(numbers))
    assert re.fullmatch(r"keeper-[a-z]+", board["uid"])
    assert board["id"] is None
    for panel in panels_of(board):
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_boards_are_told_apart() -> None:
    for key in ("uid", "title"):
        assert len({board[key] for board in BOARDS.values()}) == len(BOARDS) == 4


@ANY_BOARD
def test_a_board_defines_every_variable_it_uses(board: Mapping[str, Any]) -> None:
    known = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!_)(\w+)", json.dumps(board)))
    assert used <= known


@ANY_BOARD
def test_panels_do_not_overlap_and_fill_at_most_the_width(board: Mapping[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_a_panel_changes_colour_where_its_alert_fires() -> None:
    fires = {alert.name: alert.expr for alert in ALERTS}
    coloured = 0
    for panel in panels():
        steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps")
        values = [step["value"] for step in steps or () if step["color"] == "red"][:1]
        named = re.findall(r"Alert: (\w+)\.", panel.get("description", ""))
        assert len(named) <= 1
        if not named:
            continue
        coloured += 1
        limits = {float(each) for each in re.findall(r"[<>]=? ([\d.]+)", fires[named[0]])}
        shown = {step["value"] for step in steps if step["value"] is not None}
        assert shown <= limits, panel["title"]
        assert len(shown) == 1
        # red where the alert is: below a minimum, or from a maximum on
        assert (values == [None]) == (re.search(r"< [\d.]+", fires[named[0]]) is not None)
    assert coloured >= 10


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_its_runbook(alert: Alert) -> None:
    section = re.search(rf"^### {alert.name}\n\n(.+?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    assert section is not None
    parts = re.findall(r"^- \*\*(\w+):\*\* \S", section[1], re.MULTILINE)
    assert parts == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_runbook_has_no_section_of_a_missing_alert() -> None:
    assert re.findall(r"^### (Keeper\w+)$", README, re.MULTILINE) == [each.name for each in ALERTS]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_skip_reason_has_its_line(reason: Reason) -> None:
    assert len(re.findall(rf"^\| `{reason}` \| .+ \| .+ \|$", README, re.MULTILINE)) == 1


@pytest.mark.parametrize("breaker", BREAKERS)
def test_every_breaker_has_its_line(breaker: str) -> None:
    assert len(re.findall(rf"^\| `{breaker}` \| .+ \| .+ \|$", README, re.MULTILINE)) == 1


def test_provisioning_names_what_is_there() -> None:
    for path in (GRAFANA / "provisioning").rglob("*.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["apiVersion"] == 1


def test_every_board_has_its_picture_and_it_is_small() -> None:
    pictures = {path.stem: path for path in (GRAFANA / "pictures").glob("*.png")}
    assert set(pictures) == set(BOARDS)
    for name, path in pictures.items():
        assert path.stat().st_size < 150_000
        assert f"pictures/{name}.png" in README


def test_readme_counts_what_there_is() -> None:
    text = (GRAFANA.parent / "README.md").read_text(encoding="utf-8")
    assert f"four boards, {len(ALERTS)} alerts," in text
    assert len(BOARDS) == 4
