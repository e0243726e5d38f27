"""How much gas a batch takes: a model for planning, and the limit to send it with.

The model sizes a batch before it is simulated; the simulation decides. Its figures come from
`python -m tests.bench.gas` (Aave v3.6, Uniswap V3) and are held to 10 % by a test.
"""

from collections.abc import Sequence

from keeper.contracts import liquidator
from keeper.planning.batch import Batch, FundKind, Swap

BASE = 267_000
"""A transaction with its first, cold touches of pool, tokens and oracle."""
ITEM = 105_000
"""A liquidation, its debt check included, before the reserves its borrower uses."""
RESERVE = 9_000
"""Each reserve a borrower uses, as collateral or debt; Aave prices them all."""
COLD_RESERVE = 25_000
"""The first borrower's touch of a reserve besides the group's two."""
GROUP = 13_000
"""A group's own call, approvals and balance readings."""
SWAP = 33_000
"""A swap in a pool the batch has used; a pool's first swap adds `COLD_POOL`."""
COLD_POOL = 31_000
SKIPPED_ITEM = 9_000
"""An item whose debt is gone, in a batch that rivals have emptied."""
ACTION = 150_000
"""A call, redemption or wrapping of unknown depth."""
FUND = {
    FundKind.INVENTORY: 3_000,
    FundKind.AAVE: 95_000,
    FundKind.UNISWAP: 85_000,
    FundKind.MORPHO: 50_000,
    FundKind.BALANCER: 60_000,
}
"""Each fund, by kind."""


def estimate(batch: Batch, reserves: int | Sequence[int] = 2) -> int:
    """Return the gas a batch is expected to use.

    `reserves` is how many reserves a borrower uses, for all or for each item in the batch's order.
    """
    items = sum(len(group.items) for group in batch.groups)
    used = [reserves] * items if isinstance(reserves, int) else reserves
    total = BASE + ITEM * items + RESERVE * sum(used) + COLD_RESERVE * max(0, max(used) - 2)
    total += sum(FUND[fund.kind] for fund in batch.funds)
    pools: set[tuple[bytes, ...]] = set()
    for group in batch.groups:
        total += GROUP
        for action in group.actions:
            if isinstance(action, Swap):
                total += SWAP
                pools.add((*sorted((action.spend, action.receive)), action.fee.to_bytes(3, "big")))
            else:
                total += ACTION
    # The base holds the first pool.
    return total + COLD_POOL * max(0, len(pools) - 1)


def sufficient_limit(batch: Batch, used: int) -> int:
    """Return a gas limit under which no group starves, from what a simulation used.

    The contract wants 64/63 of a group's gas and a reserve before it; a group never uses more than
    its own. A refund lowers `used` by at most a fifth.
    """
    largest = max(group.group_gas for group in batch.groups)
    reserve = liquidator().bounds["run_reserve"]
    return used + used // 4 + largest * 64 // 63 + reserve
