"""Auctions and urns as the float screen holds them: two classes, of which auctions are never safe."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.maker_clip.ledger import Kind, Ledger
from keeper.units import RAY, Address

AUCTIONED, OWED = 0, 1


def legs(ledger: Ledger, name: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return a leg each of an auction, so that it is looked at, or of an urn with debt."""
    if ledger.sale(name) is not None:
        return ((AUCTIONED, 1),), ((AUCTIONED, 1),)
    urn = ledger.urns.get(name)
    if urn is None or not urn.art:
        return (), ()
    return ((OWED, urn.ink),), ((OWED, urn.art),)


def all_legs(ledger: Ledger) -> Callable[[], LegArrays]:
    """Freeze the ledger and return what gathers everybody's legs."""
    auctions = [ledger.name_of(number) for number in ledger.sales]
    urns = dict(ledger.urns)

    def gathered() -> LegArrays:
        owing = {owner: urn for owner, urn in urns.items() if urn.art}
        names = [*auctions, *owing]
        rows = np.arange(len(names), dtype=np.intp)
        classes = np.full(len(names), OWED, np.intp)
        classes[: len(auctions)] = AUCTIONED
        held, owed = np.ones(len(names)), np.ones(len(names))
        held[len(auctions) :] = [float(urn.ink) for urn in owing.values()]
        owed[len(auctions) :] = [float(urn.art) for urn in owing.values()]
        return LegArrays(names, rows, classes, held, rows, classes, owed)

    return gathered


def factors(kind: Kind) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a unit of each class counts for: collateral at the Vat's spot, debt at its rate."""
    return np.array([0.0, kind.spot / RAY]), np.array([1.0, kind.rate / RAY])
