"""`keeper report`: what a span of time came to, in the terminal, as JSON or as one HTML page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, Configs, Overrides, settings_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keeper.journal.liquidations import LiquidationRow
    from keeper.journal.report import Spread, Summary

_FIRST, _LAST = "0001-01-01", "9999-12-31"
_BLOCKS = " ▁▂▃▄▅▆▇█"


def report(
    configs: Configs,
    overrides: Overrides,
    since: Annotated[
        str,
        typer.Option(
            metavar="DATE", help="From this day (UTC) on, as 2026-01-31.", show_default=False
        ),
    ] = _FIRST,
    until: Annotated[
        str, typer.Option(metavar="DATE", help="Up to before this day (UTC).", show_default=False)
    ] = _LAST,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with pictures instead.")
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Also list every liquidation that others had.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show profit over time, the funnel, what others had and why, latency and gas."""
    from keeper.cli.history import span_of
    from keeper.cli.screen import console, show_json, table
    from keeper.errors import ConfigError
    from keeper.journal.liquidations import read_liquidations
    from keeper.journal.report import summarise

    if html is not None and as_json:
        raise ConfigError("--html and --json exclude each other", "give one")
    path = settings_from(configs, overrides).settings.journal_file
    span = span_of(since, until)
    found = summarise(path, *span)
    rows = [row for row in read_liquidations(path, *span) if not row.is_ours] if each else []
    if html is not None:
        from keeper.cli.report_page import page

        try:
            html.write_text(page(found, rows), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--html: {html} cannot be written: {error.strerror}") from None
        console().print(f"written to {html}")
    elif as_json:
        show_json(as_json_of(found, rows if each else None))
    else:
        _print(found)
        if rows:
            console().print(table(COLUMNS, [cells(row) for row in rows], right=("tip",)))
    raise typer.Exit(0 if found.days or found.missed else 4)


COLUMNS = (
    *("block second (UTC)", "seen", "block", "index", "market", "borrower"),
    *("winner", "why not ours", "tip", "state"),
)


def cells(row: LiquidationRow) -> tuple[str, ...]:
    """Return a liquidation as the cells of `COLUMNS`; `seen` is how long after its block's second."""
    from keeper.cli.screen import short
    from keeper.journal.history import decimal

    when = datetime.fromtimestamp(row.block_time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    why = f"{row.reason}: {row.detail}" if row.detail else row.reason
    known = row.winner if row.winner != "other" else short(row.liquidator)
    seen = f"{row.seen - row.block_time:+.1f} s"
    place = str(row.block_number), str(row.transaction_index), row.market, short(row.borrower)
    return when, seen, *place, known, why, decimal(int(row.tip), 18), row.state


def as_json_of(found: Summary, rows: Iterable[LiquidationRow] | None = None) -> dict[str, Any]:
    """Return the figures by name; dollars as decimals in text, gas in native coin.

    `rows` are the liquidations that others had, where they are asked for.
    """
    from dataclasses import asdict

    from keeper.cli.screen import amounts
    from keeper.journal.history import decimal

    told: dict[str, Any] = amounts(asdict(found))
    told["total"] = amounts(asdict(found.total()))
    for day in (*told["days"], told["total"]):
        day["gas"] = decimal(int(day["gas"]), 18)
    for name in ("by_strategy", "by_market"):
        told[name] = {key: decimal(usd, 8) for key, usd in told[name].items()}
    if rows is not None:
        told["others"] = [asdict(row) for row in rows]
        for row in told["others"]:
            for name in ("repaid_usd", "seized_usd"):
                row[name] = None if row[name] is None else decimal(int(row[name]), 8)
    return told


def told_of(spread: Spread | None) -> str:
    """Return a spread in words."""
    if spread is None:
        return "nothing measured"
    return f"{spread.p50:,.0f} ms in the middle, {spread.p95:,.0f} ms at the 95th percentile"


def _print(found: Summary) -> None:
    from keeper.cli.screen import console, table, usd

    out = console()
    total = found.total()
    columns = ["day", "transactions", "failed", "liquidated", "gas USD", "tip USD", "net USD"]
    rows = [
        [
            day.date,
            str(day.included),
            str(day.failed),
            str(day.liquidated),
            usd(day.gas_usd),
            usd(day.tip_usd),
            usd(day.net_usd),
        ]
        for day in (*found.days, total)
    ]
    out.print(table(columns, rows, right=columns[1:]))
    out.print(f"net by day   {_bars([day.net_usd for day in found.days])}")
    stages = "  →  ".join(f"{stage} {count:,}" for stage, count in found.funnel.items())
    out.print(f"funnel       {stages}")
    out.print(f"to hand over {told_of(found.decided)}, from the decision to the first send")
    out.print(f"to see       {told_of(found.seen)}, from a block's second to its log here")
    others = sum(each.count for each in found.missed)
    out.print(
        f"liquidations {found.ours:,} ours, {others:,} others', {found.orphaned:,} reorganised out"
    )
    if found.missed:
        missed = [
            [each.winner, each.reason, f"{each.count:,}", usd(each.won_usd)]
            for each in found.missed
        ]
        columns = ["winner", "why not ours", "count", "bonus USD"]
        out.print(table(columns, missed, right=columns[2:]))


def _bars(values: list[int]) -> str:
    """Return one block a value, from none to the largest; a loss is a cross."""
    top = max((value for value in values if value > 0), default=0)
    return "".join(
        "×" if value < 0 else _BLOCKS[round(8 * value / top)] if top else _BLOCKS[0]
        for value in values
    )
