"""`keeper stress`: what falling prices would make liquidatable, and what it would be worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from keeper.app import Asked, Stressed
    from keeper.config import Loaded
    from keeper.stress.exposure import Fallen

_SHOWN = (0, 4, 8, 12, 16, 20, 24, 28, 32)
"""Points of a curve that a table has room for."""


def stress(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    shape: Annotated[
        str,
        typer.Option(help="flash-crash, slow-slide, depeg or correlated-crash."),
    ] = "correlated-crash",
    shocks: Annotated[
        list[str] | None,
        typer.Option("--shock", metavar="SYMBOL=PERCENT", help="Instead: one price; repeatable."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Instead: a price history, with --column: dates first, oldest row first.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=SYMBOLS", help="What follows a column; repeatable."),
    ] = None,
    grid: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="SYMBOLS SYMBOLS", help="Also every pair of two shocks, 41 × 41."),
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Random futures; 0 for none.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the futures.")] = 1,
    volatility: Annotated[
        float, typer.Option(min=0.01, max=10, help="Annual, of every asset that moves.")
    ] = 0.8,
    correlation: Annotated[float, typer.Option(min=0, max=1, help="Of every pair of them.")] = 0.7,
    hours: Annotated[
        int,
        typer.Option(
            min=1, max=8_760, help="How far the futures go; a history's rows by their dates."
        ),
    ] = 24,
    feedback: Annotated[
        float, typer.Option(min=0, max=1, help="How far oracles follow pools that sales moved.")
    ] = 1.0,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw it; needs keeper[plot].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play a fall of prices on the live book: who falls, what cascades, what it would earn."""
    from keeper import log
    from keeper.app import Asked
    from keeper.cli.progress import CurrentStderr
    from keeper.cli.screen import show_json
    from keeper.config import chain_named

    loaded = settings_from(configs, overrides)
    log.configure("warning", loaded.settings.log.format, CurrentStderr())
    name = chain_named(loaded.settings, chain)
    asked = Asked(
        shape=shape,
        shocks=shocks or (),
        history=history,
        columns=columns or (),
        grid=grid,
        draws=draws,
        seed=seed,
        volatility=volatility,
        correlation=correlation,
        hours=hours,
        feedback=feedback,
    )
    if plot is not None:
        from keeper.cli.stress_plot import require

        require()
    found = run_async(_stress(loaded, name, asked))
    if plot is not None:
        from keeper.app.stress import MULTIPLES
        from keeper.cli.stress_plot import draw

        draw(plot, MULTIPLES, found.curves, found.cascade, found.tokens)
    if as_json:
        show_json(as_json_of(found))
    else:
        _print(found)


async def _stress(loaded: Loaded, chain: str, asked: Asked) -> Stressed:
    from keeper.app import stress as stress_app
    from keeper.cli.progress import bars
    from keeper.doctor import require_watching

    await require_watching(loaded, chain)
    with bars() as progress:
        return await stress_app(loaded.settings, chain, asked, progress)


def as_json_of(found: Stressed) -> dict[str, Any]:
    """Return what was found by name; dollars of a cascade as text, estimates as numbers."""
    from dataclasses import asdict

    from keeper.app.stress import GRID, MULTIPLES
    from keeper.cli.screen import amounts

    def symbol(asset: bytes) -> str:
        return next(t.symbol for a, t in found.tokens.items() if a == asset)

    outcome = found.cascade
    return {
        "chain": found.chain,
        "head": found.head,
        "borrowers": found.borrowers,
        "debt": round(found.debt_usd, 2),
        "multiples": [round(x, 6) for x in MULTIPLES],
        "curves": {
            name: [asdict_of(each) for each in curve] for name, curve in found.curves.items()
        },
        "grid_multiples": [round(x, 6) for x in GRID] if found.grid else [],
        "grid": [[asdict_of(each) for each in row] for row in found.grid],
        "notes": list(found.notes),
        "futures": None if found.spread is None else asdict(found.spread),
        "cascade": amounts(
            {
                "shape": outcome.shape,
                "liquidations": len(outcome.acts),
                "repaid_usd": outcome.repaid_usd,
                "profit_usd": outcome.profit_usd,
                "bad_debt_usd": outcome.bad_debt_usd,
                "shortfall_usd": outcome.shortfall_usd,
                "left": outcome.left,
                "left_usd": outcome.left_usd,
                "rounds": [
                    {
                        "step": each.step,
                        "liquidations": each.acts,
                        "repaid_usd": each.repaid_usd,
                        "profit_usd": each.profit_usd,
                        "prices": {symbol(a): round(p, 8) for a, p in each.prices.items()},
                    }
                    for each in outcome.rounds
                ],
            }
        ),
    }


def asdict_of(fallen: Fallen) -> dict[str, float]:
    """Return a point of a curve by name."""
    return {"borrowers": fallen.borrowers, "debt": round(fallen.debt_usd, 2)}


def _print(found: Stressed) -> None:
    from keeper.app.stress import MULTIPLES
    from keeper.cli.screen import console, table, usd

    out = console()
    out.print(
        f"{found.chain}, block {found.head}: {found.borrowers:,} borrowers owe "
        f"{found.debt_usd:,.0f} USD"
    )
    for note in found.notes:
        out.print(f"! {note}", markup=False)
    names = list(found.curves)
    rows = [
        [f"{MULTIPLES[k] - 1:+.0%}"]
        + [
            f"{found.curves[name][k].debt_usd:,.0f} ({found.curves[name][k].borrowers:,})"
            for name in names
        ]
        for k in _SHOWN
    ]
    out.print("\nliquidatable debt in USD (borrowers), if prices fell by")
    out.print(table(["fall", *names], rows, right=names))
    if found.spread is not None:
        futures = found.spread
        out.print(
            f"\n{futures.draws:,} random futures: liquidatable debt {futures.mean_usd:,.0f} USD on "
            f"average, {futures.p95_usd:,.0f} at the 95th percentile, {futures.tail_usd:,.0f} in the "
            f"worst 5 %, {futures.worst_usd:,.0f} at worst"
        )
    outcome = found.cascade
    out.print(f"\n{outcome.shape}, played out:")
    played = [
        [
            str(each.step + 1),
            str(each.acts),
            usd(each.repaid_usd),
            usd(each.profit_usd),
            ", ".join(
                f"{found.tokens[asset].symbol} {price:,.2f}"
                for asset, price in list(each.prices.items())[:4]
            ),
        ]
        for each in outcome.rounds
    ]
    heads = ["step", "liquidations", "repaid USD", "profit USD", "prices after"]
    out.print(table(heads, played, right=heads[:4]))
    out.print(
        f"{len(outcome.acts):,} liquidations repay {usd(outcome.repaid_usd)} USD and earn "
        f"{usd(outcome.profit_usd)}; bad debt {usd(outcome.bad_debt_usd)}, "
        f"{usd(outcome.shortfall_usd)} of it beyond the markets' reserves; "
        f"{outcome.left} left that nobody earns on, {usd(outcome.left_usd)} USD"
    )
