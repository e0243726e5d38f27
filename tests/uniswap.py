"""Drive the devnet's Uniswap V3 and follow it with the venue, for tests."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet, Mined, Pool
from keeper.types import Hop, Log
from keeper.units import Address, Hash
from keeper.venues.uniswap_v3 import UniswapV3

FEES = (100, 500, 3000, 10_000)
SPACING = {100: 1, 500: 10, 3000: 60, 10_000: 200}
MINT = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
SELL = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
QUOTE = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
CREATE = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
FAR_FUTURE = 2**40
ANY = 2**128 - 1


class DirectRpc:
    """The devnet's connection as the keeper's port; the node answers in the loop's thread."""

    def __init__(self, net: Devnet) -> None:
        self._rpc = net.rpc

    async def request(self, method: str, params: Sequence[object]) -> Any:
        return self._rpc(method, *params)


def load_venue(net: Devnet) -> UniswapV3:
    """Return a venue over all the devnet's tokens, loaded at the present head."""
    tokens = [Address(token.address) for token in net.tokens.values()]
    venue = UniswapV3("uniswap", Address(net.uniswap.factory), tokens, FEES)
    source = ChainReader(DirectRpc(net))

    async def load() -> None:
        await venue.bootstrap(source, await source.head())

    asyncio.run(load())
    return venue


def pool_hop(venue: UniswapV3, address: Address, *, token0: bool) -> Hop:
    """Return the hop through a pool that sells its token0 or its token1."""
    pool = venue.pools[address]
    pair = (pool.token0, pool.token1)
    return Hop(venue.name, address, *(pair if token0 else pair[::-1]))


def ask_quoter(net: Devnet, swap: Hop, fee: int, amount: int) -> int:
    """Return what QuoterV2 says a swap brings; partial when the pool runs dry."""
    args = [(swap.token_in, swap.token_out, amount, fee, 0)]
    answer = net.call(net.uniswap.quoter, QUOTE, args, ["uint256", "uint160", "uint32", "uint256"])
    return int(answer[0])


def logs_of(mined: Mined) -> list[Log]:
    """Return a receipt's logs as the listener would give them."""
    return [
        Log(
            Address(_raw(log["address"])),
            tuple(_raw(topic) for topic in log["topics"]),
            _raw(log["data"]),
            int(log["blockNumber"], 16),
            Hash(_raw(log["blockHash"])),
            int(log["logIndex"], 16),
        )
        for log in mined.logs
    ]


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


class Traders:
    """Random swaps, mints, burns and collects on the real contracts; counts what succeeded."""

    def __init__(self, net: Devnet, seed: int) -> None:
        self.net = net
        self.rng = random.Random(seed)
        self.account = net.users[seed % len(net.users)].address
        self.positions: list[tuple[int, Pool]] = []
        self.counts = {"swap": 0, "mint": 0, "burn": 0, "collect": 0}
        self._symbols = {token.address: symbol for symbol, token in net.tokens.items()}
        self._decimals = {token.address: token.decimals for token in net.tokens.values()}
        self._approve()

    def step(self) -> list[Log]:
        """Do one random thing and return its logs."""
        doing = self.rng.choice(["swap", "swap", "mint", "burn", "collect"])
        if doing in {"burn", "collect"} and not self.positions:
            doing = "mint"
        logs = getattr(self, doing)()
        self.counts[doing] += 1
        return list(logs)

    def swap(self) -> list[Log]:
        pool = self.rng.choice(self.net.uniswap.pools)
        sold, bought = self.rng.sample([pool.token0, pool.token1], 2)
        amount = self._some(sold)
        args = [(sold, bought, pool.fee, self.account, FAR_FUTURE, amount, 0, 0)]
        return logs_of(self.net.send(self.account, self.net.uniswap.router, SELL, args))

    def mint(self) -> list[Log]:
        pool = self.rng.choice(self.net.uniswap.pools)
        tick = self.net.call(pool.address, "slot0()", [], ["uint160", "int24"] + ["uint16"] * 5)[1]
        spacing = SPACING[pool.fee]
        here = tick // spacing
        low = here + self.rng.randint(-60, 40)
        high = low + self.rng.randint(1, 60)
        entry = (
            pool.token0,
            pool.token1,
            pool.fee,
            low * spacing,
            high * spacing,
            self._some(pool.token0),
            self._some(pool.token1),
            0,
            0,
            self.account,
            FAR_FUTURE,
        )
        manager = self.net.uniswap.position_manager
        logs = logs_of(self.net.send(self.account, manager, MINT, [entry]))
        minted = next(log for log in logs if log.address == manager)
        self.positions.append((int.from_bytes(minted.topics[-1], "big"), pool))
        return logs

    def burn(self) -> list[Log]:
        number, _ = self.rng.choice(self.positions)
        manager = self.net.uniswap.position_manager
        held = self.net.call(
            manager,
            "positions(uint256)",
            [number],
            ["uint96", "address", "address", "address", "uint24", "int24", "int24", "uint128"],
        )[7]
        amount = held if self.rng.random() < 0.5 else held // 2
        if amount == 0:
            return []
        signature = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"
        args = [(number, amount, 0, 0, FAR_FUTURE)]
        return logs_of(self.net.send(self.account, manager, signature, args))

    def collect(self) -> list[Log]:
        number, _ = self.rng.choice(self.positions)
        signature = "collect((uint256,address,uint128,uint128))"
        args = [(number, self.account, ANY, ANY)]
        return logs_of(
            self.net.send(self.account, self.net.uniswap.position_manager, signature, args)
        )

    def _some(self, token: bytes) -> int:
        usd = 10 ** self.rng.uniform(1, 6.5)
        price = self.net.prices()[self._symbols[token]]
        return int(max(int(usd * 10**8) * 10 ** self._decimals[token] // price, 1))

    def create(self, a: str, b: str, fee: int) -> list[Log]:
        """Create and initialise a pool at an even price and give it a first position."""
        token0, token1 = sorted(self.net.tokens[symbol].address for symbol in (a, b))
        manager = self.net.uniswap.position_manager
        args = [token0, token1, fee, 2**96]
        logs = logs_of(self.net.send(self.account, manager, CREATE, args, gas=8_000_000))
        width = 40 * SPACING[fee]
        entry = (token0, token1, fee, -width, width, 10**12, 10**12, 0, 0)
        args = [(*entry, self.account, FAR_FUTURE)]
        return logs + logs_of(self.net.send(self.account, manager, MINT, args))

    def _approve(self) -> None:
        for symbol, token in self.net.tokens.items():
            self.net.give(symbol, self.account, 10**9 * 10**token.decimals)
            for spender in (self.net.uniswap.router, self.net.uniswap.position_manager):
                self.net.send(
                    self.account, token.address, "approve(address,uint256)", [spender, 2**255]
                )
