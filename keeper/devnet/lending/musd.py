"""Mezo's mUSD, of the Liquity V1 family: troves of the coin, and an exchange of mUSD for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import ClassVar, Self

from keeper.devnet.arbitrage import put_arbitrage
from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import HEALTH, USD, account, draws
from keeper.devnet.model import Pool, Token
from keeper.devnet.musd import Musd, deploy_musd
from keeper.devnet.operator import Operator
from keeper.devnet.toolchain import Progress
from keeper.units import MAX_UINT256, WAD, to_hex

FEE = 500
_MINT = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
_CREATE = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
_WIDEST = 887_270
_FAR_FUTURE = 2**40
_POOL_USD = 4_000_000
_LEAST_DEBT = 1_900
"""Whole mUSD: the system lends no less than 1,800."""
_RESERVE = 200
"""What a trove owes beside its debt, and pays whoever liquidates it."""
_SHARE = 200
"""The part of a trove's coins that pays whoever liquidates it."""
_AT_ONCE = 60
"""Troves that are opened while one answer of the feed is good."""
_TO_WAD = WAD // USD
_OPEN = 1


class MusdLending:
    """The system, a large lasting trove, and a pool that buys what liquidations bring."""

    protocol: ClassVar[str] = "liquity-v1"
    contracts: ClassVar[str] = "mUSD"

    def __init__(self, net: Devnet, musd: Musd) -> None:
        self.market = "musd"
        self.accounts: Sequence[bytes] = ()
        self._net = net
        self._musd = musd
        self._whale = account("mUSD whale", 0)
        weth = net.tokens["WETH"]
        self._tokens = {
            weth.address: weth,
            musd.token: replace(weth, symbol="mUSD", address=musd.token, decimals=18),
        }
        self._pool: Pool | None = None

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return the system at the chain's price of the coin."""
        del operator
        return cls(net, deploy_musd(net.chain, net.price("WETH") * _TO_WAD, progress))

    @property
    def token(self) -> Token:
        """Return mUSD as exchanges know it."""
        return self._tokens[self._musd.token]

    def table(self) -> str:
        """Return the system."""
        return f"""
[chains.devnet.markets.{self.market}]
protocol = "{self.protocol}"
trove_manager = "{to_hex(self._musd.manager)}"
wrapped = "{to_hex(self._net.tokens["WETH"].address)}"
"""

    def open(self, count: int, seed: int) -> None:
        """Open troves, the safest first, so that each has its place behind the one before."""
        price = self._net.price("WETH") * _TO_WAD
        drawn = [
            (health, max(size // 2, _LEAST_DEBT), account(self.protocol, number))
            for number, (health, size) in enumerate(draws(count, seed))
        ]
        total = sum(debt + _RESERVE for _, debt, _ in drawn)
        self._open_whale(total, price)
        above, openings = self._whale, []
        for health, debt, who in sorted(drawn, reverse=True):
            ratio = 1.1 * max(health, HEALTH[0])
            # the fee of a thousandth is owed too
            owed = debt * WAD * 1001 // 1000 + _RESERVE * WAD
            coins = owed * round(ratio * WAD) // price + 1
            openings.append(self._musd.opening(who, coins, debt * WAD, above))
            above = who
        for start in range(0, len(openings), _AT_ONCE):
            self._musd.set_price(price)
            self._net.chain.send_all(openings[start : start + _AT_ONCE])
        self.accounts = [who for *_, who in drawn]

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Put the coin's price, which is good for a minute, and what a trader makes of it."""
        self._net.chain.put(self._musd.price(prices["WETH"] * _TO_WAD))
        if self._pool is not None:
            known = {**prices, "mUSD": USD}
            router, pools = self._net.uniswap.router, (self._pool,)
            put_arbitrage(
                self._net.chain, router, self._whale, pools, self._tokens, known, arbitrage_fee
            )

    def own_tokens(self) -> Sequence[bytes]:
        """Return mUSD."""
        return (self._musd.token,)

    def waiting(self) -> Sequence[bytes]:
        """Return none: whoever is under may be taken at once."""
        return ()

    def rewards(self) -> dict[bytes, int]:
        """Return the reserve and the share of the coins, for troves under their ratio."""
        chain, manager = self._net.chain, self._musd.manager
        coin = chain.call(self._musd["PriceFeed"], "fetchPrice()")
        least = chain.call(manager, "MCR()")
        status = chain.call_many(
            [(manager, "getTroveStatus(address)", [who]) for who in self.accounts],
            ["uint8"],
            "latest",
        )
        running = [who for who, each in zip(self.accounts, status, strict=True) if each == _OPEN]
        ratios = chain.call_many(
            [(manager, "getCurrentICR(address,uint256)", [who, coin]) for who in running],
            ["uint256"],
            "latest",
        )
        under = [who for who, ratio in zip(running, ratios, strict=True) if ratio < least]
        held = chain.call_many(
            [(manager, "getEntireDebtAndColl(address)", [who]) for who in under],
            ["uint256"] * 6,
            "latest",
        )
        return {
            who: (_RESERVE * WAD + coins // _SHARE * coin // WAD) // _TO_WAD
            for who, (coins, *_) in zip(under, held, strict=True)
        }

    def _open_whale(self, crowd: int, price: int) -> None:
        """Open a trove that pays for the exchange and for the stability pool's deposits."""
        net, whale, pool = self._net, self._whale, _POOL_USD
        deposit = crowd * 11 // 10
        debt = deposit + 2 * pool
        net.rpc("anvil_setBalance", to_hex(whale), hex(debt * 6 * WAD * WAD // price + 10**24))
        self._musd.set_price(price)
        opening = self._musd.opening(whale, debt * 4 * WAD * WAD // price, debt * WAD)
        net.chain.send_all([opening])
        self._musd.deposit(whale, deposit * WAD)
        self._pool = self._make_pool(pool, price)

    def _make_pool(self, depth: int, price: int) -> Pool:
        net, whale, manager = self._net, self._whale, self._net.uniswap.position_manager
        weth = net.tokens["WETH"].address
        amounts = {self._musd.token: depth * WAD, weth: depth * WAD * WAD // price}
        net.send(whale, weth, "deposit()", value=2 * amounts[weth])
        for token in amounts:
            for spender in (manager, net.uniswap.router):
                net.send(whale, token, "approve(address,uint256)", [spender, MAX_UINT256])
        first, second = sorted(amounts)
        worth = {self._musd.token: WAD, weth: price}
        root = isqrt((worth[first] << 192) // worth[second])
        net.send(whale, manager, _CREATE, [first, second, FEE, root], gas=8_000_000)
        sides = (amounts[first], amounts[second])
        entry = (first, second, FEE, -_WIDEST, _WIDEST, *sides, 0, 0, whale, _FAR_FUTURE)
        net.send(whale, manager, _MINT, [entry], gas=8_000_000)
        pool = net.call(
            net.uniswap.factory,
            "getPool(address,address,uint24)",
            [first, second, FEE],
            ["address"],
        )
        return Pool(bytes.fromhex(pool[2:]), first, second, FEE)
