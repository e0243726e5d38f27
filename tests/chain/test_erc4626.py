"""Vaults read at each head stay equal to the real ones, and unwrapping composes with swaps."""

import random

import pytest

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.errors import ConfigError
from keeper.planning.batch import GAINED, Redeem
from keeper.planning.batching import _action
from keeper.planning.routing import Router, Sales
from keeper.ports import Venue
from keeper.types import Hop
from keeper.units import WAD, ZERO_ADDRESS, Address
from keeper.venues.erc4626 import Erc4626
from keeper.venues.erc4626.rates import RAY, Savings
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.wrapped_native import WrappedNative
from tests.exchanges.erc4626 import KINDS, Exchange, observe
from tests.uniswap import FAR_FUTURE, FEES, SELL, DirectRpc

pytestmark = pytest.mark.chain


async def test_redemptions_tried_one_after_another_equal_those_made(net: Devnet) -> None:
    exchange, rng = Exchange(net), random.Random(1)
    for kind in KINDS:
        exchange.open(kind, "WETH", 1000)
    venue, made = await exchange.loaded(), 0
    trials = venue.begin()
    for vault, symbol in exchange.vaults.items():
        (hop,) = venue.hops(vault)
        asset = net.tokens[symbol].address
        for _ in range(6):
            held = net.balance(vault, Cast.DEPLOYER)
            shares = max(int(held * 10 ** rng.uniform(-9, -0.5)), 1)
            before = net.balance(asset, Cast.DEPLOYER)
            exchange.redeem(vault, Cast.DEPLOYER, shares)
            assert trials.apply(hop, shares) == net.balance(asset, Cast.DEPLOYER) - before
            made += 1
    print(f"{made} redemptions made")


async def test_a_moved_vault_waits_for_its_reads(net: Devnet) -> None:
    exchange = Exchange(net)
    vault = exchange.open("six", "USDC")
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    (hop,) = venue.hops(vault)
    before = venue.begin().quote(hop, 10**12)
    logs = exchange.redeem(vault, Cast.DEPLOYER, 10**12)
    (undo,) = (undo for log in logs if (undo := venue.fold(log)))
    assert venue.begin().quote(hop, 10**12) == 0 < before
    # What is given to the vault leaves no log of its own.
    net.give("USDC", vault, 10**10)
    await observe(venue, reader)
    assert venue.begin().quote(hop, 10**12) > before
    assert await venue.audit(reader, await reader.head(), 5, 1) == []
    undo()
    assert venue.begin().quote(hop, 10**12) == 0
    restored = exchange.venue()
    restored.restore(venue.snapshot()())
    await observe(restored, reader)
    await observe(venue, reader)
    assert restored.vaults == venue.vaults


async def test_a_savings_rate_is_that_of_the_block_to_come(net: Devnet) -> None:
    exchange, rate = Exchange(net), RAY + 10**20
    vault = exchange.open_savings("DAI", rate)
    venue, reader = await exchange.loaded(), ChainReader(DirectRpc(net))
    (hop,) = venue.hops(vault)
    for seconds in (1, 12, 86_400):
        await observe(venue, reader, seconds)
        state = venue.vaults[vault].state
        assert isinstance(state, Savings)
        quoted = venue.begin().quote(hop, 1000 * WAD)
        head = await reader.head()
        net.rpc("evm_setNextBlockTimestamp", head.timestamp + seconds)
        before = net.balance(net.tokens["DAI"].address, Cast.DEPLOYER)
        exchange.redeem(vault, Cast.DEPLOYER, 1000 * WAD)
        assert net.balance(net.tokens["DAI"].address, Cast.DEPLOYER) - before == quoted


async def test_a_rate_that_others_move_is_refused(net: Devnet) -> None:
    exchange = Exchange(net)
    vault = exchange.open_savings("DAI", RAY)
    reader = ChainReader(DirectRpc(net))
    head = await reader.head()
    tokens = [Address(token.address) for token in net.tokens.values()]
    with pytest.raises(ConfigError, match="does not answer as an ERC-4626 vault does"):
        await Erc4626("vaults", [tokens[0]]).bootstrap(reader, head)
    # Without assets of its own, what it says it has grows with its rate alone.
    venue = await exchange.loaded()
    (hop,) = venue.hops(vault)
    assert venue.begin().quote(hop, WAD) > 0
    slots = [
        int(net.rpc("eth_getStorageAt", "0x" + vault.hex(), hex(slot), "latest"), 16)
        for slot in range(4)
    ]
    asset = int.from_bytes(net.tokens["DAI"].address)
    net.rpc("anvil_setStorageAt", "0x" + vault.hex(), hex(slots.index(asset)), f"0x{0xDEAD:064x}")
    with pytest.raises(ConfigError, match="does not say how many decimals"):
        await exchange.loaded()


async def test_unwrapping_composes_with_swaps(net: Devnet) -> None:
    """Shares to WETH to USDC to DAI: quoted over two venues as one, and made one by one."""
    exchange = Exchange(net)
    vault = exchange.open("zero", "WETH", 1000)
    tokens = [Address(token.address) for token in net.tokens.values()]
    uniswap = UniswapV3("uniswap", Address(net.uniswap.factory), tokens, FEES)
    reader = ChainReader(DirectRpc(net))
    await uniswap.bootstrap(reader, await reader.head())
    venues: dict[str, Venue] = {"vaults": await exchange.loaded(), "uniswap": uniswap}
    ends = vault, Address(net.tokens["DAI"].address)
    best = Router(venues, 3, None).rank(Sales(venues), *ends, 7 * WAD)[0]
    assert best.route[0].venue == "vaults"
    assert 2 <= len(best.route) <= 3
    amount = 7 * WAD
    for hop in best.route:
        before = net.balance(hop.token_out, Cast.DEPLOYER)
        if hop.venue == "vaults":
            exchange.redeem(vault, Cast.DEPLOYER, amount)
        else:
            fee = uniswap.pools[hop.pool].fee
            args = [(hop.token_in, hop.token_out, fee, Cast.DEPLOYER, FAR_FUTURE, amount, 0, 0)]
            call = "approve(address,uint256)"
            net.send(Cast.DEPLOYER, hop.token_in, call, [net.uniswap.router, 2**255])
            net.send(Cast.DEPLOYER, net.uniswap.router, SELL, args)
        amount = net.balance(hop.token_out, Cast.DEPLOYER) - before
    assert amount == best.out > 0


async def test_a_coin_is_a_wrapped_coin(net: Devnet) -> None:
    weth = Address(net.tokens["WETH"].address)
    venue, reader = WrappedNative("weth", weth), ChainReader(DirectRpc(net))
    await venue.bootstrap(reader, await reader.head())
    (unwrap,), (wrap,) = venue.hops(weth), venue.hops(ZERO_ADDRESS)
    assert unwrap == Hop("weth", weth, weth, ZERO_ADDRESS)
    assert wrap == Hop("weth", weth, ZERO_ADDRESS, weth)
    assert venue.begin().apply(wrap, 5) == venue.begin().quote(unwrap, 5) == 5
    assert not venue.hops(Address(b"\x01" * 20))
    with pytest.raises(ConfigError, match="is no token"):
        await WrappedNative("weth", Address(b"\x01" * 20)).bootstrap(reader, await reader.head())
    shares = Hop("vaults", weth, weth, weth)
    assert isinstance(_action(shares, Erc4626("vaults", [weth]), GAINED), Redeem)
