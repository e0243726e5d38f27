"""Uniswap V2 kept by logs alone stays equal to the real pairs, and liquidations sell through it."""

import asyncio
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.doctor.permissions import check_permissions, missing
from keeper.errors import ConfigError
from keeper.units import Address, Hash
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.venue import SYNC
from tests.exchanges.uniswap_v2 import BUYER, Traders, deploy_exchange
from tests.line import Play, assert_clean
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
    """The owner allows what the doctor says is missing; then a pair 2 % dearer gets the collateral."""
    crowd = net.borrowers(3, health=(1.01, 1.04), seed=3)
    operator, exchange = deploy_operator(net), deploy_exchange(net)
    opened = exchange.open("WETH", "USDC", 5 * 10**6)
    table = f"""
[chains.devnet.venues.sushi]
venue = "uniswap-v2"
factory = "{to_checksum_address(exchange.factory)}"
router = "{to_checksum_address(exchange.router)}"
"""
    settings = load([write_settings(net, operator, tmp_path, extra=table)]).settings
    chain, rpc = settings.chains["devnet"], DirectRpc(net)
    (lacking,) = await missing(rpc, chain, operator.contract, ())
    assert lacking.what == "allow swaps on venue sushi"
    assert (
        "not yet allow swaps on venue sushi"
        in (await check_permissions(rpc, chain, operator.contract))[1]
    )
    request = {"from": operator.owner, "to": operator.contract, "data": lacking.data}
    sent = {key: "0x" + value.hex() for key, value in request.items()}
    net.rpc("anvil_setBalance", sent["from"], hex(10**18))
    net.rpc("anvil_impersonateAccount", sent["from"])
    net.rpc("eth_sendTransaction", sent)
    net.mine()
    assert await missing(rpc, chain, operator.contract, ()) == []
    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        # The pair keeps the price from before the fall, which the pools of V3 follow.
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
        assert play.under(crowd) == set(crowd)
        before = await asyncio.to_thread(net.chain.block_number)
        await stage.mine(2)
        play.assert_taken(crowd)
        assert_clean(play.tally)
        assert await play.audit() == []
        swaps = await asyncio.to_thread(
            net.rpc,
            "eth_getLogs",
            {
                "fromBlock": hex(before),
                "address": "0x" + opened.hex(),
                "topics": ["0x" + SYNC.hex()],
            },
        )
    assert swaps
    assert {Hash(bytes.fromhex(log["transactionHash"][2:])) for log in swaps}
