"""A report as one HTML page: pictures drawn here, no script, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from keeper.cli.report import COLUMNS, cells, told_of
from keeper.units import USD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keeper.journal.liquidations import LiquidationRow
    from keeper.journal.report import Summary

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #1f2933; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .9rem; border-bottom: 1px solid #d9e2ec; text-align: right; }
td:first-child, th:first-child { text-align: left; }
svg { background: #f7f9fb; margin: .5rem 0; } svg text { font: 11px system-ui, sans-serif; fill: #52606d; }
"""
_WIDTH, _HEIGHT, _LEFT, _BELOW, _WIDEST = 760, 200, 70, 24, 90
GREEN, RED, BLUE, AMBER = "#2f9e44", "#e03131", "#1c7ed6", "#f08c00"


def page(found: Summary, rows: Sequence[LiquidationRow] = ()) -> str:
    """Return the page; `rows` are liquidations that others had, each of them in a table."""
    total = found.total()
    days = [day.date for day in found.days]
    net = [day.net_usd / USD for day in found.days]
    summed = [sum(net[: k + 1]) for k in range(len(net))]
    gas = [(day.gas_usd + day.tip_usd) / USD for day in found.days]
    stages = list(found.funnel.items())
    whys: dict[str, int] = {}
    winners: dict[str, int] = {}
    for each in found.missed:
        whys[each.reason] = whys.get(each.reason, 0) + each.count
        winners[each.winner] = winners.get(each.winner, 0) + each.count
    span = f"{days[0]} to {days[-1]}" if days else "no transaction"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>keeper report</title>",
        (
            f"<style>{_STYLE}</style><h1>Keeper report</h1><p>{escape(span)}: "
            f"{total.included:,} transactions liquidated {total.liquidated:,} positions and netted "
            f"<b>{total.net_usd / USD:,.2f} USD</b> after {total.gas_usd / USD:,.2f} of gas and "
            f"{total.tip_usd / USD:,.2f} of tips; {total.failed:,} failed.</p>"
        ),
        "<h2>Net profit by day, USD</h2>",
        _bars(days, net, GREEN),
        "<h2>Net profit so far, USD</h2>",
        _line(days, summed, BLUE),
        "<h2>Gas and tips by day, USD</h2>",
        _bars(days, gas, AMBER),
        "<h2>Funnel, positions a day</h2>",
        _bars([stage for stage, _ in stages], [float(count) for _, count in stages], BLUE),
        (
            f"<h2>What others had</h2><p>{found.ours:,} liquidations were ours, "
            f"{sum(winners.values()):,} others', {found.orphaned:,} reorganised out.</p>"
        ),
        "<h2>What others had, by reason</h2>",
        _bars(list(whys), [float(count) for count in whys.values()], RED),
        "<h2>What others had, by winner</h2>",
        _bars(list(winners), [float(count) for count in winners.values()], AMBER),
        _table(
            ("winner", "why not ours", "count", "bonus USD"),
            (
                (each.winner, each.reason, f"{each.count:,}", f"{each.won_usd / USD:,.2f}")
                for each in found.missed
            ),
        ),
        (
            f"<h2>Latency</h2><p>From the decision to the first send: {told_of(found.decided)}. From a "
            f"block's second to its log here: {told_of(found.seen)}.</p>"
        ),
        "<h2>From the decision to the first send by day, middle, ms</h2>",
        _bars(
            list(found.decided_by_day), [each.p50 for each in found.decided_by_day.values()], BLUE
        ),
        "<h2>Net by strategy and by market, USD</h2>",
        _table(
            ("name", "net USD"),
            (
                (name, f"{usd / USD:,.2f}")
                for name, usd in (*found.by_strategy.items(), *found.by_market.items())
            ),
        ),
        _table(
            ("day", "transactions", "failed", "liquidated", "gas USD", "tip USD", "net USD"),
            (
                (
                    day.date,
                    str(day.included),
                    str(day.failed),
                    str(day.liquidated),
                    f"{day.gas_usd / USD:,.2f}",
                    f"{day.tip_usd / USD:,.2f}",
                    f"{day.net_usd / USD:,.2f}",
                )
                for day in (*found.days, total)
            ),
        ),
        _each(rows),
        "</html>\n",
    ]
    return "\n".join(parts)


def _each(rows: Sequence[LiquidationRow]) -> str:
    told = "<h2>Every liquidation that others had</h2>"
    return told + _table(COLUMNS, (cells(row) for row in rows)) if rows else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _bars(names: Sequence[str], values: Sequence[float], colour: str) -> str:
    """Return bars from zero up, losses down and red."""
    if not values:
        return "<p>nothing</p>"
    low, high = min(0.0, *values), max(0.0, *values)
    step = min((_WIDTH - _LEFT) / len(values), _WIDEST)
    zero = _y(0.0, low, high)
    drawn = []
    for k, value in enumerate(values):
        y = _y(value, low, high)
        top, tall = min(y, zero), max(abs(y - zero), 0.5)
        drawn.append(
            f'<rect x="{_LEFT + k * step + step * 0.1:.1f}" y="{top:.1f}" '
            f'width="{step * 0.8:.1f}" height="{tall:.1f}" '
            f'fill="{RED if value < 0 else colour}"><title>{escape(names[k])}: {value:,.2f}</title></rect>'
        )
    return _svg("".join(drawn), names, step, low, high)


def _line(names: Sequence[str], values: Sequence[float], colour: str) -> str:
    """Return one line through the values."""
    if not values:
        return "<p>nothing</p>"
    low, high = min(0.0, *values), max(0.0, *values)
    step = min((_WIDTH - _LEFT) / len(values), _WIDEST)
    points = " ".join(
        f"{_LEFT + (k + 0.5) * step:.1f},{_y(value, low, high):.1f}"
        for k, value in enumerate(values)
    )
    mark = "".join(
        f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="3" fill="{colour}"/>'
        for point in points.split()
    )
    drawn = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>{mark}'
    return _svg(drawn, names, step, low, high)


def _y(value: float, low: float, high: float) -> float:
    room = _HEIGHT - _BELOW - 12
    return 12 + room * (high - value) / ((high - low) or 1.0)


def _svg(drawn: str, names: Sequence[str], step: float, low: float, high: float) -> str:
    """Return a picture with its axes; of many names only some are written."""
    every = max(len(names) // 10, 1)
    written = "".join(
        f'<text x="{_LEFT + (k + 0.5) * step:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(name)}</text>"
        for k, name in enumerate(names)
        if k % every == 0
    )
    marks = "".join(
        f'<text x="{_LEFT - 6}" y="{_y(value, low, high) + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        for value in sorted({low, 0.0, high})
    )
    zero = _y(0.0, low, high)
    axis = f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#9fb3c8"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">'
        f"{axis}{drawn}{written}{marks}</svg>"
    )
