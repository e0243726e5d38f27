"""The venue, kept by logs alone, stays equal to the real pools; every fold can be taken back."""

import asyncio
import copy
from dataclasses import astuple

import pytest

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.errors import ConfigError
from keeper.types import Drift
from keeper.units import Address
from keeper.venues.uniswap_v3 import UniswapV3
from tests.uniswap import DirectRpc, Traders, ask_quoter, load_venue, pool_hop

pytestmark = pytest.mark.chain
STEPS = 60


async def audit(net: Devnet, venue: UniswapV3, seed: int) -> list[Drift]:
    source = ChainReader(DirectRpc(net))
    return await venue.audit(source, await source.head(), len(venue.pools), seed)


def states(venue: UniswapV3) -> dict[Address, tuple[object, ...]]:
    return {address: copy.deepcopy(astuple(pool)) for address, pool in venue.pools.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_logs_keep_every_pool_exact(net: Devnet, seed: int) -> None:
    traders = Traders(net, seed)
    venue = load_venue(net)
    first = states(venue)
    undos = []
    for step in range(STEPS):
        logs = traders.step()
        undos += [undo for log in logs if (undo := venue.fold(log)) is not None]
        if step % 10 == 9:
            assert asyncio.run(audit(net, venue, seed + step)) == []
    print(f"seed {seed}: {traders.counts}, {len(undos)} folds")
    assert min(traders.counts.values()) >= 3
    fresh = load_venue(net)
    assert states(venue) == states(fresh)
    for undo in reversed(undos):
        undo()
    assert states(venue) == first


def test_a_new_pool_is_followed_from_its_first_log(net: Devnet) -> None:
    venue = load_venue(net)
    known = set(venue.pools)
    watched = venue.watch().addresses
    traders = Traders(net, 4)
    undos = [u for log in traders.create("DAI", "USDT", 3000) if (u := venue.fold(log))]
    (born,) = set(venue.pools) - known
    assert venue.watch().addresses - watched == {born}
    assert states(venue) == states(load_venue(net))
    swap = pool_hop(venue, born, token0=True)
    assert venue.begin().quote(swap, 10**9) == ask_quoter(net, swap, 3000, 10**9) > 0
    assert swap in venue.hops(swap.token_in)
    for undo in reversed(undos):
        undo()
    assert set(venue.pools) == known
    assert venue.watch().addresses == watched


def test_a_pool_lends_its_balance_at_its_fee(net: Devnet) -> None:
    venue = load_venue(net)
    usdc = Address(net.tokens["USDC"].address)
    sources = venue.flash_sources(usdc)
    assert len(sources) >= 4
    for source in sources:
        assert source.available == net.balance(usdc, source.source)
        assert source.fee_ppm == venue.pools[source.source].fee


def test_an_audit_names_what_differs(net: Devnet) -> None:
    venue = load_venue(net)
    pool = next(iter(venue.pools.values()))
    pool.at = pool.at._replace(liquidity=pool.at.liquidity + 1)
    pool.balance0 += 1
    drifts = asyncio.run(audit(net, venue, 1))
    assert sorted(drift.subject.split()[-1] for drift in drifts) == ["balance0", "liquidity"]
    assert all(drift.held == drift.actual + 1 for drift in drifts)


def test_an_address_that_is_no_factory_is_refused(net: Devnet) -> None:
    tokens = [Address(token.address) for token in net.tokens.values()]
    source = ChainReader(DirectRpc(net))

    async def load() -> None:
        wrong = UniswapV3("uniswap", tokens[0], tokens)
        await wrong.bootstrap(source, await source.head())

    with pytest.raises(ConfigError, match="no Uniswap V3 factory"):
        asyncio.run(load())
