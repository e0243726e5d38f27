"""The gas model by its parts: what one more liquidation, group or loan adds, and what limits to set."""

from collections.abc import Iterable, Sequence

from keeper.contracts import liquidator
from keeper.planning.batch import FundKind
from keeper.planning.gas import BASE, COLD_POOL, COLD_RESERVE, FUND, GROUP, ITEM, RESERVE, SWAP
from keeper.types import FlashKind, Position, Quote, Step
from keeper.units import Address

DEFICIT_GAS = 75_000
"""Each debt burned when the last collateral goes (LiquidationLogic.sol: _burnBadDebt)."""
FUND_KINDS = {
    FlashKind.INVENTORY: FundKind.INVENTORY,
    FlashKind.AAVE: FundKind.AAVE,
    FlashKind.UNISWAP_V3: FundKind.UNISWAP,
    FlashKind.MORPHO: FundKind.MORPHO,
    FlashKind.BALANCER: FundKind.BALANCER,
}
_COLD_GROUP = 150_000
_ITEM_ROOM = 200_000


def item_gas(position: Position, step: Step) -> int:
    """Return the gas one more liquidation in a group adds."""
    gas = ITEM + RESERVE * reserves(position)
    taken = step.seizure.received + step.seizure.protocol_fee
    if len(position.collateral) == 1 and taken >= position.collateral[0].amount:
        gas += DEFICIT_GAS * len(position.debt)
    return gas


def group_gas(hops: int) -> int:
    """Return the gas a group adds apart from its items."""
    return GROUP + SWAP * hops


def fund_gas(kind: FlashKind) -> int:
    """Return the gas one loan adds."""
    return FUND[FUND_KINDS[kind]]


def run_gas(quotes: Sequence[Quote]) -> int:
    """Return the gas a transaction takes whatever it holds, with what it touches first."""
    most = max(reserves(quote.opportunity.position) for quote in quotes)
    pools: set[Address] = {hop.pool for quote in quotes for hop in quote.route}
    return BASE + COLD_RESERVE * max(most - 2, 0) + COLD_POOL * max(len(pools) - 1, 0)


def reserves(position: Position) -> int:
    """Return how many reserves a borrower uses."""
    held = {leg.token.address for leg in position.collateral}
    return len(held | {leg.token.address for leg in position.debt})


def item_gas_limit(items: Iterable[int]) -> int:
    """Return the most one liquidation of a group may use; the contract demands it before each."""
    return max(items) * 2 + _ITEM_ROOM


def group_gas_limit(items: Iterable[int], hops: int) -> int:
    """Return the gas handed to a group: a quarter more than expected, and room for its last item."""
    costs = list(items)
    return (sum(costs) + group_gas(hops) + _COLD_GROUP) * 5 // 4 + item_gas_limit(costs)


def run_gas_limit(groups: Iterable[int], funds: Iterable[FlashKind]) -> int:
    """Return a transaction's gas limit: every call keeps a 64th of its gas from the one inside it."""
    limit = sum(-(-gas * 64 // 63) for gas in groups) + liquidator().bounds["run_reserve"]
    for kind in funds:
        limit = -(-limit * 64 * 64 // (63 * 63)) + fund_gas(kind)
    return limit + BASE
