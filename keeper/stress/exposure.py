"""What one market's borrowers have and owe, asset by asset, so that any prices are one sum away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keeper.ports import Doubling, LegArrays, LendingProtocol, Valuing
from keeper.stress.moves import moved
from keeper.types import NextBlock, Prices
from keeper.units import Address

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fallen:
    """How many borrowers are liquidatable at some prices, and what they owe there in dollars."""

    borrowers: int
    debt_usd: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """Dollars by asset and borrower; collateral counts as far as the protocol lets it back debt.

    Row k of both tables is asset k, and the last row is what no price moves. `unread` is how many
    borrowers have something without a price, which counts for nothing; `doubled` are left out, since
    their debts are in other accounts, too (`ports.Doubling`).
    Estimates in floating point, as the screen's are: what is liquidated is judged exactly elsewhere.
    """

    market: str
    accounts: Sequence[Address]
    assets: tuple[Address, ...]
    collateral: Floats
    debt: Floats
    unread: int = 0
    doubled: int = 0

    @classmethod
    def of(cls, protocol: LendingProtocol, prices: Prices, at: NextBlock) -> Self:
        """Weigh every borrower of a market at its prices; off the event loop, a second a million.

        Both sides are linear in what each token is worth, so what twice of that adds is the token's
        part; prices of the market's own follow (`ports.Derived`).
        """
        legs = protocol.all_legs()()
        rows = len(legs.borrowers)
        whole = _worth(protocol, prices, at)
        assets: list[Address] = []
        parts: list[tuple[Floats, Floats]] = []
        rest = whole
        for asset in dict.fromkeys((*protocol.tokens(), *prices.values)):
            twice = _worth(protocol, moved(protocol, prices, {asset: 2.0}), at)
            part = twice[0] - whole[0], twice[1] - whole[1]
            if part[0].any() or part[1].any():
                assets.append(asset)
                parts.append(part)
                rest = rest[0] - part[0], rest[1] - part[1]
        parts.append(rest)
        collateral, debt = np.zeros((len(parts), rows)), np.zeros((len(parts), rows))
        for k, (backing, owing) in enumerate(parts):
            weights = legs.collateral_amounts * backing[legs.collateral_classes] / prices.unit
            collateral[k] = np.bincount(legs.collateral_rows, weights, rows)
            weights = legs.debt_amounts * owing[legs.debt_classes] / prices.unit
            debt[k] = np.bincount(legs.debt_rows, weights, rows)
        names, doubled = legs.borrowers, 0
        unread = _unread(protocol, prices, at, legs)
        if isinstance(protocol, Doubling):
            once = [k for k, name in enumerate(names) if protocol.original(name) is None]
            doubled = rows - len(once)
            names = [names[k] for k in once]
            collateral, debt = collateral[:, once], debt[:, once]
        return cls(protocol.market, names, tuple(assets), collateral, debt, unread, doubled)

    def at(self, multiples: Mapping[Address, float]) -> tuple[Floats, Floats]:
        """Return what backs and what is owed by borrower when prices are these multiples of now."""
        factors = np.array([multiples.get(asset, 1.0) for asset in self.assets] + [1.0])
        return factors @ self.collateral, factors @ self.debt

    def fallen(self, multiples: Mapping[Address, float]) -> Fallen:
        """Return who would be liquidatable."""
        collateral, debt = self.at(multiples)
        return _count(collateral, debt)

    def grid(
        self, first: Sequence[Address], second: Sequence[Address], steps: Sequence[float]
    ) -> list[list[Fallen]]:
        """Return who would be for each multiple of the first assets and each of the second.

        A row stays with one multiple of the first. Each point is one sum of three terms.
        """
        both = set(first) | set(second)
        if len(both) < len(first) + len(second):
            raise ValueError("an asset stands on both sides of the grid")
        one, other = self._sum(set(first)), self._sum(set(second))
        everything = self.at({})
        rest = everything[0] - one[0] - other[0], everything[1] - one[1] - other[1]
        found: list[list[Fallen]] = []
        for x in steps:
            base = rest[0] + x * one[0], rest[1] + x * one[1]
            found.append([_count(base[0] + y * other[0], base[1] + y * other[1]) for y in steps])
        return found

    def _sum(self, assets: set[Address]) -> tuple[Floats, Floats]:
        chosen = [k for k, asset in enumerate(self.assets) if asset in assets]
        return self.collateral[chosen].sum(axis=0), self.debt[chosen].sum(axis=0)


def total(found: Sequence[Fallen]) -> Fallen:
    """Add up what several markets show."""
    return Fallen(sum(each.borrowers for each in found), sum(each.debt_usd for each in found))


def grids(
    exposures: Sequence[Exposure],
    first: Sequence[Address],
    second: Sequence[Address],
    steps: Sequence[float],
) -> list[list[Fallen]]:
    """Return the grid of several markets together."""
    each = [exposure.grid(first, second, steps) for exposure in exposures]
    size = range(len(steps))
    flat = [total([grid[i][k] for grid in each]) for i, k in product(size, size)]
    return [flat[i * len(steps) : (i + 1) * len(steps)] for i in size]


def volatile(worth: Mapping[Address, float]) -> list[Address]:
    """Return the assets whose dollars are not within a twentieth of one."""
    return [asset for asset, dollars in worth.items() if abs(dollars - 1) * 20 > 1]


def _count(collateral: Floats, debt: Floats) -> Fallen:
    under = collateral < debt
    return Fallen(int(np.count_nonzero(under)), float(debt[under].sum()))


def _unread(protocol: LendingProtocol, prices: Prices, at: NextBlock, legs: LegArrays) -> int:
    """Return how many borrowers have a leg of a class that nothing is known of."""
    backing, owing = protocol.factors(prices, at)
    worth = protocol.worth(prices) if isinstance(protocol, Valuing) else 1.0
    held, owed = np.isnan(backing * worth), np.isnan(owing * worth)
    rows = (
        legs.collateral_rows[held[legs.collateral_classes]],
        legs.debt_rows[owed[legs.debt_classes]],
    )
    return len(np.unique(np.concatenate(rows)))


def _worth(protocol: LendingProtocol, prices: Prices, at: NextBlock) -> tuple[Floats, Floats]:
    """Return factors in base currency; classes without a price count for nothing.

    Nobody can liquidate on them.
    """
    backing, owing = protocol.factors(prices, at)
    worth = protocol.worth(prices) if isinstance(protocol, Valuing) else 1.0
    return np.nan_to_num(backing * worth), np.nan_to_num(owing * worth)
