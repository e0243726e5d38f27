"""Fixed-spread liquidation with a close factor, as Compound V2 has it: a model to study cases with.

Positions are in underlying amounts at 18-decimal dollar prices. Source: Comptroller.sol,
liquidateBorrowAllowed and liquidateCalculateSeizeTokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keeper.ports import Terms
from keeper.types import CollateralLeg, DebtLeg, Position, Seizure, Token
from keeper.units import BPS, MAX_UINT256, WAD, Address, Bps, Wad


def seize_tokens(
    repay: int, incentive: int, borrow_price: int, collateral_price: int, exchange_rate: int
) -> int:
    """Return the collateral's own tokens a repay seizes; all but the repay in wad.

    Rounded down four times, as in liquidateCalculateSeizeTokens: the ratio has few digits.
    """
    denominator = collateral_price * exchange_rate // WAD
    ratio = incentive * borrow_price // WAD * WAD // denominator
    return ratio * repay // WAD


def exchange_rate_of(
    repay: int, seized: int, incentive: int, borrow_price: int, collateral_price: int
) -> int | None:
    """Return the highest exchange rate at which a repay seizes exactly so much, None for none."""
    ratio = -(-seized * WAD // repay)
    if ratio <= 0 or ratio * repay // WAD != seized:
        return None
    most = incentive * borrow_price // WAD * WAD // ratio
    rate = ((most + 1) * WAD - 1) // collateral_price
    found = seize_tokens(repay, incentive, borrow_price, collateral_price, rate)
    return rate if found == seized else None


@dataclass(frozen=True, slots=True)
class SpreadTerms:
    """One pair: at most `maximum` of the debt, paid with `bonus` of its value in collateral."""

    collateral: Token
    debt: Token
    maximum: int
    bonus: Bps
    collateral_price: int
    debt_price: int
    balance: int

    @property
    def scaled_debt(self) -> int:
        """Return the most that may be repaid: the model has no index."""
        return self.maximum

    def legal_down(self, repay: int) -> int:
        """Return the largest repay up to this whose collateral is there."""
        worth = self.balance * self.collateral_price * BPS // (self.debt_price * self.bonus)
        return max(min(repay, self.maximum, worth), 0)

    def seize(self, repay: int) -> Seizure:
        """Return what a repay seizes, in the underlying."""
        seized = repay * self.debt_price * self.bonus // (self.collateral_price * BPS)
        return Seizure(repay, min(seized, self.balance), 0)


@dataclass(frozen=True, slots=True)
class FixedSpread:
    """The rules: one close factor for every market, prices in wad by token."""

    prices: dict[Address, int]
    close_factor: int

    def position(
        self,
        borrower: Address,
        supplied: Sequence[tuple[Token, int, Bps, Bps]],
        owed: Sequence[tuple[Token, int]],
    ) -> Position:
        """Return a position from (token, amount, threshold, bonus) and (token, amount)."""
        collateral = tuple(
            CollateralLeg(token, amount, self._value(token, amount), threshold, bonus)
            for token, amount, threshold, bonus in supplied
        )
        debt = tuple(DebtLeg(token, amount, self._value(token, amount)) for token, amount in owed)
        blank = Position("case", "compound-v2", borrower, (), (), 0, 0, Wad(0))
        return _summed(blank, collateral, debt)

    def pairs(self, position: Position) -> Sequence[Terms]:
        """Return every pair of a position with a shortfall."""
        if position.health >= WAD:
            return ()
        return tuple(
            SpreadTerms(
                held.token,
                owed.token,
                owed.amount * self.close_factor // WAD,
                held.bonus,
                self.prices[held.token.address],
                self.prices[owed.token.address],
                held.amount,
            )
            for held in position.collateral
            for owed in position.debt
        )

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return the position less what is repaid and seized."""
        seizure = terms.seize(repay)
        collateral = (
            replace(leg, amount=left, value=self._value(leg.token, left))
            for leg in position.collateral
            if (left := leg.amount - seizure.received * (leg.token == terms.collateral)) > 0
        )
        debt = (
            replace(leg, amount=left, value=self._value(leg.token, left))
            for leg in position.debt
            if (left := leg.amount - seizure.repaid * (leg.token == terms.debt)) > 0
        )
        return _summed(position, tuple(collateral), tuple(debt))

    def _value(self, token: Token, amount: int) -> int:
        return amount * self.prices[token.address] // int(10**token.decimals)


def _summed(
    position: Position, collateral: tuple[CollateralLeg, ...], debt: tuple[DebtLeg, ...]
) -> Position:
    owed = sum(leg.value for leg in debt)
    weighted = sum(leg.value * leg.threshold for leg in collateral)
    return replace(
        position,
        collateral=collateral,
        debt=debt,
        collateral_value=sum(leg.value for leg in collateral),
        debt_value=owed,
        health=Wad(weighted * WAD // (owed * BPS) if owed else MAX_UINT256),
    )
