"""How prices moved lately in one market, and how likely a position is liquidated within a time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from keeper.margin.levels import Ladder
from keeper.types import Position, Prices
from keeper.units import BPS, WAD, Address, Wad
from keeper.volatility import (
    DECAY,
    Exposure,
    Floats,
    bootstrap,
    ewma_covariances,
    health_at,
    log_moves,
    standardised,
    step_covariance,
)

HOUR = 3_600
KNOWN = 24
"""Samples from which on moves are known well enough to say anything."""
LONGEST = 7 * 24 * HOUR
"""Seconds of history that are drawn from."""
PATHS = 500
PATH_STEPS = 96
"""Steps of drawn paths at most; a longer horizon takes several samples in one step."""


@dataclass(frozen=True, slots=True)
class Chances:
    """The probabilities at which each level begins, and within how many seconds of liquidation."""

    warning: float
    call: float
    critical: float
    horizon: float


@dataclass(slots=True)
class Outlook:
    """Samples of one market's prices, every `step` seconds of the chain's own time."""

    step: float = 300.0
    times: list[float] = field(default_factory=list)
    rows: list[Mapping[Address, float]] = field(default_factory=list)
    assets: tuple[Address, ...] = ()
    covariance: Floats | None = None
    _shapes: Floats | None = None

    def wants(self, time: float) -> bool:
        """Say whether a sample is due."""
        return not self.times or time - self.times[-1] >= self.step

    def add(self, time: float, prices: Prices) -> None:
        """Take a sample of all prices that were read."""
        self.restore([(time, {at: float(value) for at, value in prices.values.items()})])

    def restore(self, samples: Sequence[tuple[float, Mapping[Address, float]]]) -> None:
        """Take samples, oldest first, and learn from them."""
        for time, row in samples:
            self.times.append(time)
            self.rows.append(row)
        while self.times and self.times[0] < self.times[-1] - LONGEST:
            del self.times[0], self.rows[0]
        self._learn()

    def deviation(self, position: Position, horizon: float) -> float | None:
        """Return the deviation of a health's logarithm over some seconds; None when not known."""
        exposure = self._exposure(position)
        if exposure is None or self.covariance is None:
            return None
        return exposure.deviation(self.covariance, horizon / self.step)

    def chances(self, position: Position, horizons: Iterable[float]) -> dict[float, float]:
        """Return how likely it is liquidated within some seconds each, by the volatility of now.

        First passage at the steps prices were sampled at; empty when too few of them are known.
        """
        exposure = self._exposure(position)
        if exposure is None or self.covariance is None:
            return {}
        covariance = self.covariance
        return {
            span: exposure.passage(covariance, max(round(span / self.step), 1)) for span in horizons
        }

    def drawn_chance(self, position: Position, horizon: float, seed: int) -> float | None:
        """Return the same from paths drawn out of the history, scaled to the volatility of now."""
        exposure = self._exposure(position)
        if exposure is None or self.covariance is None or self._shapes is None:
            return None
        steps = max(round(horizon / self.step), 1)
        stretch = -(-steps // PATH_STEPS)
        scale = np.sqrt(np.diagonal(self.covariance) * stretch)
        rng = np.random.default_rng(seed)
        return exposure.passage_of(
            bootstrap(self._shapes, -(-steps // stretch), PATHS, rng, scale=scale)
        )

    def ladder(self, position: Position, chances: Chances) -> Ladder | None:
        """Return the healths at which the chances begin, rounded up; None when not known."""
        deviation = self.deviation(position, chances.horizon)
        if deviation is None:
            return None
        looks = max(round(chances.horizon / self.step), 1)
        each = (chances.warning, chances.call, chances.critical)
        # by whole percents of the deviation, rounded up: few of them differ, and each takes a while
        percents = math.ceil(100.0 * math.log(max(deviation, 1e-6)))
        return Ladder(*(_health_at_up(p, percents, looks) for p in each))

    def _exposure(self, position: Position) -> Exposure | None:
        weighted = {leg.token.address: 0.0 for leg in position.collateral}
        for leg in position.collateral:
            weighted[leg.token.address] += leg.value * leg.threshold / BPS
        owed = {leg.token.address: 0.0 for leg in position.debt}
        for debt in position.debt:
            owed[debt.token.address] += debt.value
        total, due = sum(weighted.values()), sum(owed.values())
        if total <= 0.0 or due <= 0.0:
            return None
        moving = {at for at, value in (*weighted.items(), *owed.items()) if value > 0.0}
        if not moving <= set(self.assets):
            return None
        return Exposure(
            position.health / WAD,
            np.array([weighted.get(at, 0.0) / total for at in self.assets]),
            np.array([owed.get(at, 0.0) / due for at in self.assets]),
        )

    def _learn(self) -> None:
        """Measure what moved since; assets that are known too shortly are left out."""
        self.covariance = self._shapes = None
        if len(self.rows) <= KNOWN:
            return
        self.assets, prices = _carried(self.rows)
        if not self.assets:
            return
        # A gap, as a restart leaves one, is a move of several steps: it counts as one of them each.
        gaps = np.maximum(np.diff(np.array(self.times)) / self.step, 1.0)
        moves = log_moves(prices) / np.sqrt(gaps)[:, None]
        for column in moves.T:
            # Before an asset came, its own later moves stand in: as large, and not with the others'.
            unknown = int(np.isnan(column).sum())
            column[:unknown] = np.resize(column[unknown:], unknown)
        known = ewma_covariances(moves, step_covariance(moves[:KNOWN]), DECAY ** (self.step / HOUR))
        self.covariance = known[-1]
        self._shapes = standardised(moves, known)


def _carried(rows: Sequence[Mapping[Address, float]]) -> tuple[tuple[Address, ...], Floats]:
    """Return assets and their prices by row: the last known where one is missing, NaN before the first."""
    assets = sorted({at for row in rows for at, price in row.items() if price > 0})
    prices = np.array([[row.get(at, math.nan) for at in assets] for row in rows])
    is_known = prices > 0
    last = np.maximum.accumulate(np.where(is_known, np.arange(len(rows))[:, None], -1), axis=0)
    carried = np.where(last < 0, np.nan, np.take_along_axis(prices, np.maximum(last, 0), axis=0))
    enough = np.flatnonzero((last >= 0).sum(axis=0) > KNOWN)
    return tuple(assets[at] for at in enough.tolist()), carried[:, enough]


@cache
def _health_at_up(chance: float, percents: int, looks: int) -> Wad:
    return Wad(math.ceil(health_at(chance, math.exp(percents / 100.0), looks) * WAD))
