"""Debt that nobody owes any more or that has nothing behind it, and who bears it."""

from collections import Counter
from collections.abc import Iterable, Mapping

from keeper.types import Backstop, Position, Prices, Token
from keeper.units import Address, Usd

INSURANCE = frozenset({"reserves", "stability_pool"})
"""Kinds of backstops that bear bad debt before the lenders do; others are losses, or no one's."""


class Losses:
    """Bad debt in dollars by market and token."""

    def __init__(self) -> None:
        self._bad: Counter[tuple[str, Address]] = Counter()

    @property
    def total_usd(self) -> Usd:
        """Return all of it."""
        return Usd(self._bad.total())

    def written_off(self, position: Position, debt: Token, repaid: int, prices: Prices) -> None:
        """Count what a position owes besides a last call's `repaid`, as values: its collateral is gone.

        Some protocols write off what is left, others keep it on their books for ever.
        """
        for leg in position.debt:
            rest = leg.value - (repaid if leg.token == debt else 0)
            self._bad[position.home, leg.token.address] += int(prices.usd(max(rest, 0)))

    def hollow(self, position: Position, prices: Prices) -> None:
        """Count what a position owes beyond its collateral, shared by what it owes."""
        beyond = max(position.debt_value - position.collateral_value, 0)
        for leg in position.debt:
            share = beyond * leg.value // position.debt_value
            self._bad[position.home, leg.token.address] += int(prices.usd(share))

    def shortfall_usd(
        self, held: Mapping[str, Iterable[Backstop]], prices: Mapping[str, Prices]
    ) -> Usd:
        """Return what is beyond what each market holds against it in the same token."""
        left = self._bad.copy()
        for market, backstops in held.items():
            for each in backstops:
                price = prices[market].get(each.token.address)
                if each.kind in INSURANCE and price:
                    value = each.amount * price // 10**each.token.decimals
                    left[market, each.token.address] -= int(prices[market].usd(value))
        return Usd(sum(max(bad, 0) for bad in left.values()))
