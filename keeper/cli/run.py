"""`keeper run`: follow, decide and, where both the file and the flag say so, send."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.options import Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from keeper.config import Loaded
    from keeper.signers import Ask


def run(
    configs: Configs,
    overrides: Overrides,
    live: Annotated[
        bool, typer.Option("--live", help='Send, if the file says mode = "live" too.')
    ] = False,
) -> None:
    """Run the keeper: dry unless the file says `mode = "live"` and the flag `--live` is given."""
    from keeper import log
    from keeper.cli.progress import CurrentStderr

    loaded = settings_from(configs, overrides)
    log.configure(loaded.settings.log.level, loaded.settings.log.format, CurrentStderr())
    sends, why = resolve_live(loaded.settings.mode, flag=live)
    again = partial(settings_from, configs, overrides)
    raise typer.Exit(run_async(_run(loaded, again, sends, why)))


def resolve_live(mode: str, *, flag: bool) -> tuple[bool, str]:
    """Return whether to send, and the half that is missing when only one was given."""
    if mode == "live" and flag:
        return True, ""
    if mode == "live":
        return False, 'dry: the file says mode = "live", and --live is missing'
    if flag:
        return False, 'dry: --live is given, and mode = "live" is missing in the file'
    return False, ""


def asker() -> Ask | None:
    """Return what asks for a password, each only once; None when nobody sits at a terminal."""
    from getpass import getpass

    return cache(getpass) if sys.stdin.isatty() else None


async def _run(loaded: Loaded, again: Callable[[], Loaded], live: bool, why: str) -> int:
    from keeper.app import run as run_app
    from keeper.cli.progress import bars
    from keeper.doctor import State, require

    ask = asker()
    # Half of what live takes is a dry run, of which less is asked.
    mode = {"mode": "live" if live else "dry"}
    wanted = replace(loaded, settings=loaded.settings.model_copy(update=mode))
    for check in await require(wanted, ask):
        if check.state is State.WARN and check.name.startswith("relay "):
            print(f"{check.chain}: {check.detail} → {check.hint}", file=sys.stderr)
    if why:
        print(why, file=sys.stderr)
    with bars() as progress:
        return await run_app(loaded.settings, live, ask, progress, again)
