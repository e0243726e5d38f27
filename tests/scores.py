"""How well forecasts hold against what happened."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def brier(probabilities: Sequence[float], happened: Sequence[bool]) -> float:
    """Return the mean squared distance of forecasts from what happened; 0 is best."""
    forecast, outcome = np.asarray(probabilities), np.asarray(happened, np.float64)
    return float(np.mean((forecast - outcome) ** 2))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Forecasts of one band, their mean, and how often what they spoke of happened."""

    low: float
    high: float
    count: int
    forecast: float
    happened: float


def reliability(
    probabilities: Sequence[float], happened: Sequence[bool], edges: Sequence[float]
) -> list[Reliability]:
    """Return forecasts against outcomes by band; edges ascend from 0 to 1, empty bands are left out."""
    forecast, outcome = np.asarray(probabilities), np.asarray(happened, np.float64)
    places = np.clip(np.searchsorted(edges, forecast, side="right") - 1, 0, len(edges) - 2)
    table = []
    for band in range(len(edges) - 1):
        chosen = places == band
        if chosen.any():
            mean, share = float(forecast[chosen].mean()), float(outcome[chosen].mean())
            count = int(chosen.sum())
            table.append(Reliability(edges[band], edges[band + 1], count, mean, share))
    return table
