"""Pools that stand in for Curve's on the devnet; they say so in their names, and prove nothing of Curve."""

import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.types import Log
from keeper.units import Address
from keeper.venues.curve import Curve
from keeper.venues.curve.venue import EXCHANGE_CRYPTO, EXCHANGE_STABLE
from tests.uniswap import DirectRpc, logs_of

BUYER = Address(b"\xc0" * 20)
FOLDER = Path(__file__).with_name("stand_ins")
MILLION = 10**6


@cache
def stand_in(name: str) -> bytes:
    """Return the creation code of a stand-in."""
    import vyper  # type: ignore[import-untyped]

    source = (FOLDER / f"{name}.vy").read_text()
    output = vyper.compile_code(source, output_formats=["bytecode"])
    return bytes.fromhex(output["bytecode"].removeprefix("0x"))


@dataclass(slots=True)
class Exchange:
    """Stand-in pools by address, with their coins' symbols."""

    net: Devnet
    stable: dict[Address, tuple[str, ...]] = field(default_factory=dict)
    crypto: dict[Address, tuple[str, ...]] = field(default_factory=dict)

    def open_stable(self, symbols: tuple[str, str, str], usd: int = MILLION) -> Address:
        """Open a pool of three coins with as much of each as is worth `usd`."""
        tokens = [self.net.tokens[symbol] for symbol in symbols]
        # Every coin counts the same in it: unlike ones are lifted by their price, for the test's sake.
        rates = [10 ** (36 - token.decimals) for token in tokens]
        arguments = ([token.address for token in tokens], rates, 40_000, 1_500_000, 5 * 10**9)
        types = ["address[3]", "uint256[3]", "uint256", "uint256", "uint256"]
        made = self.net.deploy(stand_in("stable_swap_stand_in") + encode(types, arguments))
        pool = Address(made)
        self._fund(pool, "fund(uint256[3])", symbols, [usd * 10**t.decimals for t in tokens])
        self.stable[pool] = symbols
        return pool

    def open_crypto(self, symbols: tuple[str, str], usd: int = MILLION, bps: int = 0) -> Address:
        """Open a pool of two coins at the market's prices, the second `bps` dearer in the first."""
        tokens, prices = [self.net.tokens[symbol] for symbol in symbols], self.net.prices()
        amounts = [
            usd * 10**8 * 10**token.decimals // prices[symbol]
            for symbol, token in zip(symbols, tokens, strict=True)
        ]
        units = [10 ** (18 - token.decimals) for token in tokens]
        first, second = (prices[symbol] for symbol in symbols)
        price = 10**18 * second * (10_000 + bps) // first // 10_000
        d = 2 * amounts[0] * units[0]
        types = ["address[2]", "uint256[2]", "uint256", "uint256"]
        arguments = ([token.address for token in tokens], units, price, d)
        pool = Address(self.net.deploy(stand_in("crypto_swap_stand_in") + encode(types, arguments)))
        self._fund(pool, "fund(uint256[2])", symbols, amounts)
        self.crypto[pool] = symbols
        return pool

    def venue(self) -> Curve:
        """Return the venue over all the devnet's tokens, not loaded."""
        tokens = [Address(token.address) for token in self.net.tokens.values()]
        named = dict.fromkeys(self.stable, EXCHANGE_STABLE)
        return Curve("curve", named | dict.fromkeys(self.crypto, EXCHANGE_CRYPTO), tokens, BUYER)

    async def loaded(self) -> Curve:
        """Return the venue loaded at the present head."""
        venue, reader = self.venue(), ChainReader(DirectRpc(self.net))
        await venue.bootstrap(reader, await reader.head())
        return venue

    def exchange(self, pool: Address, sold: int, bought: int, amount: int) -> list[Log]:
        """Sell on a pool, coins by index."""
        kind = "int128" if pool in self.stable else "uint256"
        symbols: Any = self.stable.get(pool) or self.crypto[pool]
        self.net.give(symbols[sold], Cast.DEPLOYER, amount)
        self._approve(symbols[sold], pool)
        call = f"exchange({kind},{kind},uint256,uint256)"
        return logs_of(self.net.send(Cast.DEPLOYER, pool, call, [sold, bought, amount, 0]))

    def _fund(self, pool: Address, call: str, symbols: tuple[str, ...], amounts: list[int]) -> None:
        for symbol, amount in zip(symbols, amounts, strict=True):
            self.net.give(symbol, Cast.DEPLOYER, amount)
            self._approve(symbol, pool)
        self.net.send(Cast.DEPLOYER, pool, call, [amounts])

    def _approve(self, symbol: str, pool: Address) -> None:
        token = self.net.tokens[symbol].address
        self.net.send(Cast.DEPLOYER, token, "approve(address,uint256)", [pool, 2**255])


def some_trade(rng: random.Random, held: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a random sale: coins by index, and an amount."""
    sold, bought = rng.sample(range(len(held)), 2)
    return sold, bought, max(int(held[sold] * 10 ** rng.uniform(-6, -0.5)), 1)
