"""The Curve venue on pools that stand in for Curve's: reading, quoting, refusing, selling.

The stand-ins follow the published formulas; whether Curve's contracts do is not shown here.
"""

import random
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator
from keeper.errors import ConfigError
from keeper.planning.owner_calls import encode_allow, encode_disallow
from keeper.types import Call, Hop
from keeper.units import Address
from keeper.venues.curve import Curve
from keeper.venues.curve.pool import CryptoKind, StableKind
from keeper.venues.curve.reads import GET_DY_CRYPTO, GET_DY_STABLE, RAMP_END
from keeper.venues.curve.stable import Product
from keeper.venues.curve.venue import EXCHANGE_CRYPTO, EXCHANGE_STABLE, EXCHANGED
from tests.exchanges.curve import BUYER, Exchange, some_trade
from tests.exchanges.searching import search
from tests.exchanges.selling import sell_elsewhere, send
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
STATES, AMOUNTS = 5, 30


def opened(net: Devnet) -> Exchange:
    exchange = Exchange(net)
    exchange.open_stable(("USDC", "DAI", "WETH"))
    exchange.open_crypto(("USDC", "WETH"))
    exchange.open_crypto(("WETH", "WBTC"))
    return exchange


async def observe(venue: Curve, reader: ChainReader) -> None:
    head = await reader.head()
    venue.observe(await reader.multicall(venue.calls(), head.hash), head, head.next_block(12))


async def test_quotes_equal_the_stand_ins(net: Devnet) -> None:
    exchange, rng = opened(net), random.Random(1)
    venue, reader, compared = await exchange.loaded(), ChainReader(DirectRpc(net)), 0
    kinds = {type(pool.kind) for pool in venue.pools.values()}
    assert kinds == {StableKind, CryptoKind}
    for _ in range(STATES):
        for pool in venue.pools.values():
            assert pool.state is not None
            asked = [some_trade(rng, pool.state.balances) for _ in range(AMOUNTS)]
            selector = GET_DY_STABLE if pool.address in exchange.stable else GET_DY_CRYPTO
            calls = [
                Call(pool.address, selector + b"".join(each.to_bytes(32) for each in trade))
                for trade in asked
            ]
            trials = venue.begin()
            for (sold, bought, amount), told in zip(
                asked, await reader.multicall(calls), strict=True
            ):
                hop = Hop(venue.name, pool.address, pool.coins[sold], pool.coins[bought])
                # A stand-in asserts less about its state than the contracts do.
                mine = trials.quote(hop, amount)
                assert told.ok
                assert mine in {int.from_bytes(told.data), 0}
                compared += bool(mine)
            exchange.exchange(pool.address, *some_trade(rng, pool.state.balances))
        await observe(venue, reader)
    print(f"{compared} quotes equal")
    assert compared > STATES * AMOUNTS * 2


async def test_swaps_tried_one_after_another_equal_swaps_made(net: Devnet) -> None:
    exchange, rng = opened(net), random.Random(2)
    venue, made = await exchange.loaded(), 0
    trials = venue.begin()
    for pool in venue.pools.values():
        for turn in range(6):
            assert pool.state is not None
            sold, bought, amount = some_trade(rng, pool.state.balances)
            hop = Hop(venue.name, pool.address, pool.coins[sold], pool.coins[bought])
            out = trials.apply(hop, amount)
            if pool.address in exchange.crypto and turn:
                # Behind a sale of the same coins it is a larger one; else nothing is sold there.
                continue
            logs = exchange.exchange(pool.address, sold, bought, amount)
            (log,) = (log for log in logs if log.topics[0] in EXCHANGED)
            assert out == int.from_bytes(log.data[-32:]) > 0
            made += 1
    assert made == 6 + 2


async def test_a_trade_hides_a_pool_until_it_is_read_again(net: Devnet) -> None:
    exchange = opened(net)
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    first = next(iter(exchange.stable))
    usdc = Address(net.tokens["USDC"].address)
    hop = next(hop for hop in venue.hops(usdc) if hop.pool == first)
    before = venue.begin().quote(hop, 10**9)
    (undo,) = (undo for log in exchange.exchange(first, 0, 1, 10**11) if (undo := venue.fold(log)))
    assert venue.begin().quote(hop, 10**9) == 0 < before
    await observe(venue, reader)
    after = venue.begin().quote(hop, 10**9)
    assert 0 < after < before
    assert await venue.audit(reader, await reader.head(), 9, 1) == []
    undo()
    assert venue.begin().quote(hop, 10**9) == 0
    await observe(venue, reader)
    restored = exchange.venue()
    restored.restore(venue.snapshot()())
    assert restored.begin().quote(hop, 10**9) == 0
    await observe(restored, reader)
    assert restored.pools == venue.pools
    assert list(restored.hops(usdc)) == list(venue.hops(usdc))
    assert restored.begin().quote(hop, 10**9) == after


async def test_nothing_is_sold_while_a_moves(net: Devnet) -> None:
    exchange = opened(net)
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    pool = venue.pools[next(iter(exchange.stable))]
    head = await reader.head()
    assert int.from_bytes((await reader.multicall([Call(pool.address, RAMP_END)]))[0].data) == 0
    net.send(net.users[0].address, pool.address, "ramp(uint256)", [head.timestamp + 1000])
    await observe(venue, reader)
    assert pool.state is None
    net.send(net.users[0].address, pool.address, "ramp(uint256)", [head.timestamp])
    await observe(venue, reader)
    assert pool.state is not None


async def test_an_audit_names_what_differs(net: Devnet) -> None:
    exchange = opened(net)
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    pool = next(iter(exchange.stable))
    net.rpc("anvil_setStorageAt", "0x" + pool.hex(), "0x3", f"0x{5 * 10**24:064x}")
    head = await reader.head()
    drifts = await venue.audit(reader, head, 9, 1)
    assert {drift.subject.split(" ")[1] for drift in drifts} == {"0x" + pool.hex()}
    net.mine()
    # What was read at another head is not what this one holds.
    assert await venue.audit(reader, await reader.head(), 9, 1) == []


async def test_what_is_no_pool_is_refused_in_one_line(net: Devnet) -> None:
    exchange = opened(net)
    tokens = [Address(token.address) for token in net.tokens.values()]
    stable, unlike = next(iter(exchange.stable)), next(iter(exchange.crypto))
    reader = ChainReader(DirectRpc(net))
    head = await reader.head()
    cases = [
        ({tokens[0]: EXCHANGE_STABLE}, (), "does not answer as a Curve pool does"),
        ({stable: EXCHANGE_CRYPTO}, (), "of the other kind"),
        ({unlike: EXCHANGE_STABLE}, (), "of the other kind"),
        ({}, (tokens[0],), "it is no Curve registry"),
    ]
    for named, registries, why in cases:
        wrong = Curve("curve", named, tokens, BUYER, registries)
        with pytest.raises(ConfigError, match=why) as told:
            await wrong.bootstrap(reader, head)
        assert "\n" not in str(told.value)


async def test_a_token_without_decimals_is_refused_in_one_line(net: Devnet) -> None:
    exchange = opened(net)
    pool = next(iter(exchange.stable))
    # The pool's first coin becomes an account without code.
    net.rpc("anvil_setStorageAt", "0x" + pool.hex(), "0x0", f"0x{0xDEAD:064x}")
    with pytest.raises(ConfigError, match="does not say how many decimals"):
        await exchange.loaded()


async def test_pools_are_found_in_a_registry_once_they_are_allowed(
    net: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract stands in for a registry: whatever is asked, it names one pool."""
    exchange, operator = opened(net), deploy_operator(net)
    first = next(iter(exchange.crypto))
    registry = Address(b"\xfb" * 20)
    # Return the pool's address as a word.
    net.rpc("anvil_setCode", "0x" + registry.hex(), f"0x73{first.hex()}5f5260205ff3")
    tokens = [Address(token.address) for token in net.tokens.values()]
    reader, contract = ChainReader(DirectRpc(net)), Address(operator.contract)
    venue = Curve("curve", {}, tokens, contract, (registry,))
    await venue.bootstrap(reader, await reader.head())
    assert venue.left_out == {first: "the contract's owner did not allow its exchange"}
    assert not venue.pools
    restored = Curve("curve", {}, tokens, contract, (registry,))
    restored.restore(venue.snapshot()())
    await search(net, restored)
    assert restored.left_out == venue.left_out
    send(net, operator, encode_allow(first, EXCHANGE_CRYPTO, first))
    await search(net, restored)
    assert set(restored.pools) == {first}
    assert not restored.left_out
    await venue.bootstrap(reader, await reader.head())
    # What is known is asked for its permission alone.
    with monkeypatch.context() as patched:
        patched.delattr("keeper.venues.curve.venue.load_pool")
        await search(net, restored)
        assert set(restored.pools) == {first}
        send(net, operator, encode_disallow(first, EXCHANGE_CRYPTO))
        await search(net, restored)
    assert not restored.pools
    assert set(restored.left_out) == {first}
    assert set(venue.pools) == {first}
    assert not venue.left_out
    assert venue.hops(tokens[0]) or venue.hops(Address(net.tokens["WETH"].address))


async def test_a_pool_with_other_formulas_is_refused(net: Devnet) -> None:
    exchange = opened(net)
    unlike, stable = next(iter(exchange.crypto)), next(iter(exchange.stable))
    venue = await exchange.loaded()
    assert venue.pools[unlike].kind == CryptoKind(10_000, renewing=False)
    assert venue.pools[stable].kind == StableKind(100, Product.EACH)
    # The stand-in does not mind a price of nothing for its second coin's unit; nobody else computes so.
    net.rpc("anvil_setStorageAt", "0x" + unlike.hex(), "0x5", f"0x{7:064x}")
    with pytest.raises(ConfigError, match="follows no Curve formula known here"):
        await exchange.loaded()


async def test_the_pool_that_pays_best_takes_the_sale(net: Devnet, tmp_path: Path) -> None:
    operator, exchange = deploy_operator(net), Exchange(net)
    pool = exchange.open_crypto(("USDC", "WETH"), 20 * 10**6)
    table = f"""
venue = "curve"
crypto_pools = ["{to_checksum_address(pool)}"]
"""
    topics = sorted(EXCHANGED)[-1:]
    await sell_elsewhere(net, operator, tmp_path, "curve", table, pool, topics, measured=False)
