"""The ledger as the float screen takes it: legs by class, and what one unit of a class adds."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.aave_v3.accounts import RESERVES, STRIDE, has_debt, unpack
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.valuation import NO_CATEGORY, collateral_terms
from keeper.types import Prices
from keeper.units import BPS, RAY, Address

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

ENTRY = np.dtype([("number", "u1"), ("high", ">u8"), ("low", ">u8")])
"""One entry of a record, the holder's or a balance's, as `accounts` packs it."""
STABLE = RESERVES
"""The class of debts at stable rates: beyond all reserves, so that nobody knows its worth.

Who has one beside others is thereby always judged exactly. Each grows by a rate of its own.
"""


def legs(ledger: Ledger, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return the flagged collateral by class and the debt by reserve id; none without debt.

    Debts at stable rates are one more, of the class `STABLE`.
    """
    record = ledger.accounts.get(borrower)
    if not has_debt(record):
        return (), ()
    account = unpack(record)
    collateral = [
        (ledger.classes.number(account.category, number), scaled)
        for number, scaled in account.supplied.items()
        if account.flags >> number & 1
    ]
    borrowed: list[LegRow] = list(account.borrowed.items())
    return collateral, [*borrowed, (STABLE, 1)] if borrower in ledger.stable else borrowed


class Factors:
    """Give the factors of all classes; thresholds are read again only when terms changed."""

    def __init__(self) -> None:
        self._terms = -1
        self._reserves: Integers = np.zeros(0, np.intp)
        self._thresholds: Floats = np.zeros(0)

    def at(self, ledger: Ledger, prices: Prices, timestamp: int) -> tuple[Floats, Floats]:
        """Return base value per scaled unit, the collateral's weighted by its threshold."""
        if self._terms != ledger.terms:
            self._read(ledger)
        supply, debt = np.full(RESERVES, np.nan), np.full(RESERVES, np.nan)
        for number, reserve in ledger.reserves.items():
            price = prices.values.get(reserve.asset)
            if price is None or reserve.token is None:
                continue
            value = price / reserve.unit
            supply[number] = reserve.supply_index_at(timestamp) / RAY * value
            debt[number] = reserve.borrow_index_at(timestamp) / RAY * value
        return supply[self._reserves] * self._thresholds, debt[
            : max(ledger.reserves, default=-1) + 1
        ]

    def _read(self, ledger: Ledger) -> None:
        pairs = ledger.classes.pairs()
        self._reserves = np.array([number for _, number in pairs], np.intp)
        self._thresholds = np.array(
            [_threshold(ledger, category, number) / BPS for category, number in pairs]
        )
        self._terms = ledger.terms


def _threshold(ledger: Ledger, category: int, number: int) -> int:
    """Return a class's threshold, never more than the contract counts of it.

    Where it cuts the average threshold of a borrower to whole bps, one less of each is less than that.
    """
    reserve = ledger.reserves.get(number)
    if reserve is None:
        return 0
    threshold = collateral_terms(ledger.categories.get(category, NO_CATEGORY), reserve)[0]
    return max(threshold - ledger.era.averages_threshold, 0)


def gather(
    shards: Iterable[Mapping[Address, bytes]], table: Integers, stable: AbstractSet[Address]
) -> LegArrays:
    """Return every borrower's legs from frozen shards; `table` is `Classes.table`.

    `stable` are those with debts at stable rates.

    Works shard by shard, so that another thread waits for the interpreter only briefly.
    """
    borrowers: list[Address] = []
    collateral: list[tuple[Integers, Integers, Floats]] = []
    debt: list[tuple[Integers, Integers, Floats]] = []
    for shard in shards:
        if not shard:
            continue
        records = list(shard.values())
        entries = np.frombuffer(b"".join(records), ENTRY)
        counts = np.fromiter(map(len, records), np.intp, len(records)) // STRIDE
        starts = np.cumsum(counts) - counts
        high, low = entries["high"].astype(np.uint64), entries["low"].astype(np.uint64)
        numbers = entries["number"].copy()
        is_leg = np.ones(len(numbers), bool)
        is_leg[starts] = False
        is_debt = is_leg & (numbers & 1 == 1)
        owes = np.logical_or.reduceat(is_debt, starts)
        rows = np.repeat(np.cumsum(owes) - 1 + len(borrowers), counts)
        borrowers.extend(compress(shard, owes.tolist()))
        reserves = (numbers >> 1).astype(np.intp)
        amounts: Floats = high.astype(np.float64) * 2.0**64 + low.astype(np.float64)
        debt.append((rows[is_debt], reserves[is_debt], amounts[is_debt]))
        held = np.flatnonzero((is_leg & ~is_debt) & np.repeat(owes, counts))
        header = np.repeat(starts, counts)[held]
        reserve = reserves[held]
        flags = np.where(reserve < 64, low[header], high[header])
        flags >>= (reserve & 63).astype(np.uint64)
        used = (flags & np.uint64(1)).astype(bool)
        held, reserve, header = held[used], reserve[used], header[used]
        kinds = table[numbers[header].astype(np.intp) * RESERVES + reserve]
        collateral.append((rows[held], kinds, amounts[held]))
    owed = _joined(debt)
    if stable:
        rows = np.array([row for row, who in enumerate(borrowers) if who in stable], np.intp)
        at = np.searchsorted(owed[0], rows, "right")
        added = rows, np.full(len(rows), STABLE), np.ones(len(rows))
        first, classes, amounts = (
            np.insert(column, at, more) for column, more in zip(owed, added, strict=True)
        )
        owed = first, classes, amounts
    return LegArrays(borrowers, *_joined(collateral), *owed)


def _joined(parts: list[tuple[Integers, Integers, Floats]]) -> tuple[Integers, Integers, Floats]:
    """Join part by part: all at once, NumPy would hold the interpreter for a million borrowers."""
    size = sum(len(rows) for rows, _, _ in parts)
    joined = np.empty(size, np.intp), np.empty(size, np.intp), np.empty(size)
    at = 0
    for part in parts:
        stop = at + len(part[0])
        for column, values in zip(joined, part, strict=True):
            column[at:stop] = values
        at = stop
    return joined
