"""`keeper watch`: the status, drawn again and again; nothing can be changed from here."""

import time
from typing import Annotated

import typer

from keeper.cli.options import Configs, Overrides
from keeper.cli.remote import Url, address_of, fetch


def watch(
    configs: Configs,
    overrides: Overrides,
    url: Url = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds between two looks.")
    ] = 1.0,
    times: Annotated[
        int, typer.Option(metavar="N", min=0, help="End after so many looks; 0 is never.")
    ] = 0,
) -> None:
    """Watch a running keeper until interrupted."""
    from rich.live import Live

    from keeper.cli.screen import console
    from keeper.cli.standing import draw
    from keeper.errors import TransientError

    base = address_of(url, configs, overrides)
    _, first = fetch(base, "/status")
    looks = 1
    with Live(draw(first), console=console(), auto_refresh=False) as live:
        while times == 0 or looks < times:
            time.sleep(every)
            looks += 1
            try:
                _, answer = fetch(base, "/status")
                live.update(draw(answer), refresh=True)
            except TransientError as error:
                live.update(str(error), refresh=True)
