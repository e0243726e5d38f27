"""The ledger as the float screen takes it: legs by class, and what one unit of a class adds."""

from collections.abc import Iterable, Mapping, Sequence
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


def legs(ledger: Ledger, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return the flagged collateral by class and the debt by reserve id; none without debt."""
    record = ledger.accounts.get(borrower)
    if not has_debt(record):
        return (), ()
    account = unpack(record)
    collateral = [
        (ledger.classes.number(account.category, number), scaled)
        for number, scaled in account.supplied.items()
        if account.flags >> number & 1
    ]
    return collateral, list(account.borrowed.items())


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
    reserve = ledger.reserves.get(number)
    if reserve is None:
        return 0
    return collateral_terms(ledger.categories.get(category, NO_CATEGORY), reserve)[0]


def gather(shards: Iterable[Mapping[Address, bytes]], table: Integers) -> LegArrays:
    """Return every borrower's legs from frozen shards; `table` is `Classes.table`.

    Works shard by shard, so that another thread waits for the interpreter only briefly.
    """
    borrowers: list[Address] = []
    collateral: list[tuple[Integers, Integers, Floats]] = []
    debt: list[tuple[Integers, Integers, Floats]] = []
    for shard in shards:
        if not shard:
            continue
        records = list(shard.values())
        entries = np.frombuffer(b"".join(records), np.uint8).reshape(-1, STRIDE)
        counts = np.fromiter(map(len, records), np.intp, len(records)) // STRIDE
        starts = np.cumsum(counts) - counts
        rows = np.repeat(np.arange(len(records)), counts)
        words = entries[:, 1:].copy().view(">u8").astype(np.uint64)
        numbers = entries[:, 0].astype(np.intp)
        is_leg = np.ones(len(rows), bool)
        is_leg[starts] = False
        is_debt = is_leg & (numbers & 1 == 1)
        owes = np.zeros(len(records), bool)
        owes[rows[is_debt]] = True
        placed = np.cumsum(owes) - 1 + len(borrowers)
        borrowers.extend(compress(shard, owes.tolist()))
        debt.append((placed[rows[is_debt]], numbers[is_debt] >> 1, _floats(words[is_debt])))
        held = np.flatnonzero(is_leg & ~is_debt & owes[rows])
        reserve, header = numbers[held] >> 1, starts[rows[held]]
        flags = words[header, np.where(reserve < 64, 1, 0)] >> (reserve & 63).astype(np.uint64)
        used = (flags & np.uint64(1)).astype(bool)
        held, reserve, header = held[used], reserve[used], header[used]
        collateral.append(
            (
                placed[rows[held]],
                table[numbers[header] * RESERVES + reserve],
                _floats(words[held]),
            )
        )
    return LegArrays(borrowers, *_joined(collateral), *_joined(debt))


def _floats(words: NDArray[np.uint64]) -> Floats:
    high: Floats = words[:, 0].astype(np.float64)
    return high * 2.0**64 + words[:, 1].astype(np.float64)


def _joined(parts: list[tuple[Integers, Integers, Floats]]) -> tuple[Integers, Integers, Floats]:
    if not parts:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    rows, classes, amounts = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(classes), np.concatenate(amounts)
