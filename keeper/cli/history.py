"""`keeper history`: money earned and spent, by transaction."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from keeper.cli.options import AsJson, Configs, Overrides, settings_from

_FIRST, _LAST = "0001-01-01", "9999-12-31"


def history(
    configs: Configs,
    overrides: Overrides,
    since: Annotated[
        str,
        typer.Option(
            metavar="DATE", help="From this day (UTC) on, as 2026-01-31.", show_default=False
        ),
    ] = _FIRST,
    until: Annotated[
        str, typer.Option(metavar="DATE", help="Up to before this day (UTC).", show_default=False)
    ] = _LAST,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV for accounting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every transaction that paid gas, and what it brought."""
    from keeper.cli.screen import console, short, show_json, table, usd
    from keeper.errors import ConfigError
    from keeper.journal.history import history as entries_of, write_csv
    from keeper.journal.read import JournalReader

    if csv and as_json:
        raise ConfigError("--csv and --json exclude each other", "give one")
    path = settings_from(configs, overrides).settings.journal_file
    plans = JournalReader(path).paid(_seconds(since), _seconds(until))
    entries = list(entries_of(plans))
    if csv:
        write_csv(entries, sys.stdout)
    elif as_json:
        show_json([asdict(entry) for entry in entries])
    elif entries:
        rows = [
            (
                datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                entry.chain,
                short(entry.transaction),
                entry.outcome,
                entry.borrowers,
                usd(entry.gas_usd),
                usd(entry.tip_usd),
                usd(entry.net_usd),
            )
            for entry in entries
        ]
        total = sum(entry.net_usd for entry in entries)
        columns = ("time (UTC)", "chain", "transaction", "outcome", "liquidated")
        money = ("gas USD", "tip USD", "net USD")
        console().print(table((*columns, *money), rows, right=("liquidated", *money)))
        console().print(f"{len(entries)} transactions, net {usd(total)} USD")
    else:
        console().print("no transaction on record")
    raise typer.Exit(0 if entries else 4)


def _seconds(day: str) -> float:
    from keeper.errors import ConfigError

    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ConfigError(f"{day!r} is no date", "--since 2026-01-31") from None
