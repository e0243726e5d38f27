"""Draw a board's panels from what a Prometheus answers, where the board places them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

mpl.use("Agg")
BACK, PANEL, TEXT, DIM = "#111217", "#181b1f", "#ccccdc", "#8e8e9c"
COLOURS = {"green": "#73bf69", "red": "#f2495c", "yellow": "#fade2a", "text": "#ccccdc"}
LINES = ("#73bf69", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#fade2a", "#8ab8ff", "#ffb357")
COLUMN, ROW = 0.62, 0.42
"""Inches of a column and of a row of the grid."""
MOST_SERIES = 8
SHADES = 96


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: its legend, its moments and its values."""

    legend: str
    times: Sequence[float]
    values: Sequence[float]


Ask = Callable[[Mapping[str, Any]], Sequence[Series]]


def draw(board: Mapping[str, Any], ask: Ask, target: Path) -> None:
    """Write the picture of a board; `ask` answers a panel's target."""
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    figure = Figure(figsize=(24 * COLUMN, (height + 1) * ROW), dpi=72, facecolor=BACK)

    def place(grid: Mapping[str, int]) -> Axes:
        top = 1 - (grid["y"] + 1.2) / (height + 1)
        size = grid["h"] / (height + 1)
        axes = figure.add_axes(
            (grid["x"] / 24 + 0.003, top - size + 0.002, grid["w"] / 24 - 0.006, size - 0.006)
        )
        axes.set_facecolor(PANEL)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    figure.text(0.005, 1 - 0.8 / (height + 1), board["title"], color=TEXT, size=13, weight="bold")
    for row in rows:
        top = 1 - (row["gridPos"]["y"] + 1.9) / (height + 1)
        title = row["title"] + (" (collapsed)" if row["collapsed"] else "")
        figure.text(0.005, top, title, color=TEXT, size=10)
    for panel in panels:
        frame = place(panel["gridPos"])
        for spine in frame.spines.values():
            spine.set_color("#2c3235")
        frame.text(
            *(0.015, 0.97, panel["title"]), color=TEXT, size=8, va="top", transform=frame.transAxes
        )
        found = [series for each in panel["targets"] for series in ask(each)]
        inner = frame.inset_axes((0.1, 0.16, 0.87, 0.66))
        inner.set_facecolor(PANEL)
        DRAWN[panel["type"]](inner, panel, found)
    figure.canvas.draw()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor=BACK)
    target.parent.mkdir(exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(SHADES).save(target, optimize=True)


def shown(value: float, unit: str) -> str:
    """Return a value as its unit reads."""
    if math.isnan(value):
        return "–"
    match unit:
        case "bool_yes_no":
            return "Yes" if value else "No"
        case "percentunit":
            return f"{100 * value:,.0f} %" if abs(value) >= 0.1 else f"{100 * value:.2g} %"
        case "s":
            return _seconds(value)
        case "currencyUSD":
            return f"${_short(value)}"
        case "bytes":
            return f"{_short(value)}B"
        case _:
            return _short(value)


def _seconds(value: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(value) >= size:
            return f"{value / size:,.1f} {name}"
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{1000 * value:.3g} ms"


def _short(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,.2f} {name}"
    return f"{value:.4g}"


def colour(panel: Mapping[str, Any], value: float) -> str:
    """Return the colour of a value by the panel's thresholds."""
    chosen = "text"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            chosen = step["color"]
    return COLOURS[chosen]


def _stat(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    last = [(each.legend, each.values[-1]) for each in found if each.values]
    # what is red first, as an operator's eye goes there
    last.sort(key=lambda pair: colour(panel, pair[1]) != COLOURS["red"])
    kept = last[:MOST_SERIES]
    columns = 1 if len(kept) <= 3 else 2
    lines = max(math.ceil(len(kept) / columns), 1)
    for number, (legend, value) in enumerate(kept):
        x, y = (number // lines) / columns, 1 - (number % lines + 0.5) / lines
        size = 20 if len(kept) == 1 else 12 if len(kept) <= 3 else 8
        text = shown(value, unit)
        axes.text(x, y, text, color=colour(panel, value), size=size, va="center", weight="bold")
        if legend and len(kept) > 1:
            axes.text(x + 0.26 / columns, y, legend[-24:], color=DIM, size=7, va="center")
    if not kept:
        axes.text(0.5, 0.5, "No data", color=DIM, size=10, ha="center", va="center")


def _bars(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    last = [(each.legend, each.values[-1]) for each in found if each.values]
    largest = max((abs(value) for _, value in last if math.isfinite(value)), default=0.0) or 1.0
    for number, (legend, value) in enumerate(last):
        y = 1 - (number + 0.5) / len(last)
        axes.text(0.0, y, legend[-22:], color=DIM, size=7, va="center")
        width = 0.5 * abs(value) / largest if math.isfinite(value) else 0.0
        axes.barh(y, width, 0.6 / len(last), left=0.26, color=LINES[0])
        axes.text(0.28 + width, y, shown(value, unit), color=TEXT, size=7, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _lines(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("drawStyle") == "bars"
    moving = [each for each in found if any(value for value in each.values)] or list(found)
    start = min((each.times[0] for each in moving if each.times), default=0.0)
    base: dict[float, float] = {}
    for number, each in enumerate(moving[:MOST_SERIES]):
        hue = LINES[number % len(LINES)]
        times = [time - start for time in each.times]
        if stacked:
            bottoms = [base.get(time, 0.0) for time in each.times]
            axes.bar(times, each.values, 1.0, bottoms, color=hue, label=each.legend)
            for time, value in zip(each.times, each.values, strict=True):
                base[time] = base.get(time, 0.0) + value
        else:
            axes.plot(times, each.values, color=hue, linewidth=1.1, label=each.legend)
    steps = defaults["thresholds"]["steps"]
    for step in steps if defaults["custom"].get("thresholdsStyle") else ():
        if step["value"] is not None:
            axes.axhline(step["value"], color=COLOURS["red"], linewidth=0.8, linestyle="--")
    axes.tick_params(colors=DIM, labelsize=6, length=0)
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, defaults["unit"]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.grid(color="#2c3235", linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if moving:
        axes.legend(
            *axes.get_legend_handles_labels(),
            loc="upper left",
            fontsize=6,
            frameon=False,
            labelcolor=DIM,
            ncols=2,
        )


def _heatmap(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    def edge(series: Series) -> float:
        return float(series.legend.replace("+Inf", "inf"))

    ordered = sorted(found, key=edge)
    counts = [list(each.values) for each in ordered]
    cells = [counts[0], *([b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(counts))]
    axes.imshow(cells, aspect="auto", origin="lower", cmap="inferno", interpolation="nearest")
    axes.set_yticks(range(0, len(ordered), 4), [shown(edge(each), "s") for each in ordered[::4]])
    axes.set_xticks([])
    axes.tick_params(colors=DIM, labelsize=6, length=0)


def _table(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    axes.axis("off")
    for number, each in enumerate(found[:6]):
        axes.text(-0.08, 0.85 - 0.3 * number, each.legend, color=TEXT, size=7, va="top", wrap=True)


DRAWN: Mapping[str, Callable[[Axes, Mapping[str, Any], Sequence[Series]], None]] = {
    "stat": _stat,
    "bargauge": _bars,
    "timeseries": _lines,
    "heatmap": _heatmap,
    "table": _table,
}
