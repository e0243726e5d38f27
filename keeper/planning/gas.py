"""How much gas a batch takes: a model for planning, and the limits to send it with.

The model sizes a batch before it is simulated; the simulation decides. Its figures come from
`python -m tests.bench.gas` and `python -m tests.bench economics` (Aave v3.6, Uniswap V3) and are held
to 10 % by a test; plans of a few positions stay within 3 % or below.
"""

from collections.abc import Iterable, Sequence

from keeper.contracts import liquidator
from keeper.types import FlashKind, Hop, Position, Quote, Step
from keeper.units import Address

BASE = 298_000
"""A transaction with its first, cold touches of pool, tokens and oracle."""
ITEM = 105_000
"""A liquidation, its debt check included, before the reserves its borrower uses."""
RESERVE = 9_000
"""Each reserve a borrower uses, as collateral or debt; Aave prices them all."""
COLD_RESERVE = 25_000
"""The first borrower's touch of a reserve besides the group's two."""
DEFICIT = 75_000
"""Each debt left and burned when the last collateral goes (LiquidationLogic.sol: _burnBadDebt)."""
GROUP = 13_000
"""A group's own call, approvals and balance readings."""
SWAP = 33_000
"""A swap in a pool the batch has used; a pool's first swap adds `COLD_POOL`."""
COLD_POOL = 31_000
COLD_TOKEN = 15_000
"""The first touch of a token that sales only pass through."""
FUND = {
    FlashKind.INVENTORY: 3_000,
    FlashKind.AAVE: 95_000,
    FlashKind.UNISWAP_V3: 85_000,
    FlashKind.MORPHO: 50_000,
    FlashKind.BALANCER: 60_000,
    FlashKind.NONE: 0,
}
"""Each loan, by who lends."""
TURN = 17_000
"""What a loan takes more where its token has a turn of its own."""
_CALLS = {
    FlashKind.INVENTORY: 0,
    FlashKind.AAVE: 4,
    FlashKind.UNISWAP_V3: 2,
    FlashKind.MORPHO: 2,
    FlashKind.BALANCER: 2,
    FlashKind.NONE: 0,
}
"""Calls one inside another until the borrower is called back, each of which keeps a 64th of its gas.

Aave's pool is a proxy, whose implementation calls a library (Pool.sol: flashLoanSimple).
"""
_AT_A_PREMIUM = (FlashKind.AAVE, FlashKind.UNISWAP_V3, FlashKind.BALANCER)
_COLD_GROUP = 150_000
_ITEM_ROOM = 200_000
FEE_ROUNDING = 2
"""Wei by which a protocol's fee can fall short of what is taken."""


def liquidation_gas(reserves: int) -> int:
    """Return the gas of one liquidation of a borrower who uses so many reserves."""
    return ITEM + RESERVE * reserves


def item_gas(position: Position, step: Step) -> int:
    """Return the gas one more liquidation in a group adds."""
    gas = liquidation_gas(count_reserves(position)) + step.seizure.extra_gas
    taken = step.seizure.received + step.seizure.protocol_fee + FEE_ROUNDING
    alone = len(position.collateral) == 1 and taken >= position.collateral[0].amount
    if alone and step.seizure.repaid > 0:
        repaid, debt = step.seizure.repaid, step.terms.debt
        gas += DEFICIT * sum(leg.token != debt or leg.amount > repaid for leg in position.debt)
    return gas


def group_gas(hops: int, extra: int = 0) -> int:
    """Return the gas a group adds apart from its items; `extra` is its hops' `extra_gas`."""
    return GROUP + SWAP * hops + extra


def shared_gas(quotes: Iterable[Quote]) -> int:
    """Return the gas a group's calls take once between them, where one is made for all."""
    return max(quote.steps[0].seizure.shared_gas for quote in quotes)


def extra_gas(hops: Iterable[Hop]) -> int:
    """Return the gas a sale's hops take beyond swaps made in the pools themselves."""
    return sum(hop.extra_gas for hop in hops)


def run_gas(quotes: Sequence[Quote]) -> int:
    """Return the gas a transaction takes whatever it holds, with what it touches first."""
    most = max(count_reserves(quote.opportunity.position) for quote in quotes)
    pools: set[Address] = {hop.pool for quote in quotes for hop in quote.hops}
    return overhead_gas(most, len(pools), len(tokens_between(quotes)))


def tokens_between(quotes: Iterable[Quote]) -> set[Address]:
    """Return the tokens that sales only pass through."""
    ends: set[Address] = set()
    passed: set[Address] = set()
    for quote in quotes:
        ends |= {quote.steps[0].terms.collateral.address, quote.debt.address}
        passed |= {hop.token_out for hop in quote.hops}
    return passed - ends


def overhead_gas(reserves: int, pools: int, between: int = 0) -> int:
    """Return the gas of a transaction before its loans, groups and items.

    `reserves` is the most a borrower uses, `pools` how many the sales go through, `between` how many
    tokens they only pass through.
    """
    cold = COLD_POOL * max(pools - 1, 0) + COLD_TOKEN * between
    return BASE + COLD_RESERVE * max(reserves - 2, 0) + cold


def count_reserves(position: Position) -> int:
    """Return how many reserves a borrower uses."""
    if len(position.collateral) == len(position.debt) == 1:
        return 1 + (position.collateral[0].token.address != position.debt[0].token.address)
    held = {leg.token.address for leg in position.collateral}
    return len(held | {leg.token.address for leg in position.debt})


def item_gas_limit(items: Iterable[int]) -> int:
    """Return the most one liquidation of a group may use; the contract demands it before each."""
    return max(items) * 2 + _ITEM_ROOM


def group_gas_limit(items: Iterable[int], hops: int, extra: int = 0) -> int:
    """Return the gas handed to a group: a quarter more than expected, and room for its last item."""
    costs = list(items)
    return group_gas_limit_of(sum(costs), max(costs), hops, extra)


def group_gas_limit_of(total: int, largest: int, hops: int, extra: int = 0) -> int:
    """Return `group_gas_limit` from the sum of a group's items and the largest of them."""
    return (total + group_gas(hops, extra) + _COLD_GROUP) * 5 // 4 + item_gas_limit([largest])


def run_gas_limit(groups: Iterable[int], funds: Iterable[FlashKind]) -> int:
    """Return a transaction's gas limit: every call keeps a 64th of its gas from the one inside it."""
    return run_gas_limit_of(sum(map(called_gas, groups)), funds)


def called_gas(gas: int) -> int:
    """Return the gas that lets a call hand on so much to the one inside it."""
    return -(-gas * 64 // 63)


def run_gas_limit_of(groups: int, funds: Iterable[FlashKind]) -> int:
    """Return `run_gas_limit` from the sum of its groups' `called_gas`."""
    limit = groups + liquidator().bounds["run_reserve"]
    kinds = list(funds)
    if len(kinds) > 1 and any(kind in _AT_A_PREMIUM for kind in kinds):
        limit = called_gas(limit)  # the turn of a token is a call of its own
    for kind in kinds:
        for _ in range(_CALLS[kind]):
            limit = called_gas(limit)
        limit += FUND[kind]
    return limit + BASE
