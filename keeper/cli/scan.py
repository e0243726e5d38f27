"""`keeper scan`: the riskiest positions now, and what liquidating them would bring."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from keeper.cli.chosen import Chosen, load_chosen, variants
from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from keeper.app import Comparison, ScanRow, Variant
    from keeper.config import Loaded


def scan(
    configs: Configs,
    overrides: Overrides,
    strategies: Chosen,
    chain: ChainName = None,
    below: Annotated[
        str, typer.Option(metavar="HEALTH", help="Show positions with health below this.")
    ] = "1.05",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show at most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List positions by health, the riskiest first; with --strategy, what each would do now."""
    from keeper.cli.screen import amounts, console, show_json, table
    from keeper.config import chain_named
    from keeper.errors import ConfigError

    if strategies:
        _compare(configs, overrides, strategies, chain, limit, as_json)
    loaded = settings_from(configs, overrides)
    _log_aside(loaded)
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


def _compare(
    configs: list[Path],
    overrides: list[str],
    names: list[str],
    chain: str | None,
    limit: int,
    as_json: bool,
) -> NoReturn:
    """Print what each strategy would do about every position at risk, side by side."""
    from keeper.cli.screen import amounts, console, short, show_json, table, usd
    from keeper.config import chain_named

    loaded = load_chosen(configs, overrides, names)
    _log_aside(loaded)
    name = chain_named(loaded.settings, chain)
    found = run_async(_compared(loaded, name, variants(loaded, name, names)))
    if as_json:
        from dataclasses import asdict

        rows = [amounts(asdict(row)) for row in found.rows[:limit]]
        nets = [amounts({"net_usd": net})["net_usd"] for net in found.nets_usd]
        each = [
            {"name": n, "plans": plans, "net_usd": net}
            for n, plans, net in zip(found.names, found.plans, nets, strict=True)
        ]
        show_json({"head": found.head, "strategies": each, "positions": rows})
        raise typer.Exit(0 if rows else 4)
    if not found.rows:
        console().print(f"no position at risk on {name} at block {found.head}")
        raise typer.Exit(4)
    columns = ["health", "borrower"]
    for each_name in found.names:
        columns += [f"{each_name}: net USD", "decision"]
    cells = [
        [f"{row.health / 10**18:.4f}", short(row.borrower)]
        + [text for v in row.verdicts for text in (usd(v.net_usd), v.told)]
        for row in found.rows[:limit]
    ]
    console().print(table(columns, cells, right=[c for c in columns if c.endswith("USD")]))
    for each_name, plans, net in zip(found.names, found.plans, found.nets_usd, strict=True):
        many = "1 plan" if plans == 1 else f"{plans} plans"
        console().print(f"{each_name}: {many}, net {usd(net)} USD at block {found.head}")
    raise typer.Exit


def _log_aside(loaded: Loaded) -> None:
    """Let the log go to stderr: what is printed is for people, or for a program to read."""
    from keeper import log
    from keeper.cli.progress import CurrentStderr

    log.configure("warning", loaded.settings.log.format, CurrentStderr())


async def _compared(loaded: Loaded, chain: str, asked: list[Variant]) -> Comparison:
    from keeper.app import compare
    from keeper.cli.progress import bars
    from keeper.doctor import require_watching

    await require_watching(loaded, chain)
    with bars() as progress:
        return await compare(loaded.settings, chain, asked, progress)
