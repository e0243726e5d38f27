"""A market of many borrowers with five legs each, in random combinations of assets and eModes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.types import NextBlock, Position, Prices
from keeper.units import WAD, Address, Wad

ASSETS = 20
MODES = 10
LEGS = 5
UNIT = 10**8
THRESHOLD = 0.8
HIT_HEALTH = (1.0006, 1.004)
"""Health of those planted to cross when the first asset falls by half a percent."""


class Crowd:
    """Borrowers in arrays; what a `MarketBook` asks of a protocol, in plain integers."""

    market = "crowd"
    protocol = "bench"

    def __init__(self, borrowers: int, seed: int, planted: int = 0) -> None:
        draw = np.random.default_rng(seed)
        shape = (borrowers, LEGS)
        assets = np.argsort(draw.random((borrowers, ASSETS)), axis=1)[:, :LEGS]
        is_collateral = np.arange(LEGS) < draw.integers(1, LEGS, borrowers)[:, None]
        assets[:planted] = np.arange(LEGS)
        is_collateral[:planted] = np.arange(LEGS) < 1
        amounts = draw.uniform(1e17, 1e18, shape)
        health = 1.05 + draw.gamma(2, 0.4, borrowers)
        health[:planted] = draw.uniform(*HIT_HEALTH, planted)
        owed = np.where(is_collateral, 0.0, amounts).sum(axis=1)
        held = np.where(is_collateral, amounts, 0.0).sum(axis=1) * THRESHOLD
        amounts = np.where(is_collateral, amounts * (health * owed / held)[:, None], amounts)
        modes = draw.integers(0, MODES + 1, borrowers)[:, None]
        self._classes = np.where(is_collateral, assets + modes * ASSETS, assets)
        self._amounts, self._is_collateral = amounts, is_collateral
        # Planted rows come first and would be read first; nobody's rows are sorted by health.
        order = draw.permutation(borrowers)
        for name in ("_classes", "_amounts", "_is_collateral"):
            setattr(self, name, getattr(self, name)[order])
        self.addresses = [Address(number.to_bytes(20, "big")) for number in range(borrowers)]

    def changed(self) -> set[Address]:
        """Return nobody: prices alone move here."""
        return set()

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return a borrower's legs."""
        row = int.from_bytes(borrower, "big")
        sides: tuple[list[LegRow], list[LegRow]] = ([], [])
        for held, amount, kind in zip(
            self._classes[row].tolist(),
            self._amounts[row].tolist(),
            self._is_collateral[row].tolist(),
            strict=True,
        ):
            sides[0 if kind else 1].append((held, int(amount)))
        return sides

    def all_legs(self) -> Callable[[], LegArrays]:
        """Return what gives all legs."""

        def side(mask: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
            rows = np.nonzero(mask)[0]
            return rows, self._classes[mask], np.floor(self._amounts[mask])

        return lambda: LegArrays(
            self.addresses, *side(self._is_collateral), *side(~self._is_collateral)
        )

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return price times threshold by class, and price by asset."""
        values = np.array([prices.values[asset] for asset in ASSET_ADDRESSES]) / UNIT
        return np.tile(values * THRESHOLD, MODES + 1), values

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position:
        """Return a position in integers."""
        collateral, debt = self.legs(borrower)
        values = prices.values
        held = sum(amount * values[ASSET_ADDRESSES[each % ASSETS]] for each, amount in collateral)
        owed = sum(amount * values[ASSET_ADDRESSES[each]] for each, amount in debt)
        health = Wad(held * 8 * WAD // (10 * owed))
        return Position("crowd", "bench", borrower, (), (), held // WAD, owed // WAD, health)

    def pairs(self, position: Position, prices: Prices, at: NextBlock) -> tuple[Any, Any]:
        """Return no pair."""
        return (), ()


ASSET_ADDRESSES = [Address(bytes([0xA5, number]) * 10) for number in range(ASSETS)]


def priced(values: NDArray[np.float64]) -> Prices:
    """Return prices of all assets as multiples of one."""
    whole = (values * UNIT).astype(np.int64).tolist()
    return Prices("crowd", UNIT, dict(zip(ASSET_ADDRESSES, whole, strict=True)))
