"""`keeper margin`: how watched positions stand, whether messages arrive, and who has seen them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keeper.config import Settings

app = typer.Typer(
    no_args_is_help=True, help="See who is warned before a liquidation, test and acknowledge."
)
NOT_DELIVERED, NOTHING = 3, 4
LIMIT = 50
LIST_SECONDS = 120.0
"""How long a keeper may take to list everybody, between its heads."""


@app.command("list")
def list_positions(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Show the positions that are safe as well.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Show the N worst; JSON has all.")
    ] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """List watched positions that are not safe, worst first, and channels that do not deliver.

    A running keeper says how they stand now; without one the journal says how they stood.
    """
    from keeper.cli.screen import console, show_json, table
    from keeper.config import chain_named
    from keeper.errors import TransientError

    settings = settings_from(configs, overrides).settings
    if chain is not None:
        chain_named(settings, chain)
    most = None if as_json else limit
    try:
        (listed, total), source = _asked(settings, chain, most, whole=whole), "keeper"
    except TransientError:
        (listed, total), source = _recorded(settings, chain, most, whole=whole), "journal"
    stuck = _stuck(settings)
    if as_json:
        show_json({"source": source, "positions": listed, "channels": stuck})
    elif listed:
        rows = [
            (
                each["level"] + (" (seen)" if each["acknowledged"] else ""),
                "–" if each["health"] is None else f"{each['health']:.4f}",
                each["borrower"],
                f"{each['market']} on {each['chain']}",
                "–" if each["debt_usd"] is None else f"{each['debt_usd']:,.0f}",
                each["watch"],
                datetime.fromtimestamp(each["since"], UTC).strftime("%Y-%m-%d %H:%M"),
                "–" if each["head"] is None else str(each["head"]),
            )
            for each in listed
        ]
        columns = ("level", "health", "borrower", "market", "debt USD", "watch", "since (UTC)")
        right = ("health", "debt USD", "block")
        console().print(table((*columns, "block"), rows, right=right))
        if total > len(listed):
            console().print(f"and {total - len(listed)} more: --limit shows them, --json all")
    else:
        console().print("no watched position is near its liquidation")
    if source == "journal" and not as_json:
        console().print("no keeper runs: this is how it stood when the last one ended")
    for each in stuck if not as_json else ():
        console().print(
            f"channel {each['channel']}: {each['waiting']} waiting, {each['given_up']} given up: "
            f"{each['error']}"
        )
        for title in each["lost"]:
            console().print(f"  given up: {title}")
    raise typer.Exit(0 if listed else NOTHING)


@app.command("test")
def try_channels(
    configs: Configs,
    overrides: Overrides,
    channel: Annotated[
        str | None, typer.Argument(metavar="CHANNEL", help="One channel; all unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message through each channel and say whether it arrived."""
    from keeper.cli.screen import console, show_json
    from keeper.errors import ConfigError

    settings = settings_from(configs, overrides).settings
    known = settings.notify.channels
    if not known:
        raise ConfigError("no channel is configured", "add [notify.channels.NAME]")
    if channel is not None and channel not in known:
        raise ConfigError(f"no channel is named {channel!r}", f"one of: {', '.join(sorted(known))}")
    results = run_async(_test(settings, [channel] if channel else sorted(known)))
    if as_json:
        show_json(results)
    else:
        for name, fault in results.items():
            console().print(f"{name}: {fault or 'delivered'}")
    if any(results.values()):
        raise typer.Exit(NOT_DELIVERED)


@app.command()
def ack(
    configs: Configs,
    overrides: Overrides,
    borrower: Annotated[str, typer.Argument(metavar="BORROWER", help="The borrower's address.")],
    chain: ChainName = None,
    as_json: AsJson = False,
) -> None:
    """Acknowledge a borrower's calls: nobody is reminded of them until they get worse."""
    from keeper.cli.control import ask
    from keeper.cli.screen import console, show_json
    from keeper.config import chain_named, parse_address
    from keeper.errors import ConfigError

    settings = settings_from(configs, overrides).settings
    if chain is not None:
        chain_named(settings, chain)
    try:
        parse_address(borrower)
    except ValueError as error:
        raise ConfigError(f"{borrower[:60]!r} {error}", "keeper margin list shows them") from None
    asked = {"command": "ack", "borrower": borrower, "chain": chain}
    answer = ask(settings.journal.home / "control.sock", asked)
    if "error" in answer:
        raise ConfigError(str(answer["error"]), "keeper margin list shows the open ones")
    if as_json:
        show_json(answer)
    else:
        console().print(answer["text"])


def _asked(
    settings: Settings, chain: str | None, limit: int | None, *, whole: bool
) -> tuple[list[dict[str, Any]], int]:
    from keeper.cli.control import ask

    asked = {"command": "margin", "chain": chain, "whole": whole, "limit": limit}
    answer = ask(settings.journal.home / "control.sock", asked, LIST_SECONDS)
    found: list[dict[str, Any]] = answer.get("positions", [])
    return _worst_first(found)[:limit], int(answer.get("total", 0))


def _recorded(
    settings: Settings, chain: str | None, limit: int | None, *, whole: bool
) -> tuple[list[dict[str, Any]], int]:
    from keeper.journal.outbox import OutboxReader
    from keeper.margin.levels import Level
    from keeper.margin.records import listed_row

    if not settings.journal_file.exists():
        return [], 0
    rows = [
        row
        for row in OutboxReader(settings.journal_file).standings()
        if chain in {None, row.chain} and (row.level != Level.SAFE.word or whole)
    ]
    return _worst_first(map(listed_row, rows))[:limit], len(rows)


def _worst_first(listed: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(listed, key=lambda each: (each["health"] is None, each["health"]))


def _stuck(settings: Settings) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from keeper.journal.outbox import OutboxReader

    if not settings.journal_file.exists():
        return []
    return [asdict(each) for each in OutboxReader(settings.journal_file).channels()]


async def _test(settings: Settings, names: list[str]) -> dict[str, str]:
    import time

    from keeper.app.margin import try_channel

    channels = settings.notify.channels
    return {name: await try_channel(name, channels[name], time.time) for name in names}
