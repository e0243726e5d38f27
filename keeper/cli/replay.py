"""`keeper replay`: what strategies and settings would have made of a recorded chain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.chosen import Chosen, load_chosen, variants
from keeper.cli.options import AsJson, Configs, Overrides, run_async

if TYPE_CHECKING:
    from keeper.app import Audited, Outcome, Variant
    from keeper.config import Chain


def replay(
    tape: Annotated[Path, typer.Argument(metavar="TAPE", help="A file `keeper record` wrote.")],
    configs: Configs,
    overrides: Overrides,
    strategies: Chosen,
    is_audited: Annotated[
        bool,
        typer.Option("--audit/--no-audit", help="Go through it again with the later half away."),
    ] = True,
    missed: Annotated[
        int, typer.Option("--missed", metavar="N", min=0, help="Show so many missed liquidations.")
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Run a tape through the line and print profit, skips and what was missed, per setting."""
    from keeper import log
    from keeper.app import chain_of
    from keeper.cli.progress import CurrentStderr
    from keeper.cli.screen import show_json
    from keeper.tape.reading import read_title

    loaded = load_chosen(configs, overrides, strategies)
    log.configure("warning", loaded.settings.log.format, CurrentStderr())
    name, table = chain_of(read_title(tape), loaded.settings, str(tape))
    asked = variants(loaded, name, strategies)
    outcomes, audited = run_async(_replay(tape, name, table, asked, is_audited))
    if as_json:
        from keeper.cli.screen import amounts

        show_json({"variants": [amounts(as_json_of(each)) for each in outcomes], **_shown(audited)})
    else:
        _print(outcomes, audited, missed)


async def _replay(
    tape: Path, name: str, table: Chain, asked: list[Variant], is_audited: bool
) -> tuple[list[Outcome], Audited | None]:
    from keeper.app import audit, replay as replay_app
    from keeper.tape.reading import read_tape

    where = str(tape)
    outcomes = await replay_app(name, table, read_tape(tape), asked, where=where)
    if not is_audited:
        return outcomes, None
    return outcomes, await audit(name, table, read_tape(tape), asked, outcomes, where)


def as_json_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome's figures by name; dollars as they are kept."""
    contested, contested_usd = outcome.contested
    return {
        "name": outcome.name,
        "heads": outcome.heads,
        "undecided": outcome.undecided,
        "opportunities": len(outcome.at_risk),
        "plans": outcome.plans,
        "taken": outcome.items,
        "net_usd": outcome.net_usd,
        "revenue_usd": outcome.revenue_usd,
        "gas_usd": outcome.gas_usd,
        "tip_usd": outcome.tip_usd,
        "failed": outcome.failed,
        "dropped": outcome.dropped,
        "open": outcome.open,
        "settled_by_record": outcome.by_record,
        "contested": contested,
        "contested_net_usd": contested_usd,
        "taken_on_chain_too": outcome.matched,
        "skipped": dict(sorted(outcome.skipped().items())),
        "missed": [
            {
                "block": each.liquidation.block_number,
                "transaction": each.liquidation.tx_hash,
                "index": each.liquidation.tx_index,
                "market": each.liquidation.market,
                "borrower": each.liquidation.borrower,
                "by": "this contract" if each.is_ours else each.liquidation.liquidator,
                "why": each.why,
            }
            for each in outcome.missed
        ],
        "faults": outcome.faults,
    }


def _shown(audited: Audited | None) -> dict[str, Any]:
    if audited is None:
        return {"audit": None}
    return {"audit": {"cut_at": audited.head, "decisions_compared": audited.decisions}}


def _print(outcomes: list[Outcome], audited: Audited | None, most: int) -> None:
    from keeper.cli.screen import console, short, table, usd

    screen = console()
    columns = ("setting", "net USD", "revenue", "gas", "tips", "taken", "failed", "missed", "heads")
    rows = [
        (
            each.name,
            usd(each.net_usd),
            usd(each.revenue_usd),
            usd(each.gas_usd),
            usd(each.tip_usd),
            each.items,
            each.failed,
            len(each.missed),
            each.heads,
        )
        for each in outcomes
    ]
    screen.print(table(columns, rows, right=columns[1:]))
    for each in outcomes:
        skipped = sorted(each.skipped().items(), key=lambda pair: (-pair[1], pair[0]))
        told = " · ".join(f"{reason} {count}" for reason, count in skipped) or "none"
        contested, contested_usd = each.contested
        screen.print(f"\n{each.name}: {len(each.at_risk)} positions at risk, skipped: {told}")
        screen.print(
            f"  plans settled locally: {each.plans}, {each.by_record} of them with the gas the chain "
            f"recorded, {each.open} open at the end, {each.dropped} dropped"
        )
        if contested:
            screen.print(
                f"  contested: {contested} were wanted by rivals who paid less in the same "
                f"block, worth {usd(contested_usd)} USD of the net"
            )
        if each.undecided:
            screen.print(f"  {each.undecided} heads could not be decided on")
        for fault in each.faults:
            screen.print(f"  switched off: {fault}")
        for one in each.missed[:most]:
            found = one.liquidation
            by = "this contract" if one.is_ours else short("0x" + found.liquidator.hex())
            screen.print(
                f"  missed at {found.block_number}: {found.market} "
                f"{short('0x' + found.borrower.hex())} by {by}: {one.why}"
            )
        if len(each.missed) > most:
            screen.print(f"  and {len(each.missed) - most} more: --missed N, or --json")
    if audited is not None:
        screen.print(
            f"\naudit: {audited.decisions} decisions up to head {audited.head} are the same with "
            "everything later taken away"
        )
