"""Local Uniswap V3 quotes beside QuoterV2's, on many states and random amounts: how many differ.

The suites compare a few hundred of them, and 10,000 each of Uniswap V2 pairs, Balancer pools and
vaults with their contracts; the recorded pool of mainnet is asked 10,000 times by
`KEEPER_RECORDED_QUOTES=10000 pytest tests/property/test_uniswap_recorded.py`.
"""

import asyncio
import random
from collections.abc import Mapping

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.types import Call
from keeper.units import Address
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Pool
from tests.uniswap import QUOTE, DirectRpc, Traders, load_venue

STATES, AMOUNTS, PORTION = 25, 400, 40
STEPS = 12
"""Trades, mints and burns between two states."""
_TYPES = ["(address,address,uint256,uint24,uint160)"]


def figures(net: Devnet) -> Mapping[str, float]:
    """Compare amounts on states that traders leave; print who differs."""
    traders = Traders(net, 31)
    rng = random.Random(31)
    compared = filled = 0
    different: list[str] = []
    for state in range(STATES):
        for _ in range(STEPS):
            traders.step()
        venue = load_venue(net)
        for _ in range(AMOUNTS // PORTION):
            asked = [_drawn(rng, venue) for _ in range(PORTION)]
            answers = asyncio.run(_quoted(net, asked))
            for (pool, token0, amount), theirs in zip(asked, answers, strict=True):
                ours = pool.sell(pool.at, amount, token0=token0).out
                compared += 1
                filled += ours > 0
                if ours != theirs:
                    different.append(f"state {state} {pool.address.hex()} {token0} {amount}")
    print(*different[:5], sep="\n")
    return {
        "uniswap_v3_quotes_compared": compared,
        "uniswap_v3_quotes_filled": filled,
        "uniswap_v3_quotes_different": len(different),
    }


def _drawn(rng: random.Random, venue: UniswapV3) -> tuple[Pool, bool, int]:
    """Return a pool, a direction and an amount, from dust to more than the pool holds."""
    pool = rng.choice([each for each in venue.pools.values() if each.at.price])
    token0 = rng.random() < 0.5
    held = pool.balance0 if token0 else pool.balance1
    return pool, token0, max(int(held * 10 ** rng.uniform(-12, 0.5)), 1)


async def _quoted(net: Devnet, asked: list[tuple[Pool, bool, int]]) -> list[int]:
    selector, calls = keccak(text=QUOTE)[:4], []
    for pool, token0, amount in asked:
        way = (pool.token0, pool.token1) if token0 else (pool.token1, pool.token0)
        question = encode(_TYPES, [(*way, amount, pool.fee, 0)])
        calls.append(Call(Address(net.uniswap.quoter), selector + question))
    reader = ChainReader(DirectRpc(net))
    answers = list(await reader.multicall(calls))
    for place, answer in enumerate(answers):
        if not answer.ok:
            # One that walks on through all empty words takes the gas of the others, too.
            (answers[place],) = await reader.multicall([calls[place]])
    return [int.from_bytes(each.data[:32]) if each.ok else -1 for each in answers]
