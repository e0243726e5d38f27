"""Deploy the real Uniswap V2 on the devnet and trade on it at random."""

import random
from dataclasses import dataclass

from eth_abi.abi import encode

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.types import Log
from keeper.units import Address
from keeper.venues.uniswap_v2 import UniswapV2
from tests.exchanges.contracts import uniswap_v2
from tests.uniswap import DirectRpc, logs_of

FAR_FUTURE = 2**40
BUYER = Address(b"\xc0" * 20)
ADD = "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)"
REMOVE = "removeLiquidity(address,address,uint256,uint256,uint256,address,uint256)"
SELL = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A deployed factory and router, and the pairs opened so far by their symbols."""

    net: Devnet
    factory: Address
    router: Address

    def open(self, a: str, b: str, usd: int, premium_bps: int = 0) -> Address:
        """Open a pair at the market's prices with `usd` of each token; return its address.

        With a premium the pair pays so much more of the second token for the first.
        """
        net, prices = self.net, self.net.prices()
        amounts = []
        for symbol, bps in ((a, 10_000), (b, 10_000 + premium_bps)):
            token = net.tokens[symbol]
            amount = usd * 10**8 * 10**token.decimals * bps // prices[symbol] // 10_000
            net.give(symbol, Cast.DEPLOYER, amount)
            self.approve(symbol, Cast.DEPLOYER)
            amounts.append(amount)
        ends = [net.tokens[a].address, net.tokens[b].address]
        args = [*ends, *amounts, 0, 0, Cast.DEPLOYER, FAR_FUTURE]
        net.send(Cast.DEPLOYER, self.router, ADD, args, gas=8_000_000)
        return self.pair(*ends)

    def pair(self, a: bytes, b: bytes) -> Address:
        """Return the pair of two tokens."""
        answer = self.net.call(self.factory, "getPair(address,address)", [a, b], ["address"])
        return Address(bytes.fromhex(answer[2:]) if isinstance(answer, str) else answer)

    def approve(self, symbol: str, holder: bytes) -> None:
        """Let the router take a holder's tokens."""
        token = self.net.tokens[symbol].address
        self.net.send(holder, token, "approve(address,uint256)", [self.router, 2**255])

    def venue(self) -> UniswapV2:
        """Return the venue over all the devnet's tokens, not loaded."""
        tokens = [Address(token.address) for token in self.net.tokens.values()]
        return UniswapV2("sushi", self.factory, self.router, tokens, BUYER)

    async def loaded(self) -> UniswapV2:
        """Return the venue loaded at the present head."""
        venue, reader = self.venue(), ChainReader(DirectRpc(self.net))
        await venue.bootstrap(reader, await reader.head())
        return venue


def deploy_exchange(net: Devnet) -> Exchange:
    """Deploy factory and router without a pair."""
    setter = encode(["address"], [Cast.DEPLOYER])
    factory = net.deploy(uniswap_v2("UniswapV2Factory") + setter)
    both = encode(["address", "address"], [factory, net.tokens["WETH"].address])
    router = net.deploy(uniswap_v2("UniswapV2Router02") + both)
    return Exchange(net, Address(factory), Address(router))


class Traders:
    """Random swaps, deposits, withdrawals and gifts in a set of pairs; counts what they did."""

    def __init__(self, exchange: Exchange, pairs: list[tuple[str, str]], seed: int) -> None:
        self.exchange = exchange
        self.net = exchange.net
        self.pairs = pairs
        self.rng = random.Random(seed)
        self.account = self.net.users[seed % len(self.net.users)].address
        self.counts = {"swap": 0, "add": 0, "remove": 0, "gift": 0}
        for symbol in {symbol for pair in pairs for symbol in pair}:
            self.net.give(symbol, self.account, 10**9 * 10 ** self.net.tokens[symbol].decimals)
            exchange.approve(symbol, self.account)

    def step(self) -> list[Log]:
        """Do one random thing and return its logs."""
        doing = self.rng.choice(["swap", "swap", "swap", "add", "remove", "gift"])
        pair = self.rng.choice(self.pairs)
        logs: list[Log] = getattr(self, doing)(*self.rng.sample(pair, 2))
        self.counts[doing] += 1
        return logs

    def swap(self, sold: str, bought: str) -> list[Log]:
        path = [self.net.tokens[symbol].address for symbol in (sold, bought)]
        args = [self.some(sold), 0, path, self.account, FAR_FUTURE]
        return logs_of(self.net.send(self.account, self.exchange.router, SELL, args))

    def add(self, a: str, b: str) -> list[Log]:
        ends = [self.net.tokens[symbol].address for symbol in (a, b)]
        args = [*ends, self.some(a), self.some(b), 0, 0, self.account, FAR_FUTURE]
        return logs_of(self.net.send(self.account, self.exchange.router, ADD, args))

    def remove(self, a: str, b: str) -> list[Log]:
        ends = [self.net.tokens[symbol].address for symbol in (a, b)]
        shares = self.exchange.pair(*ends)
        held = self.net.call(shares, "balanceOf(address)", [self.account])
        if held < 2:
            return []
        self.net.send(
            self.account, shares, "approve(address,uint256)", [self.exchange.router, held]
        )
        args = [*ends, self.rng.randrange(1, held), 0, 0, self.account, FAR_FUTURE]
        return logs_of(self.net.send(self.account, self.exchange.router, REMOVE, args))

    def gift(self, a: str, b: str) -> list[Log]:
        """Give a pair tokens and have it take note, or give them back."""
        token, other = (self.net.tokens[symbol].address for symbol in (a, b))
        pair = self.exchange.pair(token, other)
        self.net.send(self.account, token, "transfer(address,uint256)", [pair, self.some(a)])
        if self.rng.random() < 0.5:
            return logs_of(self.net.send(self.account, pair, "sync()"))
        return logs_of(self.net.send(self.account, pair, "skim(address)", [self.account]))

    def some(self, symbol: str) -> int:
        usd: float = 10 ** self.rng.uniform(0, 6)
        price = self.net.prices()[symbol]
        unit: int = 10 ** self.net.tokens[symbol].decimals
        return max(int(usd * 10**8) * unit // price, 1)
