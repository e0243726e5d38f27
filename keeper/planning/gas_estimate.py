"""What a batch costs in gas, before a simulation says so exactly.

Measured on the liquidator contract against Aave v3.6 and rounded up; simulation replaces them.
"""

from collections.abc import Iterable

from keeper.types import FlashKind, Position, Step

RUN_GAS = 90_000
"""The transaction itself, the guard and the event."""
GROUP_GAS = 110_000
"""The self-call and what the first liquidation of a pair finds cold."""
SWAP_GAS = 115_000
"""One sale through a pool, a few ticks crossed."""
ITEM_GAS = 125_000
"""A liquidation of a borrower with one collateral and one debt, its calldata included."""
LEG_GAS = 15_000
"""Each further asset the borrower holds or owes."""
DEFICIT_GAS = 75_000
"""Each debt burned when the last collateral goes (LiquidationLogic.sol: _burnBadDebt)."""
FUND_GAS = {
    FlashKind.INVENTORY: 5_000,
    FlashKind.AAVE: 120_000,
    FlashKind.UNISWAP_V3: 80_000,
    FlashKind.MORPHO: 70_000,
    FlashKind.BALANCER: 80_000,
}

RUN_RESERVE = 120_000
"""What the contract insists on keeping for the time after the last group."""
_ITEM_ROOM = 200_000


def item_gas(position: Position, step: Step) -> int:
    """Return the gas one more liquidation in a group adds."""
    legs = len(position.collateral) + len(position.debt)
    gas = ITEM_GAS + LEG_GAS * max(legs - 2, 0)
    taken = step.seizure.received + step.seizure.protocol_fee
    if len(position.collateral) == 1 and taken >= position.collateral[0].amount:
        gas += DEFICIT_GAS * len(position.debt)
    return gas


def group_gas(hops: int) -> int:
    """Return the gas a group adds apart from its items."""
    return GROUP_GAS + SWAP_GAS * hops


def item_gas_limit(items: Iterable[int]) -> int:
    """Return the most one liquidation of a group may use; the contract demands it before each."""
    return max(items) * 2 + _ITEM_ROOM


def group_gas_limit(items: Iterable[int], hops: int) -> int:
    """Return the gas handed to a group: a quarter more than expected, and room for its last item."""
    costs = list(items)
    return (sum(costs) + group_gas(hops)) * 5 // 4 + item_gas_limit(costs)


def run_gas_limit(groups: Iterable[int], funds: Iterable[FlashKind]) -> int:
    """Return a transaction's gas limit: every call keeps a 64th of its gas from the one inside it."""
    kinds = list(funds)
    limit = sum(-(-gas * 64 // 63) for gas in groups) + RUN_RESERVE
    for kind in kinds:
        limit = -(-limit * 64 * 64 // (63 * 63)) + FUND_GAS[kind]
    return limit + RUN_GAS
