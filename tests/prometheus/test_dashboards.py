"""Every query of every dashboard parses, and asks for metrics and labels that a keeper exports."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import Expr, VectorSelector

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
FROM_PROMETHEUS = {"instance", "job"}


def queries(node: Any) -> Iterator[str]:
    """Yield each `expr` and each variable's query, wherever it stands in the dashboard."""
    if isinstance(node, Mapping):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        if isinstance(text := node.get("definition"), str):
            values = re.fullmatch(r"label_values\((.+?)(?:, *\w+)?\)", text)
            yield values[1] if values else text
        for child in node.values():
            yield from queries(child)
    elif isinstance(node, list):
        for child in node:
            yield from queries(child)


def selectors(query: str) -> list[VectorSelector]:
    """Parse a query, with Grafana's own intervals filled in, and return what it selects."""
    found: list[VectorSelector] = []

    def visit(expression: Expr) -> bool:
        if isinstance(expression, VectorSelector):
            found.append(expression)
        return True

    parsed = promql_parser.parse(re.sub(r"\$__\w+|\$\{__\w+\}", "5m", query))
    promql_parser.walk(parsed, visit)
    return found


@pytest.fixture(scope="session")
def labels(exposition: str) -> dict[str, set[str]]:
    """Return the labels of each sample that a keeper exports."""
    known: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(exposition):
        known.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    return known


def test_there_are_dashboards() -> None:
    boards = list(GRAFANA.rglob("*.json"))
    assert sum(len(list(queries(json.loads(board.read_text())))) for board in boards) > 0


@pytest.mark.parametrize("board", sorted(GRAFANA.rglob("*.json")), ids=lambda path: path.stem)
def test_dashboard_asks_for_what_exists(board: Path, labels: Mapping[str, set[str]]) -> None:
    for query in queries(json.loads(board.read_text())):
        for selector in selectors(query):
            assert selector.name is not None, query
            assert selector.name in labels, query
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= labels[selector.name] | FROM_PROMETHEUS, query
