"""`keeper record`: write a tape of a chain, to go through again with `keeper replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from keeper.app import Recorded
    from keeper.config import Loaded


def record(
    configs: Configs,
    overrides: Overrides,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="TAPE", help="File to write or go on with.")
    ],
    chain: ChainName = None,
    first: Annotated[
        int | None,
        typer.Option("--from", metavar="BLOCK", min=1, help="First block; now unless given."),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="BLOCK", min=1, help="Last block; until stopped if not given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a tape: heads, logs, prices, state and everybody's liquidations. It sends nothing."""
    from keeper import log
    from keeper.cli.progress import CurrentStderr
    from keeper.cli.screen import console, show_json
    from keeper.config import chain_named
    from keeper.errors import ConfigError

    if first is not None and last is not None and last < first:
        raise ConfigError(f"--to {last} is before --from {first}", "give a later block")
    loaded = settings_from(configs, overrides)
    log.configure("warning", loaded.settings.log.format, CurrentStderr())
    name = chain_named(loaded.settings, chain)
    if last is None and not as_json:
        print(f"recording {name} into {output}, until Ctrl-C", file=sys.stderr)
    made = run_async(_record(loaded, name, output, first, last))
    if as_json:
        from dataclasses import asdict

        show_json({"tape": str(output), "chain": name, **asdict(made)})
        return
    if made.continued_at is not None:
        torn = ", its torn end cut off" if made.cut_off else ""
        console().print(f"{output} was there up to block {made.continued_at}{torn}")
    unread = f", {made.unread} of them without prices" if made.unread else ""
    console().print(
        f"{output}: {made.heads} heads of {name} up to block {made.last}{unread}, "
        f"{made.liquidations} liquidations"
    )
    sizes = made.sizes
    console().print(
        f"wrote {_megabytes(sizes.stored)} ({_megabytes(sizes.raw)} before packing): "
        f"state {_megabytes(sizes.state)}, heads {_megabytes(sizes.blocks)}"
    )


async def _record(
    loaded: Loaded, chain: str, path: Path, first: int | None, last: int | None
) -> Recorded:
    """Record until done; Ctrl-C and SIGTERM end it in good order."""
    import asyncio
    import signal

    from keeper.app import Recorded, record as record_app
    from keeper.cli.progress import bars
    from keeper.doctor import require_watching

    await require_watching(loaded, chain)
    so_far = [Recorded()]
    with bars() as progress:
        working = asyncio.ensure_future(
            record_app(loaded.settings, chain, path, first, last, progress, so_far.append)
        )
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, working.cancel)
        try:
            return await working
        except asyncio.CancelledError:
            return so_far[-1]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB" if size >= 10_000 else f"{size:,} bytes"
