"""`keeper doctor`: named checks of everything that must stand before the keeper runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from keeper.config import Loaded


def doctor(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="Send a test message through every channel.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check configuration, endpoints, contract, wallet and machine; exit 3 on a problem."""
    from keeper.config import chain_named

    loaded = settings_from(configs, overrides)
    if chain is not None:
        chain_named(loaded.settings, chain)
    showing = examine_and_show(loaded, chain=chain, notify=notify, as_json=as_json)
    raise typer.Exit(run_async(showing))


async def examine_and_show(
    loaded: Loaded, *, chain: str | None = None, notify: bool = False, as_json: bool = False
) -> int:
    """Print findings as they are made and return the exit code: 3 when one failed."""
    import time
    from functools import partial

    from rich.markup import escape

    from keeper.app.margin import try_channel
    from keeper.cli.run import asker
    from keeper.cli.screen import console, mark, show_json
    from keeper.doctor import State, examine
    from keeper.log import redact_text

    screen = console()
    checks = []
    shown = None
    attempt = partial(try_channel, now=time.time) if notify else None
    found = examine(loaded, chain=chain, beside=True, ask=asker(), attempt=attempt, feeds=True)
    async for check in found:
        checks.append(check)
        if as_json:
            continue
        if check.chain != shown:
            shown = check.chain
            screen.print(f" [bold]{shown or 'process'}[/]")
        hint = f"  → {check.hint}" if check.hint else ""
        line = redact_text(f"{check.name:<18} {check.detail}{hint}")
        screen.print(f"  {mark(check.state)} {escape(line)}", soft_wrap=True)
    failed = sum(check.state is State.FAIL for check in checks)
    warned = sum(check.state is State.WARN for check in checks)
    if as_json:
        listed = [{k: redact_text(v) for k, v in check.as_json().items()} for check in checks]
        show_json({"checks": listed, "problems": failed, "warnings": warned})
    else:
        screen.print(f" {_count(failed, 'problem')}, {_count(warned, 'warning')}")
    return 3 if failed else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
