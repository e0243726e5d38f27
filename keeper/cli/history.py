"""`keeper history`: money earned and spent, by transaction."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, Configs, Overrides, settings_from

if TYPE_CHECKING:
    from keeper.journal.history import Entry

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
    plans = JournalReader(path).paid(*span_of(since, until))
    entries = list(entries_of(plans))
    if csv:
        write_csv(entries, sys.stdout)
    elif as_json:
        show_json([_record(entry) for entry in entries])
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


def _record(entry: Entry) -> dict[str, Any]:
    """Return an entry with the amounts the CSV has, as decimals in text."""
    from keeper.cli.screen import amounts
    from keeper.journal.history import decimal

    record: dict[str, Any] = amounts(asdict(entry))
    record["gas_native"] = decimal(entry.gas, 18)
    del record["gas"]
    for flow, shown in zip(entry.flows, record["flows"], strict=True):
        shown["received"] = decimal(flow.received, flow.decimals)
        shown["paid"] = decimal(flow.paid, flow.decimals)
    return record


def seconds(day: str) -> float:
    """Return when a day begins; raise `ConfigError` for what is none."""
    from keeper.errors import ConfigError

    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ConfigError(f"{day!r} is no date", "--since 2026-01-31") from None


def span_of(since: str, until: str) -> tuple[float, float]:
    """Return when two days begin; raise `ConfigError` unless the first comes before the second."""
    from keeper.errors import ConfigError

    span = seconds(since), seconds(until)
    if span[0] >= span[1]:
        raise ConfigError(f"--until {until} is not after --since {since}", "give a later day")
    return span
