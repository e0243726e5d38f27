"""`keeper case FILE`: what a recorded liquidation with a fixed spread earned, and could have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson

if TYPE_CHECKING:
    from keeper.cli.study import Study


def case(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recorded liquidation, as JSON.")],
    as_json: AsJson = False,
) -> None:
    """Recompute a recorded liquidation, and find the best one call and the best two."""
    from keeper.cli.case_file import read_case
    from keeper.cli.screen import console, show_json, table
    from keeper.cli.study import study

    recorded = read_case(file)
    found = study(recorded)
    if as_json:
        show_json(_document(found))
        return
    say = console()
    say.print(recorded.title, markup=False, soft_wrap=True)
    token, wrapped = recorded.repay_token, recorded.seize_token
    say.print(
        f"repaying {found.whole(recorded.repaid)} {token} seizes {recorded.seized} of {wrapped}: "
        f"the rules give the same, to the last unit",
        markup=False,
        soft_wrap=True,
    )
    say.print(
        f"shortfall {float(recorded.shortfall):,.2f} USD at {float(recorded.price)}; liquidatable "
        f"from {float(recorded.critical):.9f}",
        markup=False,
        soft_wrap=True,
    )
    rows = [
        (
            name,
            " + ".join(f"{found.whole(move.repay, 2)} {move.terms.debt.symbol}" for move in moves),
            found.tokens(sum(move.value for move in moves), 2),
        )
        for name, moves in found.ways.items()
    ]
    rows.insert(
        0,
        ("as it was", f"{found.whole(recorded.repaid, 2)} {token}", found.tokens(found.earned, 2)),
    )
    say.print(
        table(
            ("strategy", "repays", f"profit in {token}"),
            rows,
            right=("repays", f"profit in {token}"),
        )
    )
    say.print(
        f"two steps gain {found.tokens(found.gain, 2)} {token} over one call, "
        f"{found.tokens(found.gain_over_actual, 2)} over what was done; no gas, no slippage, and what "
        f"was borrowed to the digits the file has",
        markup=False,
        soft_wrap=True,
    )


def _document(found: Study) -> dict[str, Any]:
    return {
        "reproduced": True,
        "repaid": str(found.case.repaid),
        "seized": str(found.case.seized),
        "exchange_rate": str(found.exchange_rate),
        "profit": found.tokens(found.earned),
        "strategies": {
            name: {
                "steps": [
                    {
                        "debt": move.terms.debt.symbol,
                        "collateral": move.terms.collateral.symbol,
                        "repay": str(move.repay),
                    }
                    for move in moves
                ],
                "profit": found.tokens(sum(move.value for move in moves)),
            }
            for name, moves in found.ways.items()
        },
        "gain": found.tokens(found.gain),
        "gain_over_actual": found.tokens(found.gain_over_actual),
    }
