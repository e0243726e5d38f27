"""Every trove of one system and the system's own sums, exact as of one block."""

from dataclasses import dataclass, field
from typing import NamedTuple

from keeper.protocols.liquity_v1 import rules
from keeper.units import Address

DAY = 86_400
"""Seconds for which the screen holds each debt higher than it is, by its interest until then."""


class Trove(NamedTuple):
    """One trove as the contract stores it: amounts in wei, `rate` in basis points a year.

    `since` is the time interest was last added; the three snapshots are of the running totals when
    what was redistributed was last taken in.
    """

    collateral: int
    principal: int
    interest: int
    stake: int
    rate: int
    since: int
    collateral_snapshot: int
    principal_snapshot: int
    interest_snapshot: int


class Whole(NamedTuple):
    """A trove with all it has coming: what a liquidation takes."""

    collateral: int
    principal: int
    interest: int

    @property
    def debt(self) -> int:
        """Return principal and interest."""
        return self.principal + self.interest


@dataclass(frozen=True, slots=True)
class System:
    """What is not any trove's: totals per stake, the three pools and the interest of all.

    `accrued_at` is when interest was last added to the active pool, `numerator` the sum of each
    principal times its rate.
    """

    collateral_total: int = 0
    principal_total: int = 0
    interest_total: int = 0
    stakes: int = 0
    stakes_snapshot: int = 0
    collateral_snapshot: int = 0
    active_collateral: int = 0
    active_principal: int = 0
    active_interest: int = 0
    default_collateral: int = 0
    default_principal: int = 0
    default_interest: int = 0
    deposits: int = 0
    deposited_collateral: int = 0
    rate: int = 0
    numerator: int = 0
    accrued_at: int = 0

    @property
    def collateral(self) -> int:
        """Return the system's collateral (LiquityBase.getEntireSystemColl)."""
        return self.active_collateral + self.default_collateral

    def debt_at(self, timestamp: int) -> int:
        """Return the system's debt with interest to a time (LiquityBase.getEntireSystemDebt)."""
        accrued = rules.system_interest_down(self.numerator, self.accrued_at, timestamp)
        active = self.active_principal + self.active_interest + accrued
        return active + self.default_principal + self.default_interest

    def ratio_down(self, price: int, timestamp: int) -> int:
        """Return the system's collateral ratio in wad (TroveManager.getTCR)."""
        return rules.ratio_down(self.collateral, self.debt_at(timestamp), price)


@dataclass(slots=True)
class Ledger:
    """The state that logs change; `touched` are the borrowers whose legs did since they were read."""

    market: str
    troves: dict[Address, Trove] = field(default_factory=dict)
    system: System = field(default_factory=System)
    stopped: str = ""
    touched: set[Address] = field(default_factory=set)
    horizon: int = 0

    def whole(self, trove: Trove, timestamp: int) -> Whole:
        """Return a trove with interest to a time and its part in what was redistributed.

        TroveManager.getEntireDebtAndColl: without new principal nothing of the debt is pending.
        """
        system, stake = self.system, trove.stake
        collateral = trove.collateral + rules.pending_down(
            stake, system.collateral_total, trove.collateral_snapshot
        )
        principal = trove.principal
        interest = trove.interest + rules.interest_down(
            principal, trove.rate, trove.since, timestamp
        )
        if system.principal_total != trove.principal_snapshot:
            principal += rules.pending_down(stake, system.principal_total, trove.principal_snapshot)
            interest += rules.pending_down(stake, system.interest_total, trove.interest_snapshot)
        return Whole(collateral, principal, interest)

    def touch_all(self) -> None:
        """Have every trove's legs read again: what all share has changed."""
        self.touched |= self.troves.keys()

    def look_ahead(self, timestamp: int) -> None:
        """See that the screen's debts are not lower than they are at a time."""
        if timestamp > self.horizon - DAY // 2:
            self.horizon = timestamp + DAY
            self.touch_all()
