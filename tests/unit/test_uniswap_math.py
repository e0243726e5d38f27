"""Uniswap V3's integers without a chain: constants, tick prices, and a real mainnet pool."""

import json
import random
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from keeper.units import Address
from keeper.venues.uniswap_v3 import words
from keeper.venues.uniswap_v3.pool import Point, Pool
from keeper.venues.uniswap_v3.tick_math import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)

RECORDED = Path(__file__).parents[3] / "shared/data/amm/uniswap_v3_wbtc_weth_block_24407242.json"
SELECTORS = {
    "GET_POOL": "getPool(address,address,uint24)",
    "TICK_SPACING": "tickSpacing()",
    "SLOT0": "slot0()",
    "LIQUIDITY": "liquidity()",
    "TICK_BITMAP": "tickBitmap(int16)",
    "TICKS": "ticks(int24)",
    "BALANCE_OF": "balanceOf(address)",
}
TOPICS = {
    "POOL_CREATED": "PoolCreated(address,address,uint24,int24,address)",
    "INITIALIZE": "Initialize(uint160,int24)",
    "MINT": "Mint(address,address,int24,int24,uint128,uint256,uint256)",
    "BURN": "Burn(address,int24,int24,uint128,uint256,uint256)",
    "SWAP": "Swap(address,address,int256,int256,uint160,uint128,int24)",
    "COLLECT": "Collect(address,address,int24,int24,uint128,uint128)",
    "COLLECT_PROTOCOL": "CollectProtocol(address,address,uint128,uint128)",
    "FLASH": "Flash(address,address,uint256,uint256,uint256,uint256)",
}


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_is_its_signatures_hash(name: str) -> None:
    assert getattr(words, name) == keccak(SELECTORS[name].encode())[:4]


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_its_events_hash(name: str) -> None:
    assert getattr(words, name) == keccak(TOPICS[name].encode())


def test_the_ends_of_the_price_range() -> None:
    assert sqrt_ratio_at_tick(MIN_TICK) == MIN_SQRT_RATIO
    assert sqrt_ratio_at_tick(MAX_TICK) == MAX_SQRT_RATIO
    assert sqrt_ratio_at_tick(0) == 2**96
    assert tick_at_sqrt_ratio(MIN_SQRT_RATIO) == MIN_TICK
    assert tick_at_sqrt_ratio(MAX_SQRT_RATIO - 1) == MAX_TICK - 1
    with pytest.raises(ValueError, match="out of range"):
        sqrt_ratio_at_tick(MAX_TICK + 1)
    with pytest.raises(ValueError, match="out of range"):
        tick_at_sqrt_ratio(MAX_SQRT_RATIO)


def test_a_tick_is_the_greatest_at_or_below_a_price() -> None:
    rng = random.Random(3)
    for _ in range(3_000):
        tick = rng.randint(MIN_TICK + 1, MAX_TICK - 1)
        price = sqrt_ratio_at_tick(tick)
        assert tick_at_sqrt_ratio(price) == tick
        assert tick_at_sqrt_ratio(price - 1) == tick - 1


def test_a_recorded_mainnet_pool_holds_together() -> None:
    if not RECORDED.exists():
        pytest.skip("shared data absent: the recorded WBTC/WETH pool")
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    state = data["scalars"]
    at = Point(state["sqrt_price_x96"], state["tick"], state["liquidity"])
    pool = Pool(
        Address(b"\x01" * 20),
        Address(b"\x02" * 20),
        Address(b"\x03" * 20),
        state["fee"],
        state["tick_spacing"],
        at,
    )
    for tick, (gross, net, _) in data["tick_data"].items():
        pool.add_liquidity(int(tick), gross, net)
    assert tick_at_sqrt_ratio(at.price) == at.tick
    # Draining either side pays out what the pool holds, less the fees it owes.
    for token0, held in ((True, data["balance_token1"]), (False, data["balance_token0"])):
        drained = pool.sell(at, 10**40, token0=token0)
        assert drained.left > 0
        assert drained.liquidity == 0
        assert held * 9 // 10 < drained.out <= held
    # There and back loses the fee of 0.3 % about twice.
    for amount in (10**5, 10**8, 10**10):
        there = pool.sell(at, amount, token0=True)
        back = pool.sell(there.point(), there.out, token0=False)
        assert amount * 99 // 100 < back.out < amount * 995 // 1000
