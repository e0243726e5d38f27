"""Paths of prices: built-in shapes, shocks by hand, and histories from a CSV file."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keeper.errors import ConfigError
from keeper.stress.dates import step_of
from keeper.types import Token
from keeper.units import Address

Multiples = Mapping[Address, float]
"""Prices as multiples of what they are now; an asset that is not named stands still."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A name and one step after the other, each relative to the prices now.

    `seconds` lie between two steps of a history; one that is made up has no clock.
    """

    name: str
    steps: tuple[Multiples, ...]
    seconds: float | None = None


def named(
    name: str, moving: Sequence[Address], steady: Sequence[Address], tokens: Mapping[Address, Token]
) -> Shape:
    """Return a built-in shape for the assets that move and those worth a dollar."""
    match name:
        case "flash-crash":
            steps = [dict.fromkeys(moving, x) for x in (0.85, 0.6, 0.8)]
        case "slow-slide":
            steps = [dict.fromkeys(moving, 0.98**k) for k in range(1, 31)]
        case "correlated-crash":
            # What follows the first asset falls further than it, as in every crash on record.
            steps = [
                {asset: x if k == 0 else x**1.25 for k, asset in enumerate(moving)}
                for x in (0.9, 0.8, 0.7, 0.6)
            ]
        case "depeg":
            if not steady:
                raise ConfigError("no asset here is worth a dollar", "--shock SYMBOL=-10%")
            steps = [{steady[0]: x} for x in (0.99, 0.95, 0.88)]
            return Shape(f"depeg of {tokens[steady[0]].symbol}", tuple(steps))
        case _:
            raise ConfigError(f"no shape is called {name}", f"one of {', '.join(SHAPES)}")
    if not moving:
        raise ConfigError("every asset here is worth a dollar", "--shape depeg")
    return Shape(name, tuple(steps))


SHAPES = ("flash-crash", "slow-slide", "depeg", "correlated-crash")


def shocked(shocks: Sequence[str], tokens: Mapping[Address, Token]) -> Shape:
    """Return one step from shocks such as `WETH=-30%`; an unknown asset is an error."""
    step: dict[Address, float] = {}
    for shock in shocks:
        symbol, given, text = shock.partition("=")
        try:
            multiple = 1 + float(text.removesuffix("%")) / 100
        except ValueError:
            multiple = math.nan
        if not given or not text.endswith("%") or math.isnan(multiple):
            raise ConfigError(f"--shock {shock} is no SYMBOL=PERCENT", "--shock WETH=-30%")
        if not (math.isfinite(multiple) and multiple > 0):
            raise ConfigError(f"--shock {shock} leaves no price", "more than -100%")
        for asset in assets(symbol, tokens, "--shock"):
            if asset in step:
                raise ConfigError(f"--shock names {symbol} twice", "give one")
            step[asset] = multiple
    return Shape(", ".join(shocks), (step,))


def assets(symbols: str, tokens: Mapping[Address, Token], where: str) -> list[Address]:
    """Return the assets of comma-separated symbols; an unknown one is an error that lists all."""
    found: list[Address] = []
    for symbol in symbols.split(","):
        matching = [a for a, token in tokens.items() if token.symbol.lower() == symbol.lower()]
        if not matching:
            known = ", ".join(sorted({token.symbol for token in tokens.values()}))
            raise ConfigError(f"{where}: no market lists an asset {symbol}", f"known: {known}")
        found += matching
    return found


def history(path: Path, columns: Mapping[str, Sequence[Address]]) -> Shape:
    """Return a price history as multiples of its first row.

    A CSV file with a header and dates in its first column, oldest first; `columns` says which assets
    follow which column. Every price is a number above zero, or the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from None
    lines = [(line, row) for line, row in enumerate(rows[1:], start=2) if row]
    if len(lines) < 2:
        raise ConfigError(f"{path} has no prices", "a header and two rows at least")
    header = [name.strip() for name in rows[0]]
    for column in columns:
        if column not in header:
            raise ConfigError(f"{path} has no column {column}", f"its columns: {', '.join(header)}")
    table = [
        [_number(row, header.index(name), path, line) for name in columns] for line, row in lines
    ]
    first = table[0]
    return Shape(
        path.name,
        tuple(
            {
                asset: price / start
                for price, start, assets_of in zip(row, first, columns.values(), strict=True)
                for asset in assets_of
            }
            for row in table[1:]
        ),
        step_of([(line, row[0]) for line, row in lines], path),
    )


def _number(row: Sequence[str], place: int, path: Path, line: int) -> float:
    try:
        price = float(row[place])
    except (IndexError, ValueError):
        price = math.nan
    if not (math.isfinite(price) and price > 0):
        said = row[place] if place < len(row) else "nothing"
        raise ConfigError(f"{path}, line {line}: {said} is no price")
    return price
