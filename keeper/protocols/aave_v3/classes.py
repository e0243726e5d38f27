"""What the screen tells apart: collateral by reserve and eMode category, debt by reserve."""

import numpy as np
from numpy.typing import NDArray

from keeper.protocols.aave_v3.accounts import RESERVES

CATEGORIES = 256


class Classes:
    """Numbers of the collateral classes, given in the order they are first seen and kept.

    A class is a reserve held by members of one category, whether or not the category lists it:
    so neither terms nor lists of a category move a holder from one class to another.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, category: int, reserve: int) -> int:
        """Return a class's number, the next one at first sight."""
        return self._numbers.setdefault(category * RESERVES + reserve, len(self._numbers))

    def pairs(self) -> list[tuple[int, int]]:
        """Return the (category, reserve id) of every class, by number."""
        return [divmod(key, RESERVES) for key in self._numbers]

    def table(self) -> NDArray[np.intp]:
        """Return the class numbers by category · 128 + reserve id, -1 for those never seen."""
        table = np.full(CATEGORIES * RESERVES, -1, np.intp)
        table[list(self._numbers)] = range(len(self._numbers))
        return table
