"""Local Uniswap V3 quotes equal QuoterV2 to the wei, whatever the pool, direction and amount."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from keeper.devnet import Devnet
from keeper.units import Address
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.swaps import MOST_STEPS
from tests.uniswap import Traders, ask_quoter, load_venue, pool_hop

pytestmark = pytest.mark.chain

Loaded = tuple[Devnet, UniswapV3]


@pytest.fixture(scope="module", params=[11, 12])
def loaded(devnet: Devnet, request: pytest.FixtureRequest) -> Iterator[Loaded]:
    """Pools after random trades and narrow positions: many ticks, some liquidity gaps."""
    before = devnet.snapshot()
    traders = Traders(devnet, request.param)
    for _ in range(40):
        traders.step()
    print(f"seed {request.param}: {traders.counts}")
    yield devnet, load_venue(devnet)
    devnet.automine(False)
    devnet.revert(before)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    number=st.integers(0, 10**6),
    token0=st.booleans(),
    digits=st.integers(0, 27),
    lead=st.integers(1, 10**9),
)
def test_a_quote_equals_the_quoters(
    loaded: Loaded, number: int, token0: bool, digits: int, lead: int
) -> None:
    net, venue = loaded
    pool = net.uniswap.pools[number % len(net.uniswap.pools)]
    amount = max(lead * 10**digits // 10**8, 1)
    swap = pool_hop(venue, Address(pool.address), token0=token0)
    held = venue.pools[swap.pool]
    filled = held.sell(held.at, amount, token0=token0)
    # Once liquidity is used up the quoter goes on to the last price, and so reports a part.
    assert filled.out == ask_quoter(net, swap, pool.fee, amount)
    within = held.sell(held.at, amount, token0=token0, steps=MOST_STEPS)
    assert venue.begin().quote(swap, amount) == (0 if within.left else filled.out)


def test_swaps_tried_one_after_another_equal_swaps_made(loaded: Loaded) -> None:
    net, venue = loaded
    before = net.snapshot()
    traders = Traders(net, 5)
    swaps = venue.begin()
    folded = 0
    for _ in range(30):
        logs = traders.swap()
        moved = next(log for log in logs if log.address in venue.pools)
        words = [int.from_bytes(moved.data[i : i + 32], "big", signed=True) for i in (0, 32)]
        token0 = words[0] > 0
        sold, brought = (words[0], -words[1]) if token0 else (words[1], -words[0])
        made = pool_hop(venue, moved.address, token0=token0)
        # A trade that drained its pool was not filled; the trial leaves such a pool alone.
        if swaps.quote(made, sold) == 0:
            continue
        assert swaps.apply(made, sold) == brought
        folded += 1
    net.revert(before)
    print(f"{folded} swaps compared")
    assert folded >= 20
