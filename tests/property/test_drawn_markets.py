"""What is planned in markets drawn from seeds against what the chain does with it."""

from collections.abc import Iterator

import pytest

from keeper.devnet import Devnet
from tests.bench.economics import MOST
from tests.bench.judge import Judge
from tests.bench.sizing_on_chain import tally_cases

MARKETS = 12
CASES = 9
POSITIONS = 3
"""Of one market at most, so that the cases are of several."""


@pytest.fixture(scope="module")
def judge(devnet: Devnet) -> Iterator[Judge]:
    """One stage for both tests; every market drawn on it is undone."""
    before = devnet.snapshot()
    yield Judge(devnet)
    devnet.automine(False)
    devnet.revert(before)


def test_a_plans_gas_is_near_what_it_uses(judge: Judge) -> None:
    found = []
    routes = set()
    for number in range(MARKETS):
        scene = judge.scenes[number % len(judge.scenes)]
        with judge.drawn(scene, number, MOST) as drawn:
            plans = judge.planned(drawn)
            _, used = judge.run(drawn, [plan.calldata for plan in plans])
            routes |= {len(quote.routes) for plan in plans for quote in plan.quotes}
            found += [plan.gas / gas - 1 for plan, gas in zip(plans, used, strict=True)]
    print(f"{len(found)} plans, {min(found):+.1%} to {max(found):+.1%}, over {routes} routes")
    assert len(found) >= MARKETS * 3 // 4
    assert {1, 2} < routes
    assert sum(off < -0.03 for off in found) <= 1
    assert min(found) > -0.05
    assert max(found) < 0.1
    assert abs(sum(found) / len(found)) < 0.03


def test_no_size_near_ours_or_of_a_grid_earns_more_on_the_chain(judge: Judge) -> None:
    tally = tally_cases(judge, CASES, most=POSITIONS)
    print(tally.figures())
    assert tally.faults() == []
    assert sum(each.ours > 0 for each in tally.verdicts) > CASES // 2
    assert any(each.refused for each in tally.verdicts)
