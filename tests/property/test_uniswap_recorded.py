"""The recorded WBTC/WETH pool of mainnet, loaded into a real pool contract: quotes, chain and swaps."""

import json
import os
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.types import Call, Hop
from keeper.units import Address
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.swaps import MOST_STEPS
from tests.uniswap import FAR_FUTURE, QUOTE, SELL, DirectRpc

pytestmark = pytest.mark.chain
RECORDED = Path(__file__).parents[3] / "shared/data/amm/uniswap_v3_wbtc_weth_block_24407242.json"
QUOTES = int(os.environ.get("KEEPER_RECORDED_QUOTES", "1000"))
"""A long run asks for 10,000 and more: KEEPER_RECORDED_QUOTES=10000."""
PORTION = 25
SWAPS = 12
PLENTY = 10**24
_MASK = 2**256 - 1


def recorded() -> dict[str, Any]:
    if not RECORDED.exists():
        pytest.skip("shared data absent: the recorded WBTC/WETH pool")
    read: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return read


def words(data: dict[str, Any]) -> dict[int, int]:
    """Return what the pool's storage holds (UniswapV3Pool.sol: slot0, liquidity, ticks, tickBitmap)."""
    state, found = data["scalars"], {}
    cardinality, unlocked = 1 << 200 | 1 << 216, 1 << 240
    found[0] = state["sqrt_price_x96"] | (state["tick"] & 0xFFFFFF) << 160 | cardinality | unlocked
    found[4] = state["liquidity"]
    # The first observation is there, taken at time zero.
    found[8] = 1 << 248
    for name, (gross, net, _) in data["tick_data"].items():
        tick = int(name)
        at = mapped(tick, 5)
        found[at] = gross | (net & (2**128 - 1)) << 128
        found[at + 3] = 1 << 248
        number = tick // state["tick_spacing"]
        place = mapped(number >> 8, 6)
        found[place] = found.get(place, 0) | 1 << (number & 255)
    return found


def mapped(key: int, slot: int) -> int:
    return int.from_bytes(keccak((key & _MASK).to_bytes(32) + slot.to_bytes(32)))


def loaded(net: Devnet, data: dict[str, Any]) -> tuple[Address, tuple[str, str]]:
    """Create a real pool of two tokens that have none, and give it the recorded one's state."""
    fee, factory = data["scalars"]["fee"], net.uniswap.factory
    pairs = combinations(sorted(net.tokens, key=lambda each: net.tokens[each].address), 2)
    for a, b in pairs:
        ends = [net.tokens[a].address, net.tokens[b].address, fee]
        told = net.call(factory, "getPool(address,address,uint24)", ends, ["bytes32"])
        if not any(told):
            break
    else:
        pytest.fail("every pair has such a pool already")
    net.send(Cast.DEPLOYER, factory, "createPool(address,address,uint24)", ends, gas=8_000_000)
    pool = net.call(factory, "getPool(address,address,uint24)", ends, ["bytes32"])[12:]
    for slot, word in words(data).items():
        net.rpc("anvil_setStorageAt", "0x" + pool.hex(), f"0x{slot:064x}", f"0x{word:064x}")
    for symbol in (a, b):
        net.give(symbol, pool, PLENTY)
        net.give(symbol, Cast.DEPLOYER, PLENTY)
        args = [net.uniswap.router, 2**255]
        token = net.tokens[symbol].address
        net.send(Cast.DEPLOYER, token, "approve(address,uint256)", args)
    return Address(pool), (a, b)


async def test_the_recorded_pool_quotes_and_swaps_as_the_contract_does(net: Devnet) -> None:
    data = recorded()
    address, symbols = loaded(net, data)
    ends = Address(net.tokens[symbols[0]].address), Address(net.tokens[symbols[1]].address)
    fee, held = data["scalars"]["fee"], (data["balance_token0"], data["balance_token1"])
    venue = UniswapV3("uniswap", Address(net.uniswap.factory), ends, [fee])
    reader = ChainReader(DirectRpc(net))
    await venue.bootstrap(reader, await reader.head())
    pool = venue.pools[address]
    assert len(pool.ticks) == len(data["tick_data"])
    rng, crossed, filled = random.Random(24407242), 0, 0
    selector, types = keccak(text=QUOTE)[:4], ["(address,address,uint256,uint24,uint160)"]
    for _ in range(QUOTES // PORTION):
        asked = []
        for _ in range(PORTION):
            token0 = rng.random() < 0.5
            amount = max(int(held[0 if token0 else 1] * 10 ** rng.uniform(-9, 0.3)), 1)
            asked.append((token0, amount))
        calls = []
        for token0, amount in asked:
            way = ends if token0 else ends[::-1]
            question = encode(types, [(*way, amount, fee, 0)])
            calls.append(Call(Address(net.uniswap.quoter), selector + question))
        answers = await reader.multicall(calls)
        for (token0, amount), answer in zip(asked, answers, strict=True):
            assert answer.ok, (token0, amount)
            sale = pool.sell(pool.at, amount, token0=token0)
            assert sale.out == int.from_bytes(answer.data[:32]), (token0, amount)
            assert sale.point().price == int.from_bytes(answer.data[32:64])
            crossed += int.from_bytes(answer.data[64:96])
            filled += not pool.sell(pool.at, amount, token0=token0, steps=MOST_STEPS).left
    print(f"{QUOTES} quotes equal, {crossed} ticks crossed, {filled} filled")
    assert crossed > QUOTES
    assert filled > QUOTES * 3 // 4
    trials, swapped = venue.begin(), 0
    for _ in range(SWAPS):
        token0 = rng.random() < 0.5
        amount = int(held[0 if token0 else 1] * 10 ** rng.uniform(-4, -1))
        sold, bought = symbols if token0 else symbols[::-1]
        way = ends if token0 else ends[::-1]
        hop = Hop(venue.name, address, *way)
        tokens = [net.tokens[each].address for each in (sold, bought)]
        before = net.balance(tokens[1], Cast.DEPLOYER)
        args = [(*tokens, fee, Cast.DEPLOYER, FAR_FUTURE, amount, 0, 0)]
        net.send(Cast.DEPLOYER, net.uniswap.router, SELL, args, gas=16_000_000)
        swapped += net.balance(tokens[1], Cast.DEPLOYER) - before
        assert trials.apply(hop, amount) == net.balance(tokens[1], Cast.DEPLOYER) - before > 0
    assert swapped
