"""The ledger as the float screen takes it: a class is one market, values are in its loan token."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.morpho_blue.accounts import KEY, number_of, unpack
from keeper.protocols.morpho_blue.fixed import PRICE_SCALE, VIRTUAL_ASSETS, VIRTUAL_SHARES
from keeper.protocols.morpho_blue.ledger import Ledger
from keeper.units import WAD, Address

Floats = NDArray[np.float64]
RECORD = np.dtype([("held", ">u8", 2), ("owed", ">u8", 2)])
HIGH = 2.0**64


def legs(ledger: Ledger, key: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return collateral and borrow shares under the market's number; none without debt."""
    held, shares = unpack(ledger.accounts.get(key))
    if not shares:
        return (), ()
    number = number_of(key)
    return ((number, held),) if held else (), ((number, shares),)


def gather(shards: Iterable[Mapping[Address, bytes]]) -> LegArrays:
    """Return every debtor's legs from frozen shards."""
    borrowers: list[Address] = []
    numbers, held, owed = [np.zeros(0, np.intp)], [np.zeros(0)], [np.zeros(0)]
    for shard in shards:
        if not shard:
            continue
        keys = list(shard)
        records = np.frombuffer(b"".join(shard.values()), RECORD)
        shares = _floats(records["owed"])
        owing = np.flatnonzero(shares)
        head = np.frombuffer(b"".join(keys), np.dtype([("number", ">u4"), ("who", f"V{KEY - 4}")]))
        borrowers += [keys[place] for place in owing.tolist()]
        numbers.append(head["number"][owing].astype(np.intp))
        held.append(_floats(records["held"])[owing])
        owed.append(shares[owing])
    rows = np.arange(len(borrowers))
    classes, amounts = np.concatenate(numbers), np.concatenate(held)
    backed = np.flatnonzero(amounts)
    return LegArrays(
        borrowers,
        rows[backed],
        classes[backed],
        amounts[backed],
        rows,
        classes,
        np.concatenate(owed),
    )


def _floats(halves: NDArray[np.uint64]) -> Floats:
    floats: Floats = halves[:, 0].astype(np.float64) * HIGH + halves[:, 1].astype(np.float64)
    return floats


def factors(ledger: Ledger, prices: Mapping[int, int], timestamp: int) -> tuple[Floats, Floats]:
    """Return by market what a unit of collateral lets owe, and what a borrow share owes.

    `prices` are the oracles' by market number. A market without one or without a rate is NaN.
    """
    collateral = np.full(len(ledger.numbered), np.nan)
    debt = np.full(len(ledger.numbered), np.nan)
    for number, price in prices.items():
        pool = ledger.numbered[number]
        totals = pool.at(timestamp)
        if totals is None:
            continue
        collateral[number] = price / PRICE_SCALE * (pool.terms.lltv / WAD)
        assets, shares = totals.borrow_assets, totals.borrow_shares
        debt[number] = (assets + VIRTUAL_ASSETS) / (shares + VIRTUAL_SHARES)
    return collateral, debt
