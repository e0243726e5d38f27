"""Venus' core pool, of the Compound V2 family: loans of USDC against the coin and Bitcoin."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from keeper.devnet.chain import Transaction
from keeper.devnet.deploy_tokens import mint
from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import USD, account, draws
from keeper.devnet.operator import Operator
from keeper.devnet.toolchain import Progress
from keeper.devnet.venus import LISTINGS, Venus, deploy_venus
from keeper.units import BPS, to_hex

CASH_USD = 150_000_000
_COLLATERALS = ("WETH", "WBTC")
_DEBT = "USDC"
_THRESHOLDS = {symbol: threshold for symbol, _, threshold in LISTINGS}
_LIFT_PERCENT = 125
"""Where collateral stands while the crowd borrows: loans go up to a lower factor than the threshold."""
_AT_ONCE = 240
_MILLION = 1_000_000


class VenusLending:
    """The core pool, liquidated through Venus' own contract."""

    protocol: ClassVar[str] = "compound-v2"
    contracts: ClassVar[str] = "Venus"

    def __init__(self, net: Devnet, venus: Venus) -> None:
        self.market = "venus"
        self.accounts: Sequence[bytes] = ()
        self._net = net
        self._venus = venus

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return the pool on the chain's Aave prices."""
        del operator
        return cls(net, deploy_venus(net.chain, net.market, progress, cash_usd=CASH_USD))

    def table(self) -> str:
        """Return the pool, and where the wrapped coin becomes the coin."""
        wrapped = to_hex(self._net.tokens[self._venus.native].address)
        return f"""
[chains.devnet.markets.{self.market}]
protocol = "{self.protocol}"
comptroller = "{to_hex(self._venus.comptroller)}"
wrapped_native = "{wrapped}"

[chains.devnet.venues.wrapped]
venue = "wrapped-native"
wrapped = "{wrapped}"
"""

    def open(self, count: int, seed: int) -> None:
        """Open borrowers against each collateral in turn."""
        net, venus = self._net, self._venus
        prices, grants, supplies, loans = net.prices(), [], [], []
        accounts = []
        for number, (health, size) in enumerate(draws(count, seed)):
            symbol, who = _COLLATERALS[number % len(_COLLATERALS)], account(self.protocol, number)
            token, debt = net.tokens[symbol], net.tokens[_DEBT]
            amount = size * USD * 10**token.decimals // prices[symbol]
            if symbol != venus.native:
                grants.append((token.address, who, amount))
            supplies += venus.supply(who, symbol, amount)
            backed = size * _THRESHOLDS[symbol] * 10**debt.decimals * USD // (BPS * prices[_DEBT])
            loans.append(venus.borrow(who, _DEBT, backed * _MILLION // round(health * _MILLION)))
            accounts.append(who)
        if grants:
            mint(net.chain, venus.owner, net.tokens["WETH"].address, grants)
        self._send(supplies)
        with self._lifted(prices):
            self._send(loans)
        self.accounts = accounts

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Do nothing: the pool reads the chain's Aave oracle."""

    def own_tokens(self) -> Sequence[bytes]:
        """Return none."""
        return ()

    def waiting(self) -> Sequence[bytes]:
        """Return none: whoever is under may be taken at once."""
        return ()

    def rewards(self) -> dict[bytes, int]:
        """Return the bonus on half the debt, for whom the comptroller says there is a shortfall."""
        liquidities = self._venus.liquidities(self.accounts)
        short = [who for who, each in zip(self.accounts, liquidities, strict=True) if each[1]]
        chain, vtoken = self._net.chain, self._venus.vtokens[_DEBT]
        owed = chain.call_many(
            [(vtoken, "borrowBalanceStored(address)", [who]) for who in short],
            ["uint256"],
            "latest",
        )
        unit, price = 10 ** self._net.tokens[_DEBT].decimals, self._net.price(_DEBT)
        # half of the debt, a tenth of that, and half of the bonus is Venus' own
        return {who: amount * price // unit // 40 for who, amount in zip(short, owed, strict=True)}

    @contextmanager
    def _lifted(self, prices: Mapping[str, int]) -> Iterator[None]:
        """Let collateral stand higher while the body runs."""
        for symbol in _COLLATERALS:
            decimals = self._net.tokens[symbol].decimals
            lifted = prices[symbol] * _LIFT_PERCENT * 10 ** (28 - decimals) // 100
            self._venus.fix_price(symbol, lifted)
        try:
            yield
        finally:
            for symbol in _COLLATERALS:
                self._venus.fix_price(symbol, None)

    def _send(self, transactions: Sequence[Transaction]) -> None:
        for start in range(0, len(transactions), _AT_ONCE):
            self._net.chain.send_all(transactions[start : start + _AT_ONCE])
