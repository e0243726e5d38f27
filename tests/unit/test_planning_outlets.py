"""Splits of a sale, against every division of a fine grid, and when they do not pay."""

import random
from itertools import pairwise

import pytest

from keeper.planning.curves import Curve, Filling, polish
from keeper.planning.gas import COLD_POOL, SWAP
from keeper.planning.outlets import Outlet
from keeper.planning.routing import Router, Sales
from keeper.planning.tops import find_top
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import DAI, USDC, WETH, pool, venue

POOLS = (
    pool(1, WETH, USDC, 500, 5_000_000),
    pool(2, WETH, USDC, 3_000, 4_000_000),
    pool(3, WETH, DAI, 500, 5_000_000),
    pool(4, DAI, USDC, 100, 50_000_000),
    pool(5, WETH, USDC, 100, 40_000),
)


def outlet(*pools: Pool, per_gas: float, amount: int = 10**18) -> Outlet:
    venues = {"uniswap": venue(*pools)}
    sales, router = Sales(venues), Router(venues, 3, None)

    def rank(amount: int, shut: frozenset[bytes]) -> list[object]:
        return router.rank(sales, WETH.address, USDC.address, amount, None, shut)  # type: ignore[arg-type,return-value]

    return Outlet(rank, lambda *_: sales, amount, per_gas)  # type: ignore[arg-type]


def sell(made: Pool) -> Curve:
    return Curve(lambda amount: made.sell(made.at, amount, token0=made.token0 == WETH.address).out)


@pytest.mark.parametrize("seed", range(6))
def test_no_division_of_a_grid_brings_more(seed: int) -> None:
    rng = random.Random(seed)
    amount = int(10 ** rng.uniform(18.5, 21))
    first, second = (
        pool(n, WETH, USDC, rng.choice([500, 3_000]), 10 ** rng.randint(5, 7)) for n in (1, 2)
    )
    curves = [sell(first), sell(second)]
    parts, _ = Filling(curves).divide(amount)
    assert sum(parts) == amount
    parts = polish(curves, parts)
    assert sum(parts) == amount
    brought = sum(curve.out(part) for curve, part in zip(curves, parts, strict=True))
    for number in range(401):
        part = amount * number // 400
        assert curves[0].out(part) + curves[1].out(amount - part) <= brought + 2


def test_a_split_pays_for_its_gas() -> None:
    amount = 300 * 10**18
    free = outlet(*POOLS, per_gas=0.0).deal(amount)
    assert len(free.parts) == 4
    dear = outlet(*POOLS, per_gas=2_000.0).deal(amount)
    assert 1 < len(dear.parts) < 4
    assert dear.net < dear.out < free.out
    alone = outlet(*POOLS, per_gas=1_000_000.0).deal(amount)
    assert len(alone.parts) == 1
    assert alone.net < dear.net


@pytest.mark.parametrize("per_gas", [0.5, 5.0, 20.0])
def test_a_deep_pool_that_keeps_the_price_up_shares_a_sale(per_gas: float) -> None:
    shallow, deep = pool(1, WETH, USDC, 100, 3_000_000), pool(2, WETH, USDC, 3_000, 10**9)
    made, curves = outlet(shallow, deep, per_gas=per_gas), (sell(shallow), sell(deep))
    gas = (SWAP + COLD_POOL) * per_gas
    splits = 0
    for amount in (10**18 * 5**n // 3**n for n in range(14)):
        deal = made.deal(amount)
        parts = (amount * number // 200 for number in range(1, 200))
        best = max(
            *(curve.out(amount) for curve in curves),
            *(curves[0].out(part) + curves[1].out(amount - part) - gas for part in parts),
        )
        assert deal.net >= best - best // 10**6
        splits += len(deal.parts) > 1
    assert splits > 0


def test_the_shares_of_a_sale_are_what_was_dealt() -> None:
    made = outlet(*POOLS, per_gas=1.0)
    made.sell(100 * 10**18)
    shares = {portion.route: portion.share for portion in made.sale()}
    for route, part in made.deal(made.total).parts:
        assert abs(shares[route] / 10**18 - part / made.total) < 1e-3


def test_price_and_reach_agree() -> None:
    made = outlet(*POOLS[:2], per_gas=0.0)
    prices = []
    for total in (10**19, 10**20, 10**21):
        made.sell(total)
        prices.append(made.price())
        reached = made.reach(made.price() * (1 - 1e-9), 10**22)
        assert reached == pytest.approx(total, rel=1e-3)
    assert all(after < before for before, after in pairwise(prices))


def test_the_top_of_what_has_a_kink_is_found() -> None:
    def tent(at: int) -> int:
        return 3 * at if at < 777_777 else 3 * 777_777 - 5 * (at - 777_777)

    assert find_top(tent, 500_000, 1_000, (0, 10**6), 0.0) == 777_777
    assert find_top(lambda _: None, 5, 1, (0, 10), 0.0) is None


@pytest.mark.parametrize("end", [1, 10**12])
def test_a_top_at_a_bound_is_found(end: int) -> None:
    tries: list[int] = []

    def rising(at: int) -> int:
        tries.append(at)
        return 10**15 - abs(at - end) * 10

    assert find_top(rising, 10**11, 10**8, (1, 10**12), 1e-9) == end
    assert len(tries) < 30


@pytest.mark.parametrize("bend", [1, 50])
def test_a_top_beside_a_bend_is_found_with_few_sales(bend: int) -> None:
    tries: list[int] = []

    def bent(at: int) -> int:
        tries.append(at)
        way = at - 6 * 10**11
        return 10**15 - way * way * (bend if way > 0 else 1) // 10**10

    found = find_top(bent, 599 * 10**9, 6 * 10**8, (1, 10**12), 3e-10)
    assert found is not None
    assert bent(found) > 10**15 * (1 - 1e-9)
    assert len(tries) < 20
