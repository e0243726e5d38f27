"""Balancer's weighted pools, kept by logs alone, stay equal to the real ones, and take sales."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from keeper.book.widen import widen
from keeper.chain.blocks import Blocks
from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.devnet.operator import deploy_operator
from keeper.errors import ConfigError
from keeper.ports import Reader
from keeper.types import FlashKind, Head, Hop
from keeper.units import Address
from keeper.venues.balancer_v2 import BalancerV2
from keeper.venues.balancer_v2.discovery import POOL_CREATED, MadeBy
from keeper.venues.balancer_v2.pool import State
from keeper.venues.balancer_v2.powers import Powers
from keeper.venues.balancer_v2.reads import read_pools
from keeper.venues.balancer_v2.venue import SWAP
from tests.exchanges.balancer_v2 import BUYER, Exchange, Traders, deploy_exchange
from tests.exchanges.searching import search
from tests.exchanges.selling import sell_elsewhere
from tests.uniswap import DirectRpc, logs_of

pytestmark = pytest.mark.chain
STEPS = 50
FEE = 3 * 10**15


def opened(net: Devnet) -> Exchange:
    exchange = deploy_exchange(net)
    exchange.open({"WETH": 80, "USDC": 20}, FEE, 10**6)
    exchange.open({"WBTC": 50, "WETH": 50}, FEE, 10**6)
    exchange.open({"WETH": 40, "USDC": 35, "DAI": 25}, FEE, 10**6)
    return exchange


def states(venue: BalancerV2) -> dict[Address, State]:
    return {address: pool.state for address, pool in venue.pools.items()}


@pytest.mark.parametrize("seed", [1, 2])
async def test_logs_keep_every_pool_exact(net: Devnet, seed: int) -> None:
    exchange = opened(net)
    traders, venue = Traders(exchange, seed), await exchange.loaded()
    assert {pool.powers for pool in venue.pools.values()} == {Powers.LOGARITHM}
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
    assert restored.pools == venue.pools
    weth = Address(net.tokens["WETH"].address)
    assert list(restored.hops(weth)) == list(venue.hops(weth))
    for undo in reversed(undos):
        undo()
    assert states(venue) == first


async def test_swaps_tried_one_after_another_equal_swaps_made(net: Devnet) -> None:
    exchange = opened(net)
    traders, venue = Traders(exchange, 5), await exchange.loaded()
    trials, compared = venue.begin(), 0
    for _ in range(40):
        pool = traders.rng.choice(exchange.pools)
        ends = traders.rng.sample(pool.symbols, 2)
        sold, bought = (Address(net.tokens[symbol].address) for symbol in ends)
        amount = traders.some(ends[0])
        out = trials.apply(Hop(venue.name, pool.address, sold, bought), amount)
        made = next(
            log for log in traders.swap(pool, ends, amount) if log.address == exchange.vault
        )
        assert int.from_bytes(made.data[32:64]) == out > 0
        compared += 1
    print(f"{compared} swaps compared")


async def test_a_pause_ends_sales(net: Devnet) -> None:
    exchange = opened(net)
    venue, weth = await exchange.loaded(), Address(net.tokens["WETH"].address)
    chosen = exchange.pools[0].address
    (hop,) = (hop for hop in venue.hops(weth) if hop.pool == chosen)
    before = venue.begin().quote(hop, 10**16)
    exchange.permit(chosen, bytes.fromhex("16c38b3c"))
    exchange.permit(exchange.vault, bytes.fromhex("16c38b3c"))
    logs = logs_of(net.send(Cast.DEPLOYER, chosen, "setPaused(bool)", [True]))
    (undo,) = (undo for log in logs if (undo := venue.fold(log)))
    assert venue.begin().quote(hop, 10**16) == 0 < before
    undo()
    assert venue.begin().quote(hop, 10**16) == before
    logs = logs_of(net.send(Cast.DEPLOYER, exchange.vault, "setPaused(bool)", [True]))
    (undo,) = (undo for log in logs if (undo := venue.fold(log)))
    assert not venue.hops(weth)
    undo()
    assert hop in venue.hops(weth)


async def test_what_is_no_weighted_pool_is_refused(net: Devnet) -> None:
    exchange = opened(net)
    tokens = [Address(token.address) for token in net.tokens.values()]
    reader = ChainReader(DirectRpc(net))
    head = await reader.head()
    for vault, pool in ((exchange.vault, tokens[0]), (tokens[0], exchange.pools[0].address)):
        wrong = BalancerV2("balancer", vault, [pool], tokens, BUYER)
        with pytest.raises(ConfigError, match="does not answer as Balancer V2 does"):
            await wrong.bootstrap(reader, head)


FACTORY = Address(b"\xfa" * 20)
"""An account that stands in for one: its logs are what is looked for."""


def told(net: Devnet, *pools: bytes) -> None:
    """Let the factory tell of pools."""
    # PUSH the address from calldata, LOG2(0, 0, PoolCreated, address).
    code = "5f357f" + POOL_CREATED.hex() + "5f5fa200"
    net.rpc("anvil_setCode", "0x" + FACTORY.hex(), "0x" + code)
    for made in pools:
        request = {"from": "0x" + Cast.DEPLOYER.hex(), "to": "0x" + FACTORY.hex()}
        net.rpc("eth_sendTransaction", {**request, "data": f"0x{made.rjust(32, bytes(1)).hex()}"})
        net.mine()


async def test_pools_are_found_by_their_factory(
    net: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = opened(net)
    told(net, *(pool.address for pool in exchange.pools), net.tokens["DAI"].address)
    few = [Address(net.tokens[symbol].address) for symbol in ("WETH", "USDC")]
    reader = ChainReader(DirectRpc(net))
    made_by = MadeBy((FACTORY,), 0)
    venue = BalancerV2("balancer", exchange.vault, (), few, BUYER, made_by)
    await venue.bootstrap(reader, await reader.head())
    assert set(venue.pools) == {exchange.pools[0].address, exchange.pools[2].address}
    assert venue.left_out == {}
    assert venue.lending is not None
    assert venue.watch().addresses == {exchange.vault, venue.lending.collector, *venue.pools}
    restored = BalancerV2("balancer", exchange.vault, (), few, BUYER, made_by)
    restored.restore(venue.snapshot()())
    assert restored.pools == venue.pools
    held = dict(restored.pools)
    made = exchange.open({"USDC": 50, "WETH": 50}, FEE, 10**6)
    told(net, made.address)
    asked: list[bytes] = []

    async def read(reader: Reader, head: Head, vault: Address, pools: Sequence[Address]) -> Any:
        asked.extend(pools)
        return await read_pools(reader, head, vault, pools)

    monkeypatch.setattr("keeper.venues.balancer_v2.venue.read_pools", read)
    book = await search(net, restored)
    assert asked == [made.address]
    assert set(restored.pools) == {made.address, *held}
    assert all(restored.pools[address] is pool for address, pool in held.items())
    rpc = DirectRpc(net)
    more = [*few, Address(net.tokens["WBTC"].address)]
    await widen(book, "venue/balancer", more, ChainReader(rpc), Blocks(rpc))
    fresh = BalancerV2("balancer", exchange.vault, (), more, BUYER, made_by)
    await fresh.bootstrap(reader, await reader.head())
    assert restored.pools == fresh.pools
    assert restored.watch() == fresh.watch()
    assert exchange.pools[1].address in {hop.pool for hop in restored.hops(more[-1])}
    assert exchange.pools[1].address in restored.flash_sources(more[-1])[0].shuts


async def test_a_token_without_decimals_is_one_line(net: Devnet) -> None:
    exchange = opened(net)
    net.rpc("anvil_setCode", "0x" + net.tokens["DAI"].address.hex(), "0x")
    with pytest.raises(ConfigError, match="does not say how many decimals it has") as told:
        await exchange.loaded()
    assert "\n" not in str(told.value)


async def test_a_pool_that_was_empty_is_asked_again(net: Devnet) -> None:
    exchange = deploy_exchange(net)
    early = net.chain.block_number() + 1
    exchange.open({"WETH": 50, "USDC": 50}, FEE, 10**6)
    venue, reader = exchange.venue(), ChainReader(DirectRpc(net))
    await venue.bootstrap(reader, await reader.head(early))
    hop = venue.hops(Address(net.tokens["WETH"].address))[0]
    (pool,) = venue.pools.values()
    assert pool.powers is None
    for log in await reader.logs(venue.watch(), early + 1, net.chain.block_number()):
        venue.fold(log)
    assert venue.begin().quote(hop, 10**16) == 0
    assert await venue.audit(reader, await reader.head(), 9, 1) == []
    assert venue.pools == (await exchange.loaded()).pools
    assert venue.begin().quote(hop, 10**16) > 0


async def test_an_audit_names_what_differs(net: Devnet) -> None:
    exchange = opened(net)
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    pool = next(iter(venue.pools.values()))
    pool.state = pool.state._replace(fee=1, cash=(pool.state.cash[0] + 1, *pool.state.cash[1:]))
    drifts = await venue.audit(reader, await reader.head(), 9, 1)
    assert [drift.subject.split(" ", 2)[2] for drift in drifts] == ["fee", "cash 0"]


async def test_the_pool_that_pays_best_takes_the_sale(net: Devnet, tmp_path: Path) -> None:
    operator, exchange = deploy_operator(net), deploy_exchange(net)
    pool = exchange.open({"WETH": 50, "USDC": 50}, 10**15, 10**7)
    table = f"""
venue = "balancer-v2"
vault = "{to_checksum_address(exchange.vault)}"
pools = ["{to_checksum_address(pool.address)}"]
"""
    topics = [SWAP, pool.number]
    plan = await sell_elsewhere(
        net, operator, tmp_path, "balancer", table, exchange.vault, topics, lends=True
    )
    assert FlashKind.BALANCER not in {quote.flash.kind for quote in plan.quotes}
