"""One pair: its reserves, what it gives for an amount, and how it is kept in a snapshot."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from keeper.errors import InvariantError
from keeper.types import Hop
from keeper.units import Address

PPM = 1_000_000
MOST = 2**112 - 1
"""The largest balance a pair can hold (UniswapV2Pair.sol: _update)."""
PAGE = 1 << 20
_PAIR = struct.Struct(">20s20s20s14s14s")


@dataclass(slots=True)
class Pair:
    """Two tokens, the lower address first, and the reserves a swap is computed from."""

    address: Address
    token0: Address
    token1: Address
    reserves: tuple[int, int] = (0, 0)


def amount_out_down(amount: int, reserve_in: int, reserve_out: int, fee: int) -> int:
    """Return what an exact input brings; 0 when the pair would refuse it.

    UniswapV2Library.sol: getAmountOut, with a fee in millionths: 3000 is its 997/1000 exactly, as
    2500 is the 9975/10000 of a fork.
    """
    if not (amount > 0 and reserve_in and reserve_out) or reserve_in + amount > MOST:
        return 0
    taken = amount * (PPM - fee)
    return taken * reserve_out // (reserve_in * PPM + taken)


class Trials:
    """Sales tried one after another; the pairs themselves are not touched."""

    def __init__(self, pairs: Mapping[Address, Pair], fee: int) -> None:
        self._pairs = pairs
        self._fee = fee
        self._moved: dict[Address, tuple[int, int]] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pair cannot fill it."""
        reserves = self._moved.get(hop.pool) or self._pairs[hop.pool].reserves
        if hop.token_in > hop.token_out:
            reserves = reserves[::-1]
        return amount_out_down(amount_in, *reserves, self._fee)

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output; a swap that cannot fill moves nothing."""
        out = self.quote(hop, amount_in)
        if out:
            reserve0, reserve1 = self._moved.get(hop.pool) or self._pairs[hop.pool].reserves
            if hop.token_in < hop.token_out:
                self._moved[hop.pool] = reserve0 + amount_in, reserve1 - out
            else:
                self._moved[hop.pool] = reserve0 - out, reserve1 + amount_in
        return out


def freeze(pairs: Iterable[Pair]) -> list[bytes]:
    """Return each pair as bytes of one width."""
    return [
        _PAIR.pack(
            pair.address,
            pair.token0,
            pair.token1,
            *(reserve.to_bytes(14, "big") for reserve in pair.reserves),
        )
        for pair in pairs
    ]


def encode(first: bytes, frozen: list[bytes]) -> Iterator[bytes]:
    """Yield the pages: what identifies the venue, then whole pairs, about a megabyte at a time."""
    yield first
    step = PAGE // _PAIR.size
    for at in range(0, len(frozen), step):
        yield b"".join(frozen[at : at + step])


def decode(expected: bytes, pages: Iterable[bytes]) -> tuple[frozenset[Address], list[Pair]]:
    """Return the tokens behind the identity of a snapshot's venue, and its pairs.

    Raises `InvariantError` when it is not one of this venue.
    """
    unread = iter(pages)
    first = next(unread, b"")
    tokens = first[len(expected) :]
    if not first.startswith(expected) or len(tokens) % 20:
        raise InvariantError("uniswap_v2", "the snapshot is of another exchange or format")
    try:
        pairs = [
            Pair(address, token0, token1, (int.from_bytes(held0), int.from_bytes(held1)))
            for page in unread
            for address, token0, token1, held0, held1 in _PAIR.iter_unpack(page)
        ]
    except struct.error as error:
        raise InvariantError("uniswap_v2", f"a page cannot be read ({error})") from error
    return frozenset(Address(tokens[at : at + 20]) for at in range(0, len(tokens), 20)), pairs
