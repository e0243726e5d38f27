"""A hundred positions whose sales share one pool: planned together they earn more, on the chain."""

from keeper.devnet import Devnet
from tests.joint import SharedPool


def test_a_hundred_positions_earn_more_together_than_one_by_one(net: Devnet) -> None:
    market = SharedPool(net)
    plans, taken = market.together()
    together = market.realised(plans)
    print(f"together {together:,.2f} dollars of {taken}")
    for name, crowd in market.orders().items():
        alone, picked = market.one_by_one(crowd)
        apart = market.realised(alone)
        print(f"one by one, {name}: {apart:,.2f} dollars of {picked}")
        assert together > apart > 0
