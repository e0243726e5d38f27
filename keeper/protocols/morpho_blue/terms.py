"""What Morpho Blue allows on one position, exact to the wei.

Source: Morpho.liquidate. There is no close factor, no fee and no dust rule. A call names shares to
repay, or collateral to take: shares end a debt that the collateral covers, whatever interest comes
until then; collateral ends a position that it does not cover, whatever the price does until then.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from keeper.protocols.morpho_blue import fixed
from keeper.types import Seizure, Token
from keeper.units import Address, Bps, Hash


class Way(IntEnum):
    """Which of its two amounts a call names."""

    SHARES = 0
    COLLATERAL = 1


@dataclass(frozen=True, slots=True)
class MorphoTerms:
    """One borrower in one market at one block.

    `shares` are owed of `total_shares`, which stand for `total_assets`; `held` is the collateral that
    may be taken: all of it, or all but what keeps bad debt from being written off. `base` is the loan
    token's price in base currency. `cap` is the most shares that may be repaid, and `contract` who is
    called, where it is a pre-liquidation: that goes by shares alone.
    """

    id: Hash
    collateral: Token
    debt: Token
    bonus: Bps
    incentive: int
    price: int
    base: int
    shares: int
    held: int
    total_assets: int
    total_shares: int
    contract: Address = Address(b"")
    cap: int | None = None
    way: Way = field(init=False)
    maximum: int = field(init=False)

    def __post_init__(self) -> None:
        """Choose the way, and the repay that takes all the call can take."""
        covered = bool(self.contract) or self._seized_down(self.shares) <= self.held
        object.__setattr__(self, "way", Way.SHARES if covered else Way.COLLATERAL)
        object.__setattr__(self, "maximum", self._repaid(self._most))

    @property
    def scaled_debt(self) -> int:
        """Return the borrow shares."""
        return self.shares

    def legal_down(self, repay: int) -> int:
        """Return the largest repay up to one that a call can make exactly; 0 when there is none."""
        amount = self.word(repay)
        if amount <= 0:
            return 0
        legal = self._repaid(amount)
        return legal if legal and self._received(amount) else 0

    def seize(self, repay: int) -> Seizure:
        """Return what the call for a repay pulls and pays out."""
        amount = self.word(repay)
        return Seizure(self._repaid(amount), self._received(amount), 0)

    def word(self, repay: int) -> int:
        """Return what the call names for a repay: shares or collateral, by the way it goes."""
        if repay >= self.maximum:
            return self._most
        shares = fixed.shares_down(repay, self.total_assets, self.total_shares)
        if self.way is Way.SHARES:
            return min(shares, self._most)
        return min(self._seized_down(shares), self.held)

    def shares_of(self, repay: int) -> int:
        """Return the borrow shares a repay burns."""
        amount = self.word(repay)
        return amount if self.way is Way.SHARES else self._shares_up(amount)

    @property
    def _most(self) -> int:
        if self.way is Way.COLLATERAL:
            return self.held
        return self.shares if self.cap is None else min(self.cap, self.shares)

    def _received(self, amount: int) -> int:
        return self._seized_down(amount) if self.way is Way.SHARES else amount

    def _repaid(self, amount: int) -> int:
        shares = amount if self.way is Way.SHARES else self._shares_up(amount)
        return fixed.assets_up(shares, self.total_assets, self.total_shares)

    def _shares_up(self, collateral: int) -> int:
        assets = fixed.repaid_up(collateral, self.price, self.incentive)
        return fixed.shares_up(assets, self.total_assets, self.total_shares)

    def _seized_down(self, shares: int) -> int:
        assets = fixed.assets_down(shares, self.total_assets, self.total_shares)
        return fixed.seized_down(assets, self.price, self.incentive)
