"""The ledger as the float screen takes it: a class is a place, values are in its loan token.

A place is a market, or a pre-liquidation contract.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.morpho_blue.accounts import KEY, key_of, number_of, unpack
from keeper.protocols.morpho_blue.early import FIRST
from keeper.protocols.morpho_blue.fixed import PRICE_SCALE, VIRTUAL_ASSETS, VIRTUAL_SHARES
from keeper.protocols.morpho_blue.ledger import Ledger
from keeper.types import Prices
from keeper.units import WAD, Address

Floats = NDArray[np.float64]
RECORD = np.dtype([("held", ">u8", 2), ("owed", ">u8", 2)])
HIGH = 2.0**64


def legs(ledger: Ledger, key: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return collateral and borrow shares under the place's class; none without debt."""
    held, shares = unpack(ledger.record(key))
    if not shares:
        return (), ()
    number = ledger.class_of(number_of(key))
    return ((number, held),) if held else (), ((number, shares),)


def gather(
    shards: Sequence[Mapping[Address, bytes]], early: Sequence[tuple[int, int, frozenset[Address]]]
) -> LegArrays:
    """Return every debtor's legs from frozen shards.

    `early` are number, market's number and authorisers of each pre-liquidation contract.
    """
    shards = [*shards, *_early(shards, early)]
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
        places = head["number"][owing].astype(np.intp)
        numbers.append(np.where(places < FIRST, places + len(early), places - FIRST))
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


def _early(
    shards: Sequence[Mapping[Address, bytes]], early: Sequence[tuple[int, int, frozenset[Address]]]
) -> Iterator[Mapping[Address, bytes]]:
    """Yield the records of each contract's accounts."""
    for number, pool, authorisers in early:
        yield {
            key_of(number, who): record
            for who in authorisers
            if (record := shards[who[-1]].get(key_of(pool, who))) is not None
        }


def _floats(halves: NDArray[np.uint64]) -> Floats:
    floats: Floats = halves[:, 0].astype(np.float64) * HIGH + halves[:, 1].astype(np.float64)
    return floats


def worth(ledger: Ledger, prices: Prices) -> Floats:
    """Return by class the price of the loan token's smallest unit, NaN for one that was not read."""
    found = np.full(len(ledger.early) + len(ledger.numbered), np.nan)
    numbers = [each.number for each in ledger.numbered]
    numbers += [each.number for each in ledger.early if each.terms.id in ledger.pools]
    for number in numbers:
        pool, _ = ledger.pool_of(number)
        base = prices.get(pool.terms.loan)
        if base and pool.loan is not None:
            found[ledger.class_of(number)] = base / 10**pool.loan.decimals
    return found


def factors(ledger: Ledger, prices: Mapping[int, int], timestamp: int) -> tuple[Floats, Floats]:
    """Return by class what a unit of collateral lets owe, and what a borrow share owes.

    `prices` are the oracles' by the place's number. A place without one or without a rate is NaN.
    """
    collateral = np.full(len(ledger.early) + len(ledger.numbered), np.nan)
    debt = np.full(len(collateral), np.nan)
    for number, price in prices.items():
        pool, early = ledger.pool_of(number)
        totals = pool.at(timestamp)
        if totals is None:
            continue
        kind, lltv = ledger.class_of(number), (early or pool).terms.lltv
        collateral[kind] = price / PRICE_SCALE * (lltv / WAD)
        assets, shares = totals.borrow_assets, totals.borrow_shares
        debt[kind] = (assets + VIRTUAL_ASSETS) / (shares + VIRTUAL_SHARES)
    return collateral, debt
