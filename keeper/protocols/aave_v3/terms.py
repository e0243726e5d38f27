"""What Aave v3 allows on one debt/collateral pair, exact to the wei.

Source: LiquidationLogic.executeLiquidationCall and _calculateAvailableCollateralToLiquidate.
"""

from dataclasses import dataclass, field

from keeper.protocols.aave_v3.eras import V36, Era
from keeper.protocols.aave_v3.v36 import collateral_value_down
from keeper.quick import quick
from keeper.types import Seizure, Token
from keeper.units import BPS, Bps


@quick
@dataclass(frozen=True, slots=True)
class AaveTerms:
    """One pair of one borrower at one block.

    `balance` and `owed` are the borrower's whole collateral and debt in the two reserves, `scaled`
    the aToken units behind the balance, `available` what can be withdrawn from the collateral's
    reserve, `cap` the close factor's limit and `maximum` the least repay that takes all the call
    can take.
    """

    collateral: Token
    debt: Token
    bonus: Bps
    fee: Bps
    collateral_price: int
    debt_price: int
    collateral_unit: int
    debt_unit: int
    balance: int
    scaled: int
    supply_index: int
    owed: int
    debt_index: int
    available: int
    cap: int
    era: Era = field(default=V36, repr=False, hash=False)
    maximum: int = field(init=False)

    def __post_init__(self) -> None:
        """Set `maximum` from the cap and the balance."""
        base = self._least_base(self.balance)
        enough = -(
            -base
            * self.collateral_price
            * self.debt_unit
            // (self.debt_price * self.collateral_unit)
        )
        if enough <= self.cap:
            _, repaid, _ = self._outcome(enough)
            maximum = min(max(enough, repaid), self.cap)
        else:
            maximum = self.cap
        object.__setattr__(self, "maximum", maximum)

    @property
    def scaled_debt(self) -> int:
        """Return the debt in scaled units: the one amount that the index turns into `owed`."""
        return self.era.scaled_debt(self.owed, self.debt_index)

    def seize(self, repay: int) -> Seizure:
        """Return what a call with this `debtToCover` pulls, pays out and keeps for the treasury.

        The treasury is paid out of the aTokens left after the burn, so its fee can be a wei short.
        """
        total, repaid, fee = self._outcome(min(repay, self.cap))
        received = total - fee
        burn = self.era.supply_burn
        left = self.scaled - burn(received, self.supply_index)
        if fee and burn(fee, self.supply_index) > left:
            fee = self.era.supply_balance(left, self.supply_index)
        return Seizure(repaid, received, fee)

    def taken(self, repay: int) -> int:
        """Return what a call takes of the collateral, the fee before it was cut short included."""
        return self._outcome(min(repay, self.cap))[0]

    def legal_down(self, repay: int) -> int:
        """Return the largest `debtToCover` up to `repay` that does not revert; 0 when there is none.

        Legal is what clears the debt, what takes all the collateral, and what leaves at least the
        era's `leftover` of both, within the liquidity that can be withdrawn.
        """
        repay = min(repay, self.maximum)
        if repay > 0 and self._is_legal(repay):
            return repay
        repay = min(repay, self._partial_down())
        return repay if repay > 0 and self._is_legal(repay) else 0

    def _outcome(self, cover: int) -> tuple[int, int, int]:
        base = self.debt_price * cover * self.collateral_unit
        base //= self.collateral_price * self.debt_unit
        total = (base * self.bonus + self.era.seizure_rounding) // BPS
        repaid = cover
        if total > self.balance:
            total = self.balance
            worth = self.collateral_price * total * self.debt_unit
            worth //= self.debt_price * self.collateral_unit
            repaid = self.era.repaid_of(worth, self.bonus)
        return total, repaid, self._fee(total)

    def _fee(self, total: int) -> int:
        if self.fee == 0:
            return 0
        era = self.era
        return era.fee_of(total - era.without_bonus(total, self.bonus), self.fee)

    def _is_legal(self, repay: int) -> bool:
        total, repaid, fee = self._outcome(repay)
        received = total - fee
        # The debt left is repaid − owed in uint256, and neither token burns nothing.
        if repaid > self.owed or not 0 < received <= self.available:
            return False
        era = self.era
        if not era.debt_burn(repaid, self.debt_index):
            return False
        if not era.supply_burn(received, self.supply_index):
            return False
        if not era.leftover or repaid == self.owed or total == self.balance:
            return True
        debt_left = era.debt_value(self.owed - repaid, self.debt_price, self.debt_unit)
        collateral_left = collateral_value_down(
            self.balance - total, self.collateral_price, self.collateral_unit
        )
        return debt_left >= era.leftover and collateral_left >= era.leftover

    def _partial_down(self) -> int:
        leftover = self.era.leftover
        debt_left = collateral_left = 0
        if leftover:
            debt_left = self.era.least_debt(leftover, self.debt_price, self.debt_unit)
            collateral_left = -(-leftover * self.collateral_unit // self.collateral_price)
        total = min(self.balance - collateral_left, self._withdrawable_down())
        if total <= 0:
            return 0
        return min(self.owed - debt_left, self._repay_down(total))

    def _repay_down(self, total: int) -> int:
        """Return the largest repay that takes no more than `total`, by inverting `_outcome`."""
        base = self._least_base(total + 1) - 1
        worth = (base + 1) * self.collateral_price * self.debt_unit - 1
        return worth // (self.debt_price * self.collateral_unit)

    def _least_base(self, total: int) -> int:
        """Return the least collateral, before its bonus, that makes a seizure of at least `total`."""
        return -(-(total * BPS - self.era.seizure_rounding) // self.bonus)

    def _withdrawable_down(self) -> int:
        """Return the largest seizure, fee included, of which the paid part can be withdrawn."""
        if self.balance - self._fee(self.balance) <= self.available:
            return self.balance
        kept = self.bonus * BPS - self.fee * (self.bonus - BPS)
        total = self.available * self.bonus * BPS // kept + 4
        while total - self._fee(total) > self.available:
            total -= 1
        return total
