"""Pools as fixed-width bytes for a snapshot: what identifies the venue first, then the pools."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from keeper.errors import InvariantError
from keeper.units import Address
from keeper.venues.uniswap_v3.pool import Point, Pool

FORMAT = 1
PAGE = 1 << 20
_POOL = struct.Struct(">20s20s20sIi20si16s32s32sI")
_TICK = struct.Struct(">i16s16s")


class Frozen(NamedTuple):
    """One pool as it stood; nothing in it changes."""

    address: Address
    token0: Address
    token1: Address
    fee: int
    spacing: int
    at: Point
    balance0: int
    balance1: int
    ticks: dict[int, tuple[int, int]]


def freeze(pool: Pool) -> Frozen:
    """Return what a later fold does not change."""
    return Frozen(
        pool.address,
        pool.token0,
        pool.token1,
        pool.fee,
        pool.spacing,
        pool.at,
        pool.balance0,
        pool.balance1,
        pool.ticks.copy(),
    )


def identity(factory: Address, tokens: Iterable[Address], fees: Sequence[int]) -> bytes:
    """Return the first page: which pools there would be, apart from their state; tokens last."""
    numbers = (FORMAT, *fees)
    return b"".join([*(n.to_bytes(4, "big") for n in numbers), factory, *sorted(tokens)])


def encode(first: bytes, pools: Iterable[Frozen]) -> Iterator[bytes]:
    """Yield the pages: the identity, then whole pools, about a megabyte at a time."""
    yield first
    page = bytearray()
    for pool in pools:
        page += _POOL.pack(
            *pool[:5],
            pool.at.price.to_bytes(20, "big"),
            pool.at.tick,
            pool.at.liquidity.to_bytes(16, "big"),
            pool.balance0.to_bytes(32, "big", signed=True),
            pool.balance1.to_bytes(32, "big", signed=True),
            len(pool.ticks),
        )
        for number, (gross, net) in pool.ticks.items():
            page += _TICK.pack(
                number, gross.to_bytes(16, "big"), net.to_bytes(16, "big", signed=True)
            )
        if len(page) >= PAGE:
            yield bytes(page)
            page = bytearray()
    if page:
        yield bytes(page)


def decode(
    factory: Address, fees: Sequence[int], pages: Iterable[bytes]
) -> tuple[frozenset[Address], list[Pool]]:
    """Return the tokens a snapshot's venue was for, and its pools.

    Raises `InvariantError` when it is not one of this venue.
    """
    unread = iter(pages)
    first, expected = next(unread, b""), identity(factory, (), fees)
    tokens = first[len(expected) :]
    if not first.startswith(expected) or len(tokens) % 20:
        raise InvariantError("uniswap_v3", "the snapshot is of other fees or another format")
    try:
        pools = [pool for page in unread for pool in _pools(page)]
    except (struct.error, ValueError) as error:
        raise InvariantError("uniswap_v3", f"a page cannot be read ({error})") from error
    return frozenset(Address(tokens[at : at + 20]) for at in range(0, len(tokens), 20)), pools


def _pools(page: bytes) -> Iterator[Pool]:
    at = 0
    while at < len(page):
        address, token0, token1, fee, spacing, price, tick, liquidity, held0, held1, count = (
            _POOL.unpack_from(page, at)
        )
        at += _POOL.size
        end = at + count * _TICK.size
        ticks = {
            number: (int.from_bytes(gross, "big"), int.from_bytes(net, "big", signed=True))
            for number, gross, net in _TICK.iter_unpack(page[at:end])
        }
        if len(ticks) != count:
            raise ValueError("ticks are missing")
        at = end
        yield Pool(
            Address(address),
            Address(token0),
            Address(token1),
            fee,
            spacing,
            Point(int.from_bytes(price, "big"), tick, int.from_bytes(liquidity, "big")),
            int.from_bytes(held0, "big", signed=True),
            int.from_bytes(held1, "big", signed=True),
            ticks,
            sorted(ticks),
        )
