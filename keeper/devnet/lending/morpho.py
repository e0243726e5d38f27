"""Morpho Blue: two markets that lend USDC."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import USD, account, draws
from keeper.devnet.morpho import Morpho, MorphoMarket, deploy_morpho
from keeper.devnet.operator import Operator
from keeper.devnet.toolchain import Progress
from keeper.units import WAD, to_hex

LENT_USD = 200_000_000
LLTV = 86 * 10**16
_COLLATERALS = ("WETH", "WBTC")
_PRICE_SCALE = 10**36
_CURSOR = 3 * WAD // 10
_MOST_INCENTIVE = 115 * WAD // 100
_MILLION = 1_000_000


class MorphoLending:
    """A deployment with its own oracles, which follow the chain's prices."""

    protocol: ClassVar[str] = "morpho-blue"
    contracts: ClassVar[str] = "Morpho Blue"

    def __init__(self, net: Devnet, morpho: Morpho, markets: Sequence[MorphoMarket]) -> None:
        self.market = "morpho"
        self._net = net
        self._morpho = morpho
        self._markets = markets
        self._places: dict[bytes, MorphoMarket] = {}

    @property
    def accounts(self) -> Sequence[bytes]:
        """Return who was opened."""
        return list(self._places)

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return Morpho with its markets, each with enough to borrow and to lend in flashes."""
        del operator
        morpho = deploy_morpho(net.chain, progress)
        markets = []
        for symbol in _COLLATERALS:
            market = morpho.market(net.tokens["USDC"], net.tokens[symbol], LLTV)
            morpho.set_price(market, market.quotient(net.price(symbol), net.price("USDC")))
            morpho.supply(market, LENT_USD * 10**market.loan.decimals)
            markets.append(market)
        return cls(net, morpho, markets)

    def table(self) -> str:
        """Return the deployment, valued by the chain's Aave oracle."""
        return f"""
[chains.devnet.markets.{self.market}]
protocol = "{self.protocol}"
morpho = "{to_hex(self._morpho.address)}"
prices = "{to_hex(self._net.market.oracle)}"
"""

    def open(self, count: int, seed: int) -> None:
        """Open borrowers of both markets in turn."""
        prices = self._net.prices()
        openings: list[list[tuple[bytes, int, int]]] = [[] for _ in self._markets]
        for number, (health, size) in enumerate(draws(count, seed)):
            turn = number % len(self._markets)
            market, who = self._markets[turn], account(self.protocol, number)
            held = size * USD * 10**market.collateral.decimals // prices[market.collateral.symbol]
            worth = held * market.quotient(prices[market.collateral.symbol], prices["USDC"])
            most = worth // _PRICE_SCALE * market.lltv // WAD
            openings[turn].append((who, held, most * _MILLION // round(health * _MILLION)))
            self._places[who] = market
        for market, opening in zip(self._markets, openings, strict=True):
            self._morpho.open(market, opening)

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Put what each market's oracle says at these prices."""
        del arbitrage_fee
        for market in self._markets:
            pair = prices[market.collateral.symbol], prices[market.loan.symbol]
            self._net.chain.put(self._morpho.quote(market, market.quotient(*pair)))

    def own_tokens(self) -> Sequence[bytes]:
        """Return none."""
        return ()

    def waiting(self) -> Sequence[bytes]:
        """Return none: whoever is under may be taken at once."""
        return ()

    def rewards(self) -> dict[bytes, int]:
        """Return the incentive on the debt of whom a market's own oracle takes under."""
        chain, address = self._net.chain, self._morpho.address
        calls = [
            (address, "position(bytes32,address)", [market.id, who])
            for who, market in self._places.items()
        ]
        words = chain.call_many(calls, ["uint256"] * 3, "latest")
        asked = [(address, "market(bytes32)", [market.id]) for market in self._markets]
        totals = chain.call_many(asked, ["uint256"] * 6, "latest")
        oracles: list[tuple[bytes, str, list[object]]] = [
            (market.oracle, "price()", []) for market in self._markets
        ]
        prices = chain.call_many(oracles, ["uint256"], "latest")
        terms = {
            market.id: (total[2], total[3], price)
            for market, total, price in zip(self._markets, totals, prices, strict=True)
        }
        found = {}
        for (who, market), (_, shares, held) in zip(self._places.items(), words, strict=True):
            assets, all_shares, price = terms[market.id]
            # Morpho._isHealthy: virtual shares and assets of SharesMathLib, rounded up
            debt = -(-shares * (assets + 1) // (all_shares + _MILLION))
            worth = held * price // _PRICE_SCALE
            if debt > worth * market.lltv // WAD:
                incentive = min(
                    _MOST_INCENTIVE, WAD * WAD // (WAD - _CURSOR * (WAD - market.lltv) // WAD)
                )
                repaid = min(debt, worth * WAD // incentive)
                gain = repaid * (incentive - WAD) // WAD
                found[who] = gain * USD // 10**market.loan.decimals
        return found
