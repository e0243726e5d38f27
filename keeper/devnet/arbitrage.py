"""Bring Uniswap pools back to the oracle's prices, as traders do on a real chain."""

from collections.abc import Iterable, Mapping

from keeper.devnet.calls import calldata
from keeper.devnet.chain import GWEI, Chain, Transaction
from keeper.devnet.deploy_uniswap import sqrt_price
from keeper.devnet.model import Pool, Token

ARBITRAGE_FEE = 300 * GWEI
_FAR_FUTURE = 2**40
_MILLION = 1_000_000
EXACT_INPUT = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"


def put_arbitrage(
    chain: Chain,
    router: bytes,
    trader: bytes,
    pools: Iterable[Pool],
    tokens: Mapping[bytes, Token],
    prices: Mapping[str, int],
    max_fee: int = ARBITRAGE_FEE,
) -> int:
    """Put a swap into each pool that is further from the prices than its fee; return how many.

    `max_fee` decides their place in the block. Behind others a swap may find its pool past the price:
    then it fails, and nobody minds.
    """
    known = [pool for pool in pools if pool.token0 in tokens and pool.token1 in tokens]
    slots = chain.call_many(
        [(pool.address, "slot0()", []) for pool in known], ["uint160"], "latest"
    )
    count = 0
    for pool, now in zip(known, slots, strict=True):
        target = sqrt_price(tokens[pool.token0], tokens[pool.token1], prices)
        # The price is the square of the root: a root off by half the fee is a price off by it.
        if abs(target - now) * 2 * _MILLION > pool.fee * now:
            into, out = (pool.token0, pool.token1) if target < now else (pool.token1, pool.token0)
            entry = (into, out, pool.fee, trader, _FAR_FUTURE, 2**120, 0, target)
            data = calldata(EXACT_INPUT, [entry])
            swap = Transaction(trader, router, data, gas=16_000_000, max_fee=max_fee)
            chain.put(swap, check=max_fee >= ARBITRAGE_FEE)
            count += 1
    return count
