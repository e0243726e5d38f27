"""What plans are expected to take against what they take on the chain: markets of a few positions."""

from keeper.devnet import Devnet
from tests.bench.economics import MOST
from tests.bench.judge import Judge

MARKETS = 12


def test_a_plans_gas_is_near_what_it_uses(net: Devnet) -> None:
    judge = Judge(net)
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
