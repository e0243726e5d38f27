"""Aave v3.6, the market that every other one here takes its prices from."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from keeper.devnet.devnet import Devnet
from keeper.devnet.operator import Operator
from keeper.devnet.scenario import gather
from keeper.devnet.toolchain import Progress
from keeper.units import BPS, WAD

_RESERVE = "getReserveConfigurationData(address)"
_DATA = "getUserAccountData(address)"
_BONUS = 3


class AaveLending:
    """The local chain's main market."""

    protocol: ClassVar[str] = "aave-v3"
    contracts: ClassVar[str] = "Aave v3.6"

    def __init__(self, net: Devnet, bonus: int) -> None:
        self.market = "aave"
        self.accounts: Sequence[bytes] = ()
        self._net = net
        self._bonus = bonus

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return the market, which is there already."""
        del operator, progress
        assets = [net.tokens[symbol].address for symbol in ("WETH", "wstETH", "WBTC")]
        words = net.chain.call_many(
            [(net.market.data_provider, _RESERVE, [asset]) for asset in assets],
            ["uint256"] * 5 + ["bool"] * 5,
            "latest",
        )
        return cls(net, max(each[_BONUS] for each in words))

    def table(self) -> str:
        """Return nothing: every settings file here has it."""
        return ""

    def open(self, count: int, seed: int) -> None:
        """Open borrowers of several kinds."""
        self.accounts = gather(self._net, count, seed).all

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Do nothing: its prices are those that move."""

    def own_tokens(self) -> Sequence[bytes]:
        """Return none."""
        return ()

    def waiting(self) -> Sequence[bytes]:
        """Return none: whoever is under may be taken at once."""
        return ()

    def rewards(self) -> dict[bytes, int]:
        """Return the highest bonus on what can be repaid, for whom Aave calls unhealthy."""
        calls = [(self._net.market.pool, _DATA, [who]) for who in self.accounts]
        found = {}
        words = self._net.chain.call_many(calls, ["uint256"] * 6, "latest")
        for who, (collateral, debt, *_, health) in zip(self.accounts, words, strict=True):
            if health < WAD:
                repaid = min(debt, collateral * BPS // self._bonus)
                found[who] = repaid * (self._bonus - BPS) // BPS
        return found
