"""What commands print: JSON, tables and marks, plain where there is no terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_AMOUNTS = frozenset(
    {
        *("collateral_value", "debt_value", "gain", "gas_price", "net"),
        *("paid", "premium", "proceeds", "received", "repaid"),
    }
)


def console() -> Console:
    """Return where people read; NO_COLOR, which `--no-color` sets, turns colours off."""
    from rich.console import Console

    # what another program reads is never folded
    width = None if sys.stdout.isatty() else 4096
    return Console(highlight=False, no_color="NO_COLOR" in os.environ, width=width)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[str] = ()
) -> Table:
    """Return a plain table; `right` names the columns of numbers."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numbers = set(right)
    for column in columns:
        drawn.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(str(cell)) for cell in row))
    return drawn


def show_json(value: Any) -> None:
    """Print one JSON document; 20 and 32 bytes become 0x text."""
    import json

    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def amounts(value: Any, name: str = "") -> Any:
    """Return a JSON value with every amount as text: a reader's double would round it.

    Dollars and health become decimals; other amounts stay in their smallest unit.
    """
    from keeper.journal.history import decimal

    match value:
        case dict():
            return {
                key: amounts(below, "gain" if name == "gains" else str(key))
                for key, below in value.items()
            }
        case list() | tuple():
            return [amounts(below) for below in value]
        case int() if name.endswith("_usd"):
            return decimal(value, 8)
        case int() if name == "health":
            return decimal(value, 18)
        case int() if name in _AMOUNTS:
            return str(value)
        case _:
            return value


def mark(state: str) -> str:
    """Return a state's symbol on a terminal and its word elsewhere."""
    if not sys.stdout.isatty():
        return state.ljust(4)
    return f"[{COLOURS[state]}]{MARKS[state]}[/]"


def short(address: str) -> str:
    """Return a hex text as its two ends."""
    return f"{address[:6]}…{address[-4:]}" if len(address) > 12 else address


def usd(value: int | None) -> str:
    """Show dollars with 8 decimals, to the cent."""
    return "–" if value is None else f"{value / 10**8:,.2f}"


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
