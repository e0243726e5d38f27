"""Debts of early eras that no ledger here holds: at stable rates, and GHO's at a discount."""

from collections.abc import Sequence

from keeper.chain.words import address, answers, read, uint
from keeper.ports import Reader
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Head
from keeper.units import ZERO_ADDRESS, Address


async def refuse_special_debts(
    reader: Reader, head: Head, ledger: Ledger, assets: Sequence[Address], pool: Address
) -> None:
    """Stop the ledger of an early era when debts in it grow by other rules than its own.

    GhoVariableDebtToken took a discount off the interest of who held staked AAVE, up to v3.3; its
    debts cannot be told from its logs alone. Stable rates were removed in v3.2.
    """
    if not ledger.era.has_discounts:
        return
    reserves = list(ledger.by_asset.values())
    discounts = await reader.multicall(
        [
            read(reserve.debt_token, "getDiscountPercent(address)", ZERO_ADDRESS)
            for reserve in reserves
        ],
        head.hash,
    )
    for reserve, answer in zip(reserves, discounts, strict=True):
        if answer.ok and len(answer.data) == 32:
            symbol = reserve.token.symbol if reserve.token else ""
            ledger.stop(f"debts in {symbol} grow at a discount, which is not followed")
    if not ledger.era.has_stable_rates:
        return
    data = answers(
        await reader.multicall(
            [read(pool, "getReserveData(address)", asset) for asset in assets], head.hash
        ),
        "stable debt tokens",
        11,
    )
    totals = answers(
        await reader.multicall(
            [read(address(each, 9), "totalSupply()") for each in data], head.hash
        ),
        "debts at stable rates",
    )
    for reserve, total in zip(reserves, totals, strict=True):
        if uint(total):
            symbol = reserve.token.symbol if reserve.token else ""
            ledger.stop(f"there are debts in {symbol} at stable rates")
