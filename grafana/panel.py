"""What a panel is, and the queries that come again and again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHAIN = 'job="$job",chain=~"$chain"'
STRATEGY = CHAIN + ',strategy=~"$strategy|none"'
JOB = 'job="$job"'


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query and its legend; `instant` asks for the newest value alone."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `width` is in Grafana's 24 columns, `steps` are colours from a value on.

    `alert` is the rule that fires at the step.
    """

    title: str
    kind: str
    unit: str
    description: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 7
    steps: Sequence[tuple[str, float | None]] = (("green", None),)
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    decimals: int | None = None
    alert: str = ""


def figure(
    title: str,
    unit: str,
    description: str,
    queries: Sequence[Query],
    steps: Sequence[tuple[str, float | None]] = (("green", None),),
    alert: str = "",
) -> Panel:
    """Return a panel of single figures, four of which stand in a row."""
    return Panel(
        title, "stat", unit, description, queries, width=6, height=5, steps=steps, alert=alert
    )


BARS = {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}


def total(metric: str, by: str, selector: str = CHAIN, over: str = "$__range") -> str:
    """Return the increase of a counter by a label."""
    return f"sum by ({by}) (increase({metric}{{{selector}}}[{over}]))"


def quantile(q: float, metric: str, by: str, selector: str = CHAIN) -> str:
    """Return a quantile of a histogram by a label."""
    labels = f"le, {by}" if by else "le"
    rate = f"rate({metric}_bucket{{{selector}}}[$__rate_interval])"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate}))"


def below(limit: float) -> tuple[tuple[str, float | None], ...]:
    """Return colours of a value that is to stay at a limit or above."""
    return ("red", None), ("green", limit)


def above(limit: float, colour: str = "red") -> tuple[tuple[str, float | None], ...]:
    """Return colours of a value that is to stay below a limit."""
    return ("green", None), (colour, limit)
