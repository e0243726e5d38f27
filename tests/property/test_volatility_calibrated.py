"""Probabilities of liquidation held against two real crashes, hour by hour."""

import csv
from pathlib import Path

import numpy as np
import pytest

from keeper.volatility import (
    Exposure,
    Floats,
    bootstrap,
    ewma_covariances,
    log_moves,
    standardised,
    step_covariance,
)
from tests.scores import brier, reliability

PRICES = Path(__file__).parents[3] / "shared" / "data" / "prices"
WINDOWS = ("2020-03", "2021-05")
EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
KNOWN_HOURS = 48
HORIZONS = (1, 6, 24)
BUFFERS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def hourly(window: str) -> Floats:
    """Return ether's and bitcoin's closes by hour."""
    file = PRICES / f"{window}-crash.csv"
    if not file.exists():
        pytest.skip("shared data absent")
    with file.open(encoding="utf-8") as rows:
        found = [(float(row["eth_usdt"]), float(row["btc_usdt"])) for row in csv.DictReader(rows)]
    return np.array(found)


ACCOUNTS = {
    "ether against dollars": (np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])),
    "bitcoin against dollars": (np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])),
    "both against dollars": (np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])),
    "ether against bitcoin": (np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])),
}


def test_probabilities_are_calibrated_on_two_crashes() -> None:
    """A table of what was forecast and what happened, and scores against a constant volatility.

    The constant one is measured on the two days before the forecasts begin. Each hour's forecast
    knows the hours before it, and no later one.
    """
    print("seed 2")
    rng = np.random.default_rng(2)
    forecasts: dict[str, list[float]] = {"ewma": [], "bootstrap": [], "constant": []}
    happened: list[bool] = []
    scores: dict[str, dict[str, float]] = {}
    for window in WINDOWS:
        start = len(happened)
        closes = hourly(window)
        prices = np.hstack([closes, np.ones((len(closes), 1))])
        moves = log_moves(prices)
        constant = step_covariance(moves[:KNOWN_HOURS])
        known = ewma_covariances(moves, constant)
        for hour in range(KNOWN_HOURS, len(prices) - max(HORIZONS), 4):
            shapes = standardised(moves[:hour], known)
            today = np.sqrt(np.diagonal(known[hour]))
            paths = bootstrap(shapes, max(HORIZONS), 1_000, rng, scale=today)
            for weights in ACCOUNTS.values():
                own, owed = (prices[hour:] / prices[hour] @ side for side in weights)
                for buffer in BUFFERS:
                    account = Exposure(1.0 / (1.0 - buffer), *weights)
                    health = account.health * own / owed
                    for hours in HORIZONS:
                        happened.append(bool(health[1 : hours + 1].min() < 1.0))
                        forecasts["ewma"].append(account.passage(known[hour], hours))
                        drawn = account.passage_of(paths[:, :hours])
                        forecasts["bootstrap"].append(drawn)
                        forecasts["constant"].append(account.passage(constant, hours))
        scores[window] = {
            name: brier(each[start:], happened[start:]) for name, each in forecasts.items()
        }
    print(f"{len(happened)} forecasts, {sum(happened) / len(happened):.3f} came true")
    for name, each in forecasts.items():
        print(f"\n{name}: Brier " + ", ".join(f"{w} {s[name]:.4f}" for w, s in scores.items()))
        for band in reliability(each, happened, EDGES):
            print(
                f"  {band.low:4.2f}–{band.high:4.2f} {band.count:6}  "
                f"forecast {band.forecast:.3f}  happened {band.happened:.3f}"
            )
    for window, score in scores.items():
        assert score["ewma"] < score["constant"], window
    assert brier(forecasts["bootstrap"], happened) < brier(forecasts["constant"], happened)

    def miss(name: str) -> float:
        """Return how far forecasts are from what happened, by band, weighed by their number."""
        table = reliability(forecasts[name], happened, EDGES)
        return sum(b.count * abs(b.forecast - b.happened) for b in table) / len(happened)

    print({name: round(miss(name), 4) for name in forecasts})
    assert miss("ewma") < 0.05
    assert miss("bootstrap") < 0.05
    assert miss("constant") > max(miss("ewma"), miss("bootstrap"))
