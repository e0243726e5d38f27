"""Many random futures of correlated prices, and the worst of what they would make liquidatable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keeper.stress.exposure import Exposure
from keeper.units import Address
from keeper.volatility import bootstrap, over

Floats = NDArray[np.float64]
_AT_A_TIME = 64
"""Futures weighed together: their tables stay small, and the interpreter is free in between."""
_RUN = 86_400
"""Seconds of a history drawn one after the other, so that storms last."""
_RUNS = 8
"""A history holds so many at least: all of it drawn in one would end every future alike."""
_ROWS_AT_A_TIME = 1_000_000
"""Rows of a history drawn together, all futures': so many numbers for each asset."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Liquidatable debt over many futures, in dollars; `tail_usd` is the mean of the worst 5 %."""

    draws: int
    mean_usd: float
    median_usd: float
    p95_usd: float
    p99_usd: float
    tail_usd: float
    worst_usd: float


def correlated(
    count: int, assets: int, volatility: float, correlation: float, seconds: float, seed: int
) -> Floats:
    """Return multiples of prices after a time, (count, assets), from a normal law without drift.

    `volatility` is annual and every asset's, `correlation` is every pair's, from 0 to 1.
    """
    random = np.random.default_rng(seed)
    common = random.standard_normal((count, 1))
    own = random.standard_normal((count, assets))
    deviation = over(volatility, seconds)
    moves = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    multiples: Floats = np.exp(deviation * moves - deviation**2 / 2)
    return multiples


def resampled(moves: Floats, step: float, seconds: float, count: int, seed: int) -> Floats:
    """Return multiples of prices after a time, (count, assets), drawn in runs from a history.

    Assets move together as they did, and as far; `step` seconds lie between two rows. A time that is
    no whole number of rows is rounded up.
    """
    rows = max(math.ceil(seconds / step), 1)
    run = max(min(round(_RUN / step), len(moves) // _RUNS), 1)
    random = np.random.default_rng(seed)
    multiples = np.empty((count, moves.shape[1]))
    size = max(_ROWS_AT_A_TIME // rows, 1)
    for first in range(0, count, size):
        some = multiples[first : first + size]
        some[:] = np.exp(bootstrap(moves, rows, len(some), random, block=run)[:, -1, :])
    return multiples


def spread(
    exposures: Sequence[Exposure], assets: Sequence[Sequence[Address]], multiples: Floats
) -> Spread:
    """Return how the liquidatable debt is spread; column k moves the assets `assets[k]`."""
    debts = np.zeros(len(multiples))
    for exposure in exposures:
        factors = np.ones((len(multiples), len(exposure.assets) + 1))
        place: Mapping[Address, int] = {asset: k for k, asset in enumerate(exposure.assets)}
        for column, group in enumerate(assets):
            for asset in group:
                if asset in place:
                    factors[:, place[asset]] = multiples[:, column]
        for first in range(0, len(multiples), _AT_A_TIME):
            some = factors[first : first + _AT_A_TIME]
            owed = some @ exposure.debt
            under = some @ exposure.collateral < owed
            debts[first : first + _AT_A_TIME] += np.where(under, owed, 0.0).sum(axis=1)
    ordered = np.sort(debts)
    worst = ordered[-max(len(ordered) // 20, 1) :]
    median, p95, p99 = np.quantile(ordered, (0.5, 0.95, 0.99))
    return Spread(
        len(ordered),
        float(ordered.mean()),
        float(median),
        float(p95),
        float(p99),
        float(worst.mean()),
        float(ordered[-1]),
    )
