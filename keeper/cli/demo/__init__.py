"""`keeper demo`: the main job, live, on a local chain with the real contracts."""

from pathlib import Path
from typing import Annotated

import typer

EACH = 20
"""Borrowers of each protocol when nobody says how many."""


def demo(
    borrowers: Annotated[
        int | None,
        typer.Option(
            "--borrowers",
            metavar="N",
            min=1,
            max=5000,
            help=f"How many borrowers to open; default {EACH} of each protocol.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="The same seed tells the same story.")
    ] = 1,
    protocols: Annotated[
        str,
        typer.Option(
            "--protocols",
            metavar="NAMES",
            help="Lending protocols to play, with commas between them, or `all`.",
        ),
    ] = "aave-v3",
    lanes: Annotated[
        int,
        typer.Option("--lanes", metavar="N", min=1, max=8, help="How many wallets send."),
    ] = 1,
    hold: Annotated[
        bool, typer.Option("--hold", help="Keep chain and keeper running afterwards.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="Save a picture of the terminal to a file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end.")
    ] = False,
) -> None:
    """Watch the keeper liquidate a crowd of borrowers through a price crash."""
    from keeper.cli.demo.play import play
    from keeper.cli.demo.street import chosen
    from keeper.cli.screen import show_json

    names = chosen(protocols)
    summary = play(
        borrowers=borrowers or EACH * len(names),
        seed=seed,
        protocols=names,
        lanes=lanes,
        hold=hold,
        svg=svg,
        quiet=as_json,
    )
    if as_json:
        show_json(summary.as_json())
    if not summary.is_clean:
        raise typer.Exit(1)
