"""The ledger as the float screen takes it: one class of collateral, one of debt.

Debts stand as high as they will be at the ledger's horizon, so the screen errs towards looking.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.ledger import Ledger, Whole
from keeper.types import Prices
from keeper.units import WAD, Address

Floats = NDArray[np.float64]


def legs(ledger: Ledger, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return a trove's collateral and debt; none when it is not open."""
    trove = ledger.troves.get(borrower)
    if trove is None:
        return (), ()
    whole = ledger.whole(trove, ledger.horizon)
    return ((0, whole.collateral),), ((0, whole.debt),)


def factors(prices: Prices, coin: Address) -> tuple[Floats, Floats]:
    """Return what a wei of the coin counts for, and a wei of debt; NaN without a price."""
    price = prices.get(coin)
    counted = float("nan") if price is None else price / WAD * (WAD / rules.MCR)
    return np.array([counted]), np.array([1.0])


def gather(wholes: Mapping[Address, Whole]) -> LegArrays:
    """Return the legs of troves that were computed."""
    count = len(wholes)
    rows, classes = np.arange(count, dtype=np.intp), np.zeros(count, np.intp)
    held = np.fromiter((float(whole.collateral) for whole in wholes.values()), np.float64, count)
    owed = np.fromiter((float(whole.debt) for whole in wholes.values()), np.float64, count)
    return LegArrays(list(wholes), rows, classes, held, rows, classes, owed)
