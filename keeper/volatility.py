"""How likely an account's health is to fall to a barrier: volatility of prices, and first passage.

Everything here is for screens and for when to warn: floats, never money. Prices are matrices, a row for
each sample and a column for each asset; moves are differences of their logarithms.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

YEAR = 365 * 86_400.0
"""Seconds in which an annual volatility is stated."""
DISCRETE = 0.5826
"""-ζ(1/2)/√(2π): how much further off a barrier is that is looked at only now and then.

Broadie, Glasserman and Kou, "A Continuity Correction for Discrete Barrier Options", 1997.
"""
DECAY = 0.94
"""Weight of what was known in the next estimate, as RiskMetrics has it."""


def log_moves(prices: Floats) -> Floats:
    """Return the moves between consecutive rows of prices, one row fewer than prices have."""
    moves: Floats = np.diff(np.log(prices), axis=0)
    return moves


def ewma_covariances(moves: Floats, first: Floats, decay: float = DECAY) -> Floats:
    """Return the covariance of a step known before each move, and after the last: (n + 1, k, k).

    `first` is what is assumed before any move. Moves are taken to have no mean.
    """
    known = np.empty((len(moves) + 1, *first.shape))
    known[0] = first
    for row, move in enumerate(moves):
        known[row + 1] = decay * known[row] + (1.0 - decay) * np.outer(move, move)
    return known


def step_covariance(moves: Floats) -> Floats:
    """Return the covariance of a step over all moves, each counted alike, without a mean."""
    return moves.T @ moves / max(len(moves), 1)


def over(volatility: float, step: float) -> float:
    """Return the standard deviation over `step` seconds of an annual volatility."""
    return volatility * math.sqrt(step / YEAR)


def first_passage(
    distance: float, deviation: float, drift: float = 0.0, looks: int | None = None
) -> float:
    """Return the chance that a logarithm falls by `distance` at any time up to the horizon.

    Reflection of a Brownian motion; `deviation` and `drift` are over the whole horizon. With `looks`
    it is only looked at that many times, evenly spaced (`DISCRETE`).
    """
    if distance <= 0.0:
        return 1.0
    if deviation <= 0.0:
        return float(distance + drift <= 0.0)
    if looks is not None:
        distance += DISCRETE * deviation / math.sqrt(looks)
    power = -2.0 * drift * distance / deviation**2
    reflected = _normal((-distance + drift) / deviation)
    mirrored = math.exp(min(power, 700.0)) * reflected if reflected else 0.0
    return min(_normal((-distance - drift) / deviation) + mirrored, 1.0)


def health_at(chance: float, deviation: float, looks: int | None = None) -> float:
    """Return the health from which falling under one before the horizon is as likely as given.

    The inverse of `first_passage` without drift of the prices, to a millionth.
    """
    if deviation <= 0.0:
        return 1.0
    low, high = 0.0, 1.0
    drift = -0.5 * deviation**2
    while first_passage(high, deviation, drift, looks) > chance:
        high *= 2.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        if first_passage(middle, deviation, drift, looks) > chance:
            low = middle
        else:
            high = middle
    return math.exp(high)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What moves a health: shares of the weighted collateral and of the debt by asset, each sum 1."""

    health: float
    collateral: Floats
    debt: Floats

    def deviation(self, covariance: Floats, steps: float = 1.0) -> float:
        """Return the standard deviation of the health's logarithm over steps: its first derivative."""
        weights = self.collateral - self.debt
        return math.sqrt(max(float(weights @ covariance @ weights), 0.0) * steps)

    def passage(self, covariance: Floats, steps: int, *, barrier: float = 1.0) -> float:
        """Return the chance that health falls under the barrier at one of the next steps."""
        if self.health < barrier:
            return 1.0
        deviation = self.deviation(covariance, steps)
        distance = math.log(self.health / barrier)
        return first_passage(distance, deviation, -0.5 * deviation**2, steps)

    def passage_of(self, paths: Floats, *, barrier: float = 1.0) -> float:
        """Return the share of paths on which health falls under the barrier; see `bootstrap`.

        Health is priced anew at each step, so that no asset's move is taken for its derivative.
        """
        if self.health < barrier:
            return 1.0
        moved = np.exp(paths)
        health = self.health * (moved @ self.collateral) / (moved @ self.debt)
        return float(np.mean(health.min(axis=1) < barrier))


def bootstrap(
    moves: Floats,
    steps: int,
    paths: int,
    rng: np.random.Generator,
    *,
    block: int = 1,
    scale: Floats | None = None,
) -> Floats:
    """Return logarithms of prices relative to now on drawn paths: (paths, steps, k).

    Rows of history are drawn together, so assets keep moving as they did together. `scale` multiplies
    each asset's moves: today's deviation of a `standardised` history. One that is not standardised is
    drawn `block` rows in a row, so that storms last. The history's mean is taken out.
    """
    centred = moves - moves.mean(axis=0)
    if scale is not None:
        centred = centred * scale
    length = max(min(block, len(moves)), 1)
    count = -(-steps // length)
    starts = rng.integers(0, len(moves) - length + 1, (paths, count))
    rows = (starts[:, :, None] + np.arange(length)).reshape(paths, -1)[:, :steps]
    drawn: Floats = np.cumsum(centred[rows], axis=1)
    return drawn


def standardised(moves: Floats, known: Floats) -> Floats:
    """Return moves in units of the deviation that was known before each of them.

    Drawn from these and scaled by today's deviation, a history of calm and storm says how far a
    price goes now. `known` is what `ewma_covariances` gave for the same moves.
    """
    deviations = np.sqrt(np.diagonal(known[: len(moves)], axis1=1, axis2=2))
    return np.divide(moves, deviations, out=np.zeros_like(moves), where=deviations > 0.0)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
