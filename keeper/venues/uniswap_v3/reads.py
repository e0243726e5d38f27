"""Read the pools of one factory as they stand at one block."""

from collections.abc import Container, Iterable, Sequence
from itertools import combinations

from keeper.errors import ConfigError, InvariantError
from keeper.ports import Reader
from keeper.types import Call, CallResult, Head
from keeper.units import ZERO_ADDRESS, Address
from keeper.venues.uniswap_v3.pool import Point, Pool
from keeper.venues.uniswap_v3.tick_math import MAX_TICK, MIN_TICK
from keeper.venues.uniswap_v3.words import (
    BALANCE_OF,
    GET_POOL,
    LIQUIDITY,
    SLOT0,
    TICK_BITMAP,
    TICK_SPACING,
    TICKS,
    calldata,
    signed,
    topic_address,
    unsigned,
)

STATE_CALLS = 4


async def find_pools(
    reader: Reader,
    head: Head,
    factory: Address,
    tokens: Iterable[Address],
    fees: Sequence[int],
    known: Container[Address] = (),
) -> list[Pool]:
    """Return the pools a factory knows for every pair of tokens and fee, not yet loaded.

    Pairs of two `known` tokens are left out. Raises `ConfigError` when the address does not answer as a factory does.
    """
    wanted = [
        (token0, token1, fee)
        for token0, token1 in combinations(sorted(set(tokens)), 2)
        if not (token0 in known and token1 in known)
        for fee in fees
    ]
    results = await reader.multicall(
        [Call(factory, calldata(GET_POOL, *key)) for key in wanted], head.hash
    )
    found = []
    for (token0, token1, fee), result in zip(wanted, results, strict=True):
        if not result.ok or len(result.data) != 32:
            raise ConfigError(
                f"0x{factory.hex()} does not answer getPool: it is no Uniswap V3 factory",
                "check the venue's factory address and the chain",
            )
        address = topic_address(result.data)
        if address != ZERO_ADDRESS:
            found.append((address, token0, token1, fee))
    spacings = await reader.multicall(
        [Call(address, TICK_SPACING) for address, *_ in found], head.hash
    )
    return [
        Pool(address, token0, token1, fee, signed(answer(result, "tickSpacing")[0]))
        for (address, token0, token1, fee), result in zip(found, spacings, strict=True)
    ]


def state_calls(pool: Pool) -> list[Call]:
    """Return the reads of a pool's price, liquidity and token balances."""
    return [
        Call(pool.address, SLOT0),
        Call(pool.address, LIQUIDITY),
        Call(pool.token0, calldata(BALANCE_OF, pool.address)),
        Call(pool.token1, calldata(BALANCE_OF, pool.address)),
    ]


def read_state(results: Sequence[CallResult]) -> tuple[Point, int, int]:
    """Return where a pool stands and its balances from the answers to `state_calls`."""
    price, tick = answer(results[0], "slot0")[:2]
    liquidity, balance0, balance1 = (
        answer(result, what)[0]
        for result, what in zip(results[1:], ("liquidity", "balanceOf", "balanceOf"), strict=True)
    )
    return Point(price, signed(tick), liquidity), balance0, balance1


def word_call(pool: Pool, position: int) -> Call:
    """Return the read of one word of a pool's tick bitmap."""
    return Call(pool.address, calldata(TICK_BITMAP, position))


def tick_call(pool: Pool, number: int) -> Call:
    """Return the read of one tick, numbered in spacings."""
    return Call(pool.address, calldata(TICKS, number * pool.spacing))


def read_tick(result: CallResult) -> tuple[int, int]:
    """Return a tick's (gross, net) liquidity."""
    gross, net = answer(result, "ticks")[:2]
    return gross, signed(net)


def words_of(pool: Pool) -> range:
    """Return the positions of every bitmap word a pool can use (TickBitmap.sol: position)."""
    lowest = -(-MIN_TICK // pool.spacing)
    return range(lowest >> 8, (MAX_TICK // pool.spacing >> 8) + 1)


async def load_pools(reader: Reader, head: Head, pools: Sequence[Pool]) -> None:
    """Fill pools with everything a swap depends on: three rounds of reads for all of them."""
    calls = [call for pool in pools for call in state_calls(pool)]
    results = await reader.multicall(calls, head.hash)
    for index, pool in enumerate(pools):
        part = results[index * STATE_CALLS : (index + 1) * STATE_CALLS]
        pool.at, pool.balance0, pool.balance1 = read_state(part)
    live = [pool for pool in pools if pool.at.price]
    words = [(pool, position) for pool in live for position in words_of(pool)]
    results = await reader.multicall([word_call(*word) for word in words], head.hash)
    ticks = [
        (pool, (position << 8) + bit)
        for (pool, position), result in zip(words, results, strict=True)
        for bit in _bits(answer(result, "tickBitmap")[0])
    ]
    results = await reader.multicall([tick_call(*tick) for tick in ticks], head.hash)
    for (pool, number), result in zip(ticks, results, strict=True):
        pool.ticks[number] = read_tick(result)
    for pool in live:
        pool.order[:] = sorted(pool.ticks)


def answer(result: CallResult, what: str) -> Sequence[int]:
    """Return the words of a read; raise `InvariantError` when a known pool did not answer."""
    if not result.ok or not result.data:
        raise InvariantError("uniswap_v3", f"{what} could not be read")
    return unsigned(result.data)


def _bits(word: int) -> Iterable[int]:
    while word:
        lowest = word & -word
        yield lowest.bit_length() - 1
        word ^= lowest
