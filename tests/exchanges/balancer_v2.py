"""Deploy the real Balancer V2 vault and weighted pools on the devnet and trade on them at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.types import Log
from keeper.units import Address
from keeper.venues.balancer_v2 import BalancerV2
from tests.exchanges.contracts import balancer_v2
from tests.uniswap import DirectRpc, logs_of

FAR_FUTURE = 2**40
MAX = 2**256 - 1
BUYER = Address(b"\xc0" * 20)
DAY = 86_400
JOIN = "joinPool(bytes32,address,address,(address[],uint256[],bytes,bool))"
EXIT = "exitPool(bytes32,address,address,(address[],uint256[],bytes,bool))"
SWAP = "swap((bytes32,uint8,address,address,uint256,bytes),(address,bool,address,bool),uint256,uint256)"
_POOL_TYPES = (
    "address",
    "string",
    "string",
    "address[]",
    "uint256[]",
    "address[]",
    "uint256",
    "uint256",
    "uint256",
    "address",
)


@dataclass(frozen=True, slots=True)
class Weighted:
    """A pool: its tokens' symbols in the vault's order."""

    address: Address
    number: bytes
    symbols: tuple[str, ...]


@dataclass(slots=True)
class Exchange:
    """A deployed vault and the pools opened so far."""

    net: Devnet
    vault: Address
    authorizer: Address
    pools: list[Weighted] = field(default_factory=list)

    def open(self, weights: dict[str, int], fee: int, usd: int, premium_bps: int = 0) -> Weighted:
        """Open a pool of percent weights, worth `usd` at the market's prices.

        With a premium the last of `weights` is that much more than its share.
        """
        net, prices, last = self.net, self.net.prices(), list(weights)[-1]
        symbols = tuple(sorted(weights, key=lambda symbol: net.tokens[symbol].address))
        tokens = [net.tokens[symbol].address for symbol in symbols]
        arguments = (
            self.vault,
            "pool",
            "POOL",
            tokens,
            [weights[symbol] * 10**16 for symbol in symbols],
            [bytes(20)] * len(tokens),
            fee,
            90 * DAY,
            30 * DAY,
            Cast.DEPLOYER,
        )
        address = Address(net.deploy(balancer_v2("WeightedPool") + encode(_POOL_TYPES, arguments)))
        number = net.call(address, "getPoolId()", [], ["bytes32"])
        amounts = []
        for symbol in symbols:
            share = usd * weights[symbol] * 10**8 * 10 ** net.tokens[symbol].decimals
            amount = share // prices[symbol] // 100
            amounts.append(amount * (10_000 + premium_bps * (symbol == last)) // 10_000)
            net.give(symbol, Cast.DEPLOYER, amounts[-1])
            self.approve(symbol, Cast.DEPLOYER)
        made = Weighted(address, number, symbols)
        self.join(Cast.DEPLOYER, made, encode(["uint256", "uint256[]"], [0, amounts]))
        self.pools.append(made)
        return made

    def join(self, who: bytes, pool: Weighted, data: bytes) -> list[Log]:
        """Put tokens into a pool; `data` says which, as the pool reads it."""
        tokens = [self.net.tokens[symbol].address for symbol in pool.symbols]
        request = (tokens, [MAX] * len(tokens), data, False)
        args = [pool.number, who, who, request]
        return logs_of(self.net.send(who, self.vault, JOIN, args, gas=3_000_000))

    def approve(self, symbol: str, holder: bytes) -> None:
        """Let the vault take a holder's tokens."""
        token = self.net.tokens[symbol].address
        self.net.send(holder, token, "approve(address,uint256)", [self.vault, 2**255])

    def permit(self, target: bytes, selector: bytes) -> None:
        """Let the deployer make a call that Balancer's governance guards."""
        action = self.net.call(target, "getActionId(bytes4)", [selector], ["bytes32"])
        args = [action, Cast.DEPLOYER]
        self.net.send(Cast.DEPLOYER, self.authorizer, "grantRole(bytes32,address)", args)

    def venue(self) -> BalancerV2:
        """Return the venue over all the devnet's tokens, not loaded."""
        tokens = [Address(token.address) for token in self.net.tokens.values()]
        addresses = [pool.address for pool in self.pools]
        return BalancerV2("balancer", self.vault, addresses, tokens, BUYER)

    async def loaded(self) -> BalancerV2:
        """Return the venue loaded at the present head."""
        venue, reader = self.venue(), ChainReader(DirectRpc(self.net))
        await venue.bootstrap(reader, await reader.head())
        return venue


def deploy_exchange(net: Devnet) -> Exchange:
    """Deploy authorizer and vault without a pool; half of every swap fee goes to the protocol."""
    admin = encode(["address"], [Cast.DEPLOYER])
    authorizer = Address(net.deploy(balancer_v2("Authorizer") + admin))
    arguments = [authorizer, net.tokens["WETH"].address, 90 * DAY, 30 * DAY]
    vault = net.deploy(
        balancer_v2("Vault") + encode(["address", "address", "uint256", "uint256"], arguments)
    )
    exchange = Exchange(net, Address(vault), authorizer)
    answer = net.call(vault, "getProtocolFeesCollector()", [], ["address"])
    collector = bytes.fromhex(answer[2:]) if isinstance(answer, str) else answer
    exchange.permit(collector, bytes.fromhex("38e9922e"))
    net.send(Cast.DEPLOYER, collector, "setSwapFeePercentage(uint256)", [5 * 10**17])
    return exchange


class Traders:
    """Random swaps, joins, exits and fee changes; counts what they did."""

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self.exchange = exchange
        self.net = exchange.net
        self.rng = random.Random(seed)
        self.account = self.net.users[seed % len(self.net.users)].address
        self.counts = {"swap": 0, "join": 0, "exit": 0, "fee": 0}
        for symbol in {symbol for pool in exchange.pools for symbol in pool.symbols}:
            self.net.give(symbol, self.account, 10**9 * 10 ** self.net.tokens[symbol].decimals)
            exchange.approve(symbol, self.account)

    def step(self) -> list[Log]:
        """Do one random thing and return its logs."""
        doing = self.rng.choice(["swap", "swap", "join", "exit", "fee"])
        logs: list[Log] = getattr(self, doing)(self.rng.choice(self.exchange.pools))
        self.counts[doing] += 1
        return logs

    def swap(self, pool: Weighted, ends: Sequence[str] = (), amount: int = 0) -> list[Log]:
        sold, bought = ends or self.rng.sample(pool.symbols, 2)
        tokens = [self.net.tokens[symbol].address for symbol in (sold, bought)]
        swap = (pool.number, 0, *tokens, amount or self.some(sold), b"")
        args = [swap, (self.account, False, self.account, False), 0, FAR_FUTURE]
        return logs_of(self.net.send(self.account, self.exchange.vault, SWAP, args))

    def join(self, pool: Weighted) -> list[Log]:
        amounts = [self.some(symbol) * self.rng.randrange(2) for symbol in pool.symbols]
        amounts[0] += 10**6
        data = encode(["uint256", "uint256[]", "uint256"], [1, amounts, 0])
        return self.exchange.join(self.account, pool, data)

    def exit(self, pool: Weighted) -> list[Log]:
        held = self.net.call(pool.address, "balanceOf(address)", [self.account])
        if not held:
            return []
        tokens = [self.net.tokens[symbol].address for symbol in pool.symbols]
        data = encode(["uint256", "uint256"], [1, self.rng.randrange(held) + 1])
        request = (tokens, [0] * len(tokens), data, False)
        args = [pool.number, self.account, self.account, request]
        return logs_of(self.net.send(self.account, self.exchange.vault, EXIT, args))

    def fee(self, pool: Weighted) -> list[Log]:
        args = [self.rng.randrange(10**14, 10**16)]
        sent = self.net.send(Cast.DEPLOYER, pool.address, "setSwapFeePercentage(uint256)", args)
        return logs_of(sent)

    def some(self, symbol: str) -> int:
        usd = 10 ** self.rng.uniform(0, 4.5)
        price = self.net.prices()[symbol]
        unit: int = 10 ** self.net.tokens[symbol].decimals
        return max(int(usd * 10**8) * unit // price, 1)
