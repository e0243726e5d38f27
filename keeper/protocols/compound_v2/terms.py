"""What Compound V2 allows on one pair, exact to the wei.

Source: CToken.liquidateBorrowFresh and seizeInternal, Comptroller.liquidateBorrowAllowed and
liquidateCalculateSeizeTokens; Venus' Liquidator.liquidateBorrow.
"""

from dataclasses import dataclass, field

from keeper.protocols.compound_v2.exponential import (
    protocol_seize_down,
    repay_for_down,
    seize_down,
    treasury_seize_down,
)
from keeper.protocols.compound_v2.valuation import Part, with_parts
from keeper.types import Position, Seizure, Token
from keeper.units import Address, Bps

LIQUIDATION_GAS = 55_000
"""What a call takes beyond one of Aave's: the comptroller asks each cToken and price apart."""
THROUGH_GAS = 130_000
"""What Venus' liquidator contract adds: it redeems the treasury's share at once."""
LEG_GAS = 25_000
"""Each further cToken the borrower entered."""


@dataclass(frozen=True, slots=True)
class CompoundTerms:
    """One pair of one borrower at one block.

    `borrowed` and `seized` are the cTokens, `collateral` the one seized as a token. `ratio` is what is
    seized for a unit repaid (wad), `balance` all there is of it, `limit` the close factor's.
    `seize_share` goes to the cToken, `treasury_share` of the bonus to Venus' treasury. `called` is
    the cToken that is called, empty where it is Venus' liquidator contract. `scaled_debt`
    is the debt as stored, without the interest of the call itself; `held` is all the borrower has.
    """

    collateral: Token
    debt: Token
    bonus: Bps
    borrowed: Address
    seized: Address
    is_native: bool
    incentive: int
    ratio: int
    balance: int
    limit: int
    seize_share: int
    treasury_share: int
    scaled_debt: int
    called: Address
    held: tuple[Part, ...] = field(repr=False)

    @property
    def way(self) -> int:
        """Tell calls of one borrowed cToken from those of another with the same underlying."""
        return int.from_bytes(self.borrowed, "big")

    @property
    def maximum(self) -> int:
        """Return the largest repay within the close factor whose seizure there is."""
        return min(self.limit, repay_for_down(self.ratio, self.balance)) if self.ratio else 0

    def legal_down(self, repay: int) -> int:
        """Return the largest repay up to `repay` that seizes something; 0 when there is none."""
        repay = min(repay, self.maximum)
        return repay if repay > 0 and self.seize(repay).received > 0 else 0

    def seize(self, repay: int) -> Seizure:
        """Return what a call pulls, what of the cToken it brings, and what others keep of it."""
        seized = seize_down(self.ratio, repay)
        kept = protocol_seize_down(seized, self.seize_share)
        if self.treasury_share:
            kept += treasury_seize_down(seized - kept, self.incentive, self.treasury_share)
        gas = (
            LIQUIDATION_GAS + THROUGH_GAS * (not self.called) + LEG_GAS * max(len(self.held) - 2, 0)
        )
        return Seizure(repay, seized - kept, kept, is_exact=True, extra_gas=gas, called=self.called)

    def after(self, position: Position, repay: int) -> Position:
        """Return what a legal call leaves of the position, whose cTokens of the pair it accrued."""
        seized = seize_down(self.ratio, repay)
        left = []
        for part in self.held:
            balance, debt = part.balance, part.debts[1]
            if part.token.address in {self.borrowed, self.seized}:
                balance -= seized * (part.token.address == self.seized)
                debt -= repay * (part.token.address == self.borrowed)
                left.append(part.accrued(balance, debt))
            else:
                left.append(part)
        return with_parts(position, left)
