"""What the family's contracts compute, in their integers (LiquityMath, LiquityBase, TroveManager).

Debt is principal and interest, of which interest is offset first; in a system without interest all
of it is principal. Every division rounds down.
"""

from dataclasses import dataclass

from keeper.units import BPS, MAX_UINT256, WAD

MCR = 11 * WAD // 10
"""A trove under this ratio is liquidated."""
CCR = 15 * WAD // 10
"""A system under this ratio is in recovery mode."""
COMPENSATION_DIVISOR = 200
"""The 200th part of a trove's collateral goes to whoever liquidates it."""
YEAR = 31_556_952
"""Seconds (InterestRateMath.SECONDS_IN_A_YEAR)."""


def ratio_down(collateral: int, debt: int, price: int) -> int:
    """Return a collateral ratio in wad (LiquityMath._computeCR); the highest word without debt."""
    return collateral * price // debt if debt else MAX_UINT256


def interest_down(principal: int, rate: int, start: int, end: int) -> int:
    """Return the interest of a time, its rate in basis points (calculateInterestOwed)."""
    return principal * rate * (end - start) // (BPS * YEAR)


def system_interest_down(numerator: int, start: int, end: int) -> int:
    """Return the interest of all troves together (calculateAggregatedInterestOwed)."""
    return (end - start) * numerator // (BPS * YEAR)


def pending_down(stake: int, now: int, snapshot: int) -> int:
    """Return a stake's part in what was redistributed since its snapshot (getPendingCollateral)."""
    return stake * (now - snapshot) // WAD


def compensation_down(collateral: int) -> int:
    """Return the collateral paid to the caller (LiquityBase._getCollGasCompensation)."""
    return collateral // COMPENSATION_DIVISOR


def stake_down(collateral: int, stakes: int, snapshot: int) -> int:
    """Return a trove's stake from the system's last snapshots (TroveManager._computeNewStake)."""
    return collateral * stakes // snapshot if snapshot else collateral


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a liquidated trove goes: to the stability pool, to the other troves, to its owner.

    `compensation` is the collateral the caller gets; `surplus` is what the owner may claim.
    """

    compensation: int
    offset_principal: int
    offset_interest: int
    offset_collateral: int
    spread_principal: int
    spread_interest: int
    spread_collateral: int
    surplus: int = 0

    @property
    def offset_debt(self) -> int:
        """Return the debt the stability pool pays."""
        return self.offset_principal + self.offset_interest


def resolve(collateral: int, principal: int, interest: int, deposits: int) -> Resolution:
    """Return what liquidating a whole trove does with `deposits` in the stability pool.

    TroveManager._liquidate and _getOffsetAndRedistributionVals: the pool takes what it can of the
    debt with that share of the collateral, the other troves take the rest.
    """
    compensation = compensation_down(collateral)
    rest = collateral - compensation
    offset_interest = min(interest, deposits)
    offset_principal = min(principal, deposits - offset_interest)
    debt = principal + interest
    offset_collateral = rest * (offset_principal + offset_interest) // debt if debt else 0
    return Resolution(
        compensation,
        offset_principal,
        offset_interest,
        offset_collateral,
        principal - offset_principal,
        interest - offset_interest,
        rest - offset_collateral,
    )


def resolve_in_recovery(
    collateral: int, debt: int, deposits: int, price: int, system_ratio: int
) -> Resolution | None:
    """Return what it does in recovery mode, None when the trove is left alone.

    `_liquidateRecoveryMode` of the original Liquity V1, which charges no interest. Up to 100 % all
    goes to the other troves; under 110 % it is as ever; under the system's ratio a pool that can pay
    the whole debt takes 110 % of its worth, and the owner may claim the rest. mUSD has no such rules.
    """
    ratio = ratio_down(collateral, debt, price)
    if ratio <= WAD:
        compensation = compensation_down(collateral)
        return Resolution(compensation, 0, 0, 0, debt, 0, collateral - compensation)
    if ratio < MCR:
        return resolve(collateral, debt, 0, deposits)
    if ratio < system_ratio and 0 < debt <= deposits:
        capped = debt * MCR // price
        compensation = compensation_down(capped)
        return Resolution(
            compensation, debt, 0, capped - compensation, 0, 0, 0, collateral - capped
        )
    return None


@dataclass(frozen=True, slots=True)
class Spread:
    """The running totals per unit of stake, and the errors their divisions left, all in wad."""

    collateral: int = 0
    principal: int = 0
    interest: int = 0
    collateral_error: int = 0
    principal_error: int = 0
    interest_error: int = 0


def spread_down(before: Spread, done: Resolution, stakes: int) -> Spread:
    """Return the totals after a redistribution over all stakes (_redistributeDebtAndColl)."""
    if not done.spread_principal and not done.spread_interest:
        return before
    collateral, collateral_error = divmod(
        done.spread_collateral * WAD + before.collateral_error, stakes
    )
    principal, principal_error = divmod(
        done.spread_principal * WAD + before.principal_error, stakes
    )
    interest, interest_error = divmod(done.spread_interest * WAD + before.interest_error, stakes)
    return Spread(
        before.collateral + collateral,
        before.principal + principal,
        before.interest + interest,
        collateral_error,
        principal_error,
        interest_error,
    )
