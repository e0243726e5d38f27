"""What taking an auction pays: one call that hands the collateral to an exchange callee first."""

from dataclasses import dataclass

from keeper.types import Seizure, Token
from keeper.units import BPS, Bps

ONE_CALL = 1
"""The least amount stands for the call: an auction is taken whole, with its own money."""
EXTRA_GAS = 400_000
"""What a take through a callee takes beyond one of Aave's liquidations."""


@dataclass(frozen=True, slots=True)
class ClipTerms:
    """One auction at its best moment: `profit` is what is left in the stablecoin, before gas.

    The callee sells the collateral, pays the auction and sends the rest, so nothing is repaid from
    here and what is received is the stablecoin itself. `lot` is the collateral, in wad.
    """

    debt: Token
    profit: int
    lot: int

    @property
    def collateral(self) -> Token:
        """Return the stablecoin: it is what comes."""
        return self.debt

    @property
    def maximum(self) -> int:
        """Return the amount that stands for the call."""
        return ONE_CALL

    @property
    def bonus(self) -> Bps:
        """Return the profit as a share of the amount that stands for the call."""
        return Bps(BPS * (ONE_CALL + self.profit))

    @property
    def scaled_debt(self) -> int:
        """Return the collateral that is there, as `sales` says it."""
        return self.lot

    def legal_down(self, repay: int) -> int:
        """Return the amount that stands for the call; 0 for less."""
        return ONE_CALL if repay >= ONE_CALL else 0

    def seize(self, repay: int) -> Seizure:
        """Return what comes, nothing repaid."""
        if repay < ONE_CALL:
            return Seizure(0, 0, 0)
        return Seizure(0, self.profit, 0, extra_gas=EXTRA_GAS)
