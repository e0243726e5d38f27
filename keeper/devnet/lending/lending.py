"""What the story asks of a lending protocol."""

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self

from eth_hash.auto import keccak

from keeper.devnet.devnet import Devnet
from keeper.devnet.operator import Operator
from keeper.devnet.toolchain import Progress

HEALTH = (1.01, 1.18)
"""Healths at the start, such that the crash takes nearly all under, some at every step."""
SIZE_USD = (5_000, 100_000)
TINY_HEALTH = (1.01, 1.1)
TINY_USD = (20, 60)
"""Collateral of those who are worth no gas."""
USD = 10**8


class Lending(Protocol):
    """One lending protocol: its borrowers, its prices, and what its contracts say of both."""

    protocol: ClassVar[str]
    contracts: ClassVar[str]
    """What stands on the chain, in words."""
    market: str

    @property
    def accounts(self) -> Sequence[bytes]:
        """Return who was opened."""
        ...

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return it on a chain, without borrowers."""
        ...

    def table(self) -> str:
        """Return its part of the settings; empty where they have it."""
        ...

    def open(self, count: int, seed: int) -> None:
        """Open borrowers, the same for the same seed."""
        ...

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Put into the block what its own oracle reads (USD, 8 decimals), and what follows of it.

        `arbitrage_fee` decides where in the block its own exchange is brought along.
        """
        ...

    def own_tokens(self) -> Sequence[bytes]:
        """Return tokens that the chain's main market does not list."""
        ...

    def waiting(self) -> Sequence[bytes]:
        """Return liquidations that go on and of which time makes the price."""
        ...

    def rewards(self) -> dict[bytes, int]:
        """Return whom the contracts let anyone liquidate, and the most it brings (USD, 8 decimals)."""
        ...


def draws(count: int, seed: int, first: int = 0) -> list[tuple[float, int]]:
    """Return a health and a size in whole USD for each borrower, one in ten of them tiny."""
    draw = random.Random(f"{seed} {first}")
    tiny = count // 10
    return [
        (draw.uniform(*HEALTH), draw.randint(*SIZE_USD))
        if number < count - tiny
        else (draw.uniform(*TINY_HEALTH), draw.randint(*TINY_USD))
        for number in range(count)
    ]


def account(name: str, number: int) -> bytes:
    """Return an address that nobody else plays."""
    return keccak(f"{name} {number}".encode())[12:]
