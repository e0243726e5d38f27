"""Maker's auctions, as stand-ins that say so: they follow the formulas, and prove nothing of Maker."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import USD, account, draws
from keeper.devnet.maker import Maker, deploy_maker
from keeper.devnet.operator import Operator
from keeper.devnet.prices import POST_FEE
from keeper.devnet.toolchain import Progress
from keeper.units import RAY, WAD

MOST_URNS = 60
"""How many auctions the story runs at once."""
_LEAST_USD = 12_000
"""Whole USD of collateral whose debt is over the vat's dust."""
_RATIO = 15, 10
"""Of collateral to debt, below which an urn's auction may be started."""
_PENALTY = 113, 100
_MILLION = 1_000_000
_TO_RAY = RAY // USD
_RAD_TO_USD = WAD * RAY // USD


class MakerLending:
    """Urns of the coin: the keeper starts their auctions, and takes them as their prices fall.

    Both are positions to it, an auction under a name of its own.
    """

    protocol: ClassVar[str] = "maker-clip"
    contracts: ClassVar[str] = "a stand-in for Maker's auctions"

    def __init__(self, net: Devnet, maker: Maker) -> None:
        self.market = "maker"
        self._net = net
        self._maker = maker
        self._urns: list[bytes] = []
        self._told = 0

    @property
    def accounts(self) -> Sequence[bytes]:
        """Return who was opened; a keeper names the auctions instead."""
        return self._urns

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return the stand-ins at the chain's price of the coin, with a stock of dollars."""
        del operator, progress
        return cls(net, deploy_maker(net, net.price("WETH") * _TO_RAY))

    def table(self) -> str:
        """Return the auctions, called through their auctioneer."""
        return self._maker.table(self.market, survival_percent=50, slippage_bps=150)

    def open(self, count: int, seed: int) -> None:
        """Open urns, as many as auctions can run at once."""
        price, urns = self._net.price("WETH"), {}
        for number, (health, size) in enumerate(draws(min(count, MOST_URNS), seed)):
            held = max(size, _LEAST_USD) * USD * WAD // price
            most = held * price // USD * _RATIO[1] // _RATIO[0]
            owed = most * _MILLION // round(health * _MILLION)
            urns[account(self.protocol, number)] = (held, owed)
        self._maker.open_urns(urns)
        self._urns = list(urns)

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Put the oracle's price."""
        del arbitrage_fee
        price = prices["WETH"] * _TO_RAY
        if price != self._told:
            self._told, clip = price, self._maker.clip
            poke = calldata("poke(uint256)", [price])
            self._net.chain.put(Transaction(Cast.DEPLOYER, clip, poke, max_fee=POST_FEE))

    def rewards(self) -> dict[bytes, int]:
        """Return what starting an auction pays, and what a lot is worth above its price by the feed."""
        maker, price, numbers = self._maker, self._net.price("WETH"), self._maker.running()
        found = {}
        for number, (_, asked, lot, tab) in zip(numbers, maker.statuses(numbers), strict=True):
            owed = min(tab, lot * asked)
            gain = owed // asked * price // WAD - owed // _RAD_TO_USD
            found[maker.name_of(number)] = max(gain, 0)
        tip, chip = (self._net.call(maker.clip, name) for name in ("tip()", "chip()"))
        for urn, (held, owed) in zip(self._urns, maker.urns(self._urns), strict=True):
            if held * price * _RATIO[1] < owed * USD * _RATIO[0]:
                tab = owed * RAY * _PENALTY[0] // _PENALTY[1]
                found[urn] = (tip + tab * chip // WAD) // _RAD_TO_USD
        return found

    def own_tokens(self) -> Sequence[bytes]:
        """Return none."""
        return ()

    def waiting(self) -> Sequence[bytes]:
        """Return the auctions that run, at whatever price."""
        return [self._maker.name_of(number) for number in self._maker.running()]
