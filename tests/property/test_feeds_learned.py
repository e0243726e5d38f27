"""Feeds over a real crash: no round of theirs is called late, and what is learned of them is so."""

import math
import random
from itertools import pairwise

import pytest

from keeper.oracles.watch import Expected, Feed, Look, band, fold, heartbeat, stale
from keeper.units import WAD
from tests.property.test_volatility_calibrated import hourly

STEP, HOUR = 24, 3_600
UNKNOWN = Expected()


def minutes(closes: list[float], seed: int) -> list[float]:
    """Return prices every `STEP` seconds: chance between the hours, which stand as they were."""
    chance, steps = random.Random(seed), HOUR // STEP
    found = []
    for start, end in pairwise(closes):
        walk = [0.0]
        for _ in range(steps):
            walk.append(walk[-1] + chance.gauss(0, 0.0009))
        for k in range(steps):
            straight = math.log(start) + (math.log(end) - math.log(start)) * k / steps
            found.append(math.exp(straight + walk[k] - walk[steps] * k / steps))
    return found


@pytest.mark.parametrize(
    ("asset", "beat", "bps", "learned"), [(0, 24 * HOUR, 100, None), (1, HOUR, 50, HOUR)]
)
def test_a_crash_teaches_bands_and_lags_and_raises_no_alarm(
    asset: int, beat: int, bps: int, learned: int | None
) -> None:
    pools = minutes([float(row[asset]) for row in hourly("2021-05")[48:168]], seed=5)
    # two quiet days, in which an hourly feed speaks by its clock alone, before the crash
    pools = [pools[0] * (1 + k % 2 * 1e-6) for k in range(48 * HOUR // STEP)] + pools
    feed: Feed | None = None
    answer, updated, due = pools[0], 0, 0
    lags, beats = [], set()
    for number, price in enumerate(pools):
        time = number * STEP
        if not due and (abs(price / answer - 1) * 10_000 > bps or time - updated >= beat):
            due = time + STEP
        if due == time:
            answer, updated, due = price, time, 0
        look = Look(time, round(answer * 1e8) * 10**10, round(price * 1e8) * 10**10)
        feed, lag = fold(feed, look, UNKNOWN)
        assert not stale(feed, time, feed.price, UNKNOWN, 3)
        beats.add(heartbeat(feed, UNKNOWN))
        if lag is not None:
            lags.append(lag)
    assert feed is not None
    assert abs(band(feed, UNKNOWN) - bps) <= bps // 10
    assert beats <= {None, *(range(learned, learned + 3 * STEP) if learned else ())}
    assert not learned or len(beats) > 1
    assert len(lags) > 100
    assert sorted(lags)[len(lags) // 2] == STEP
    assert feed.price == round(answer * 1e8) * WAD // 10**8
