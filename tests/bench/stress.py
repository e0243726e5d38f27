"""How long falling prices take to play on a book of a hundred thousand borrowers."""

import time

from keeper.stress.draws import correlated, spread
from keeper.stress.exposure import Exposure, grids
from tests.bench import million

BORROWERS = 100_000
STEPS = tuple(0.2 + k * 0.02 for k in range(41))
DRAWS = 1_000


def figures(borrowers: int = BORROWERS) -> dict[str, float]:
    """Return seconds of the exposure, of a 41 × 41 grid with it, and of a thousand futures."""
    market, prices = million.market(borrowers), million.prices()
    start = time.perf_counter()
    exposure = Exposure.of(market, prices, million.AT)
    exposed = time.perf_counter()
    heavy = sorted(range(len(exposure.assets)), key=lambda k: -exposure.collateral[k].sum())
    first, second = ([exposure.assets[k]] for k in heavy[:2])
    found = grids([exposure], first, second, STEPS)
    gridded = time.perf_counter()
    assert found[0][0].debt_usd > found[-1][-1].debt_usd, "nothing falls"
    groups = [[asset] for asset in exposure.assets]
    spread([exposure], groups, correlated(DRAWS, len(groups), 0.8, 0.7, 86_400.0, 1))
    drawn = time.perf_counter()
    return {
        "stress_exposure_seconds_100k": exposed - start,
        "stress_grid_seconds_100k": gridded - start,
        "stress_futures_seconds_100k": drawn - gridded,
    }
