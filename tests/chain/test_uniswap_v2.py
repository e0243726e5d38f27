"""Uniswap V2 kept by logs alone stays equal to the real pairs, and liquidations sell through it."""

from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator
from keeper.errors import ConfigError
from keeper.units import Address
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.venue import SYNC
from tests.exchanges.selling import sell_elsewhere
from tests.exchanges.uniswap_v2 import BUYER, Traders, deploy_exchange
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
PAIRS = [("WETH", "USDC"), ("WBTC", "WETH"), ("DAI", "USDC")]
STEPS = 60


def states(venue: UniswapV2) -> dict[Address, tuple[int, int]]:
    return {address: pair.reserves for address, pair in venue.pairs.items()}


@pytest.mark.parametrize("seed", [1, 2])
async def test_logs_keep_every_pair_exact(net: Devnet, seed: int) -> None:
    exchange = deploy_exchange(net)
    for a, b in PAIRS:
        exchange.open(a, b, 10**6)
    traders = Traders(exchange, PAIRS, seed)
    venue = await exchange.loaded()
    assert len(venue.pairs) == len(PAIRS)
    first, undos = states(venue), []
    reader = ChainReader(DirectRpc(net))
    for step in range(STEPS):
        undos += [undo for log in traders.step() if (undo := venue.fold(log)) is not None]
        if step % 20 == 19:
            assert await venue.audit(reader, await reader.head(), 9, seed) == []
    print(f"seed {seed}: {traders.counts}, {len(undos)} folds")
    assert min(traders.counts.values()) >= 3
    assert states(venue) == states(await exchange.loaded())
    restored = exchange.venue()
    restored.restore(venue.snapshot()())
    assert states(restored) == states(venue)
    assert restored.watch() == venue.watch()
    for undo in reversed(undos):
        undo()
    assert states(venue) == first


async def test_a_new_pair_is_followed_from_its_first_log(net: Devnet) -> None:
    exchange = deploy_exchange(net)
    venue = await exchange.loaded()
    assert venue.watch().addresses == {exchange.factory}
    first = net.chain.block_number() + 1
    born = exchange.open("WETH", "DAI", 10**5)
    reader, undos = ChainReader(DirectRpc(net)), []
    for _ in range(2):
        # The first pass meets the pair, the second what it said itself.
        logs = await reader.logs(venue.watch(), first, net.chain.block_number())
        undos = [undo for log in logs if (undo := venue.fold(log)) is not None]
    assert states(venue) == states(await exchange.loaded())
    assert venue.watch().addresses == {exchange.factory, born}
    assert {hop.pool for hop in venue.hops(Address(net.tokens["WETH"].address))} == {born}
    for undo in reversed(undos):
        undo()
    assert venue.watch().addresses == {exchange.factory}
    assert not venue.hops(Address(net.tokens["WETH"].address))


async def test_tokens_listed_later_bring_their_pairs(net: Devnet) -> None:
    exchange = deploy_exchange(net)
    for a, b in PAIRS:
        exchange.open(a, b, 10**6)
    few = [Address(net.tokens[symbol].address) for symbol in ("WETH", "USDC")]
    venue = UniswapV2("sushi", exchange.factory, exchange.router, few, BUYER)
    reader = ChainReader(DirectRpc(net))
    head = await reader.head()
    await venue.bootstrap(reader, head)
    assert len(venue.pairs) == 1
    more = venue.beside(Address(token.address) for token in net.tokens.values())
    await more.bootstrap(reader, head)
    assert len(more.pairs) == len(PAIRS) - 1
    venue.absorb(more)
    assert states(venue) == states(await exchange.loaded())


async def test_an_audit_names_what_differs(net: Devnet) -> None:
    exchange = deploy_exchange(net)
    exchange.open("WETH", "USDC", 10**6)
    venue = await exchange.loaded()
    (pair,) = venue.pairs.values()
    pair.reserves = pair.reserves[0], pair.reserves[1] + 1
    reader = ChainReader(DirectRpc(net))
    (drift,) = await venue.audit(reader, await reader.head(), 5, 1)
    assert drift.subject.endswith("reserve1")
    assert drift.held == drift.actual + 1


async def test_an_address_that_is_no_factory_is_refused(net: Devnet) -> None:
    tokens = [Address(token.address) for token in net.tokens.values()]
    wrong = UniswapV2("sushi", tokens[0], tokens[1], tokens, BUYER)
    reader = ChainReader(DirectRpc(net))
    with pytest.raises(ConfigError, match="no Uniswap V2 factory"):
        await wrong.bootstrap(reader, await reader.head())


async def test_the_pair_that_pays_best_takes_the_sale(net: Devnet, tmp_path: Path) -> None:
    operator, exchange = deploy_operator(net), deploy_exchange(net)
    opened = exchange.open("WETH", "USDC", 5 * 10**6)
    table = f"""
venue = "uniswap-v2"
factory = "{to_checksum_address(exchange.factory)}"
router = "{to_checksum_address(exchange.router)}"
"""
    await sell_elsewhere(net, operator, tmp_path, "sushi", table, opened, [SYNC])
