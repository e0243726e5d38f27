"""The demo's story: a crowd of borrowers, and a crash in steps that most of them do not survive."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeper.devnet.devnet import Devnet
from keeper.units import WAD

CRASH = ("WETH", "WBTC")
STEPS = (9_700, 9_600, 9_500, 9_600, 9_700)
"""What each step leaves of a price, in basis points: 17.6 % lost over five blocks."""
_BPS = 10_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """The borrowers of the story; `tiny` are too small to be worth any gas."""

    borrowers: tuple[bytes, ...]
    tiny: tuple[bytes, ...]

    @property
    def all(self) -> tuple[bytes, ...]:
        """Return everyone."""
        return (*self.borrowers, *self.tiny)


def gather(net: Devnet, count: int, seed: int) -> Crowd:
    """Open `count` borrowers of several kinds, one in ten of them tiny, from a seed.

    Their health is such that the crash takes nearly all of them under, some at every step.
    """
    draw = random.Random(seed)
    tiny = count // 10
    rest = count - tiny
    wide = rest // 5
    bitcoin = rest // 5
    plain = rest - wide - bitcoin
    health = (1.01, 1.18)
    opened = [
        *net.borrowers(plain, health=health, seed=draw.getrandbits(32)),
        *net.borrowers(
            bitcoin, collateral="WBTC", debt="USDC", health=health, seed=draw.getrandbits(32)
        ),
        *net.borrowers(wide, kind="five", health=health, seed=draw.getrandbits(32)),
    ]
    small = net.borrowers(tiny, health=(1.01, 1.1), size_usd=(20, 60), seed=draw.getrandbits(32))
    return Crowd(tuple(opened), tuple(small))


def crash(net: Devnet) -> Iterator[dict[str, int]]:
    """Move the prices one step per block, pools included; yield the new prices after each."""
    prices = net.prices()
    for step in STEPS:
        prices = {symbol: prices[symbol] * step // _BPS for symbol in CRASH}
        net.set_prices(prices)
        yield prices


def underwater(net: Devnet, borrowers: Sequence[bytes]) -> set[bytes]:
    """Return the borrowers the protocol itself would let anyone liquidate at the latest block."""
    calls = [(net.market.pool, "getUserAccountData(address)", [who]) for who in borrowers]
    answers = net.chain.call_many(calls, ["uint256"] * 6, "latest")
    return {who for who, data in zip(borrowers, answers, strict=True) if data[5] < WAD}
