"""`keeper scan`: the riskiest positions now, and what liquidating them would bring."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from keeper.app import ScanRow
    from keeper.config import Loaded


def scan(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    below: Annotated[
        str, typer.Option(metavar="HEALTH", help="Show positions with health below this.")
    ] = "1.05",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show at most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List positions by health, the riskiest first."""
    from keeper.cli.screen import amounts, console, show_json, table
    from keeper.config import chain_named
    from keeper.errors import ConfigError

    loaded = settings_from(configs, overrides)
    name = chain_named(loaded.settings, chain)
    try:
        health = Decimal(below)
    except ArithmeticError:
        health = Decimal(0)
    if not (health.is_finite() and 0 < health < 1000):
        raise ConfigError("--below must be a health factor", "--below 1.05")
    rows = run_async(_scan(loaded, name, health, limit))
    if as_json:
        from dataclasses import asdict

        show_json([amounts(asdict(row)) for row in rows])
    elif rows:
        cells = [
            (
                f"{row.health / 10**18:.4f}{' toxic' if row.toxic else ''}",
                row.protocol,
                row.borrower,
                row.debt,
                row.collateral,
                "–" if row.net_usd is None else f"{row.net_usd / 10**8:+,.0f} USD",
                row.why or "–",
            )
            for row in rows
        ]
        head = ("health", "protocol", "borrower", "debt", "collateral", "would net", "why not now")
        console().print(table(head, cells, right=("health", "debt", "collateral", "would net")))
    else:
        console().print(f"no position below {below} on {name}")
    raise typer.Exit(0 if rows else 4)


async def _scan(loaded: Loaded, chain: str, below: Decimal, limit: int) -> list[ScanRow]:
    from keeper.app import scan as scan_app
    from keeper.cli.progress import bars
    from keeper.doctor import require_watching

    await require_watching(loaded, chain)
    with bars() as progress:
        return await scan_app(loaded.settings, chain, int(below.scaleb(18)), limit, progress)
