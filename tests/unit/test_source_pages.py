"""Snapshots of pools and price sources: equal when restored, untouched by what comes after."""

import random
from collections.abc import Iterable

import pytest

from keeper.errors import InvariantError
from keeper.oracles.aave_oracle import (
    ANSWER_UPDATED,
    ASSET_SOURCE_UPDATED,
    AaveOracle,
    Feed,
)
from keeper.types import Log
from keeper.units import ZERO_ADDRESS, Address, Hash
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pages import PAGE
from keeper.venues.uniswap_v3.pool import Point, Pool
from tests.fake_market import FACTORY, TOKENS, USDC, WBTC, WETH, pool, venue


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def empty(*fees: int) -> UniswapV3:
    return UniswapV3(
        "uniswap", FACTORY, [t.address for t in TOKENS], fees or (100, 500, 3000, 10_000)
    )


def crowded(seed: int, ticks: int) -> Pool:
    """Return a pool whose every number is at or near the end of its range."""
    rng = random.Random(seed)
    made = Pool(address(seed), WETH.address, USDC.address, 10_000, 200)
    for number in rng.sample(range(-4_436, 4_436), ticks):
        made.add_liquidity(number * 200, rng.randrange(1, 2**128), rng.randrange(-(2**127), 2**127))
    made.at = Point(2**160 - 1, -887_272, 2**128 - 1)
    made.balance0, made.balance1 = 2**200, 0
    return made


def test_pools_come_back_equal_and_quote_alike() -> None:
    first = venue(
        pool(1, WETH, USDC, 500, 10**6), pool(2, WBTC, WETH, 3000, 10**5), crowded(9, 800)
    )
    pages = list(first.snapshot()())
    second = empty()
    second.restore(iter(pages))
    assert second.pools == first.pools
    assert second.watch() == first.watch()
    for hop in first.hops(WETH.address):
        assert hop in second.hops(WETH.address)
        assert second.begin().quote(hop, 10**18) == first.begin().quote(hop, 10**18)
    assert list(second.snapshot()()) == pages


def test_pages_are_cut_near_a_megabyte() -> None:
    pages = list(venue(*(crowded(n, 4_000) for n in range(10))).snapshot()())
    assert len(pages) > 2
    assert all(len(page) < 2 * PAGE for page in pages)


def test_a_snapshot_stands_still_while_the_pools_move() -> None:
    moving = venue(pool(1, WETH, USDC, 500, 10**6))
    frozen = moving.snapshot()
    before = list(frozen())
    (held,) = moving.pools.values()
    held.add_liquidity(held.spacing, 5, 5)
    held.at = held.at._replace(tick=7)
    assert list(frozen()) == before
    assert list(moving.snapshot()()) != before


def test_trial_swaps_outlive_a_restore() -> None:
    held = venue(pool(1, WETH, USDC, 500, 10**6))
    (hop,) = held.hops(WETH.address)
    swaps, expected = held.begin(), held.begin().quote(hop, 10**18)
    held.restore(empty().snapshot()())
    assert not held.pools
    assert swaps.quote(hop, 10**18) == expected


@pytest.mark.parametrize("fault", ["fees", "cut", "ticks", "none"])
def test_pages_of_something_else_are_refused_and_nothing_changes(fault: str) -> None:
    source = venue(pool(1, WETH, USDC, 500, 10**6))
    pages: Iterable[bytes] = list(source.snapshot()())
    first, body = pages
    target = venue(pool(2, WBTC, WETH, 3000, 10**5))
    before = dict(target.pools)
    match fault:
        case "fees":
            pages = list(empty(500).snapshot()())
        case "cut":
            pages = [first, body[:50]]
        case "ticks":
            pages = [first, body[:-36]]
        case "none":
            pages = []
    with pytest.raises(InvariantError):
        target.restore(pages)
    assert target.pools == before


def oracle() -> AaveOracle:
    made = AaveOracle("m", address(1), address(2), address(3), address(4))
    made._feeds = {
        address(10): Feed(address(11), address(12)),
        address(20): Feed(address(21), ZERO_ADDRESS),
        address(30): Feed(address(31), None),
        address(40): Feed(),
    }
    return made


def test_price_sources_come_back_equal_and_are_asked_anew() -> None:
    first, second = oracle(), AaveOracle("m", address(1), address(2), address(3), address(5))
    frozen = first.snapshot()
    feeds = dict(first.feeds)
    topics = (ASSET_SOURCE_UPDATED, *(b"\0" * 12 + address(n) for n in (10, 13)))
    first.fold(Log(address(4), topics, b"", 1, Hash(b""), 0))
    second.fold(Log(address(12), (ANSWER_UPDATED,), b"", 1, Hash(b""), 0))
    second.restore(frozen())
    assert second.feeds == feeds
    assert second.address == address(4)
    assert second.watch() == oracle().watch()
    assert second.calls() == oracle().calls()
    assert first.feeds[address(10)] == Feed(address(13))


@pytest.mark.parametrize("cut", [0, 10, 30])
def test_price_sources_that_cannot_be_read_are_refused(cut: int) -> None:
    held = oracle()
    (page,) = oracle().snapshot()()
    with pytest.raises(InvariantError):
        held.restore([page[:cut]])
    with pytest.raises(InvariantError):
        held.restore([b"\0\0\0\x09" + page[4:]])
    assert held.feeds == oracle().feeds
