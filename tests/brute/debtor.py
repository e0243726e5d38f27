"""One borrower's pair under the rules of Aave v3.6, written from those rules alone.

Nothing here comes from the keeper: it is what the keeper's own arithmetic is held against.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BPS = 10_000
WAD = 10**18
HALF = 95 * 10**16
SMALL = 2_000 * 10**8
LEFTOVER = 1_000 * 10**8

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def half_up(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest, halves up."""
    return (numerator + denominator // 2) // denominator


def up(numerator: int, denominator: int) -> int:
    """Divide and round up."""
    return -(-numerator // denominator)


@dataclass(frozen=True, slots=True)
class Call:
    """What one `liquidationCall` does: pulled, paid out, kept by the protocol, and what is left."""

    repaid: int
    received: int
    fee: int
    after: "Debtor"


@dataclass(frozen=True, slots=True)
class Debtor:
    """A balance of one collateral against one debt; prices in dollars of eight decimals.

    `other_weighted` is value times threshold in basis points of further collateral, `other_value`
    its value and `other_debt` the value of further debts.
    """

    balance: int
    owed: int
    collateral_price: int
    debt_price: int
    collateral_unit: int
    debt_unit: int
    bonus: int
    fee: int
    threshold: int
    other_value: int = 0
    other_weighted: int = 0
    other_debt: int = 0

    def collateral_value(self) -> int:
        """Return the value of the pair's collateral, rounded down."""
        return self.balance * self.collateral_price // self.collateral_unit

    def debt_value(self) -> int:
        """Return the value of the pair's debt, rounded up."""
        return up(self.owed * self.debt_price, self.debt_unit)

    def health(self) -> int:
        """Return the health factor in 1e18ths."""
        debts = self.debt_value() + self.other_debt
        if debts == 0:
            return 2**256 - 1
        weighted = self.collateral_value() * self.threshold + self.other_weighted
        return half_up(weighted * WAD, debts) // BPS

    def cap(self) -> int:
        """Return the most one call may repay (the close factor)."""
        mine = self.debt_value()
        if self.health() <= HALF or min(mine, self.collateral_value()) < SMALL:
            return self.owed
        most = half_up((mine + self.other_debt) * 5_000, BPS)
        return most * self.debt_unit // self.debt_price if mine > most else self.owed

    def seized(self, cover: int) -> tuple[int, int, int]:
        """Return total seized, repaid and the protocol's fee for a cover within the cap."""
        base = self.debt_price * cover * self.collateral_unit
        total = half_up(base // (self.collateral_price * self.debt_unit) * self.bonus, BPS)
        repaid = cover
        if total > self.balance:
            total = self.balance
            worth = self.collateral_price * total * self.debt_unit
            worth //= self.debt_price * self.collateral_unit
            repaid = up(worth * BPS, self.bonus)
        extra = total - half_up(total * BPS, self.bonus)
        return total, repaid, half_up(extra * self.fee, BPS)

    def call(self, cover: int) -> Call | None:
        """Liquidate; None where the contract reverts."""
        if cover <= 0 or self.health() >= WAD or self.owed == 0:
            return None
        total, repaid, fee = self.seized(min(cover, self.cap()))
        if repaid <= 0 or total <= fee or repaid > self.owed:
            return None
        after = replace(self, balance=self.balance - total, owed=self.owed - repaid)
        leaves_both = after.balance and after.owed
        if leaves_both and min(after.debt_value(), after.collateral_value()) < LEFTOVER:
            return None
        return Call(repaid, total - fee, fee, after)

    def jumps(self) -> Iterator[int]:
        """Yield the covers at which something changes, and their neighbours: some are illegal."""
        cap = self.cap()
        taking_all = self.worth_up(self.balance * BPS // self.bonus)
        spare_debt = self.owed - LEFTOVER * self.debt_unit // self.debt_price
        spare = self.balance - LEFTOVER * self.collateral_unit // self.collateral_price
        keeping = self.worth_up(spare * BPS // self.bonus)
        for edge in (cap, taking_all, spare_debt, keeping):
            for cover in range(edge - 4, edge + 5):
                if 0 < cover <= cap:
                    yield cover

    def worth_up(self, collateral: int) -> int:
        """Return the debt worth an amount of collateral, rounded up."""
        worth = collateral * self.collateral_price * self.debt_unit
        return up(worth, self.debt_price * self.collateral_unit)

    def calls(self, covers: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return repaid, received and what looks legal for many covers within the cap, in floats."""
        base = np.floor(
            covers
            * (self.debt_price / self.collateral_price)
            * self.collateral_unit
            / self.debt_unit
        )
        total = np.floor(base * (self.bonus / BPS) + 0.5)
        takes_all = total > self.balance
        rate = self.collateral_price / self.debt_price * self.debt_unit / self.collateral_unit
        total = np.minimum(total, float(self.balance))
        repaid = np.where(takes_all, np.ceil(total * rate * BPS / self.bonus), covers)
        fee = np.floor((total - np.floor(total * BPS / self.bonus + 0.5)) * (self.fee / BPS) + 0.5)
        debt_left = (self.owed - repaid) * self.debt_price / self.debt_unit
        kept = (self.balance - total) * self.collateral_price / self.collateral_unit
        edge = LEFTOVER * (1 - 1e-12)
        legal: Any = (kept <= 0) | (debt_left <= 0) | ((debt_left >= edge) & (kept >= edge))
        return repaid, total - fee, legal

    def small_calls(self, covers: Integers) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """Return repaid, received and what is legal for covers within the cap, to the wei.

        Right while every product stays below 2^63: for pools and positions of a few thousand units.
        """
        base = self.debt_price * covers * self.collateral_unit
        base = base // (self.collateral_price * self.debt_unit)
        total = (base * self.bonus + BPS // 2) // BPS
        worth = self.collateral_price * self.balance * self.debt_unit
        repaid_for_all = up(worth // (self.debt_price * self.collateral_unit) * BPS, self.bonus)
        repaid = np.where(total > self.balance, repaid_for_all, covers)
        total = np.minimum(total, self.balance)
        extra = total - (total * BPS + self.bonus // 2) // self.bonus
        received = total - (extra * self.fee + BPS // 2) // BPS
        owed, held = self.owed - repaid, self.balance - total
        owed_value = -(-owed * self.debt_price // self.debt_unit)
        held_value = held * self.collateral_price // self.collateral_unit
        leaves = (owed == 0) | (held == 0) | ((owed_value >= LEFTOVER) & (held_value >= LEFTOVER))
        legal: Any = leaves & (received > 0) & (repaid > 0) & (owed >= 0)
        return repaid, received, legal

    def first_of_two(self) -> int:
        """Return the largest first cover that leaves the borrower liquidatable; 0 when none does."""
        low, high = 0, self.cap()
        while low < high:
            middle = (low + high + 1) // 2
            done = self.call(middle)
            if done is not None and done.after.owed and done.after.health() < WAD:
                low = middle
            else:
                high = middle - 1
        return low
