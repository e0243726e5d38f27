"""The running auctions of one Clipper, and what its logs do to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from keeper.chain.words import topic, uint, uints
from keeper.errors import UndecodableError
from keeper.types import Log, Undo
from keeper.units import Address

KICK = topic("Kick(uint256,uint256,uint256,uint256,address,address,uint256)")
TAKE = topic("Take(uint256,uint256,uint256,uint256,uint256,uint256,address)")
REDO = topic("Redo(uint256,uint256,uint256,uint256,address,address,uint256)")
YANK = topic("Yank(uint256)")
TOPICS = frozenset({KICK, TAKE, REDO, YANK})


class Sale(NamedTuple):
    """One auction as the contract stores it: `tab` in rad, `lot` in wad, `top` in ray."""

    tab: int
    lot: int
    tic: int
    top: int


def name_of(number: int) -> Address:
    """Return what an auction is called where borrowers have addresses: its number."""
    return Address(number.to_bytes(20, "big"))


def number_of(borrower: Address) -> int:
    """Return the auction behind such an address."""
    return int.from_bytes(borrower, "big")


@dataclass(slots=True)
class Ledger:
    """The auctions by number; `touched` are those that changed since they were read."""

    market: str
    sales: dict[int, Sale] = field(default_factory=dict)
    touched: set[Address] = field(default_factory=set)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `UndecodableError` when it cannot be right."""
        step = _STEPS.get(log.topics[0]) if log.topics else None
        if step is None:
            return None
        try:
            number = _number(log)
            before = self.sales.get(number)
            after = step(log, before)
        except (LookupError, ValueError) as error:
            raise UndecodableError(
                self.market, f"log {log.index} of block {log.block_number} makes no sense: {error}"
            ) from error
        self._put(number, after)
        return lambda: self._put(number, before)

    def _put(self, number: int, sale: Sale | None) -> None:
        self.touched.add(name_of(number))
        if sale is None:
            self.sales.pop(number, None)
        else:
            self.sales[number] = sale


def _number(log: Log) -> int:
    """Return an auction's number; Yank does not index it (clip.sol)."""
    if log.topics[0] == YANK and len(log.topics) == 1:
        return uints(log.data, 1)[0]
    return uint(log.topics[1])


def _kicked(log: Log, _before: Sale | None) -> Sale:
    top, tab, lot, _coin = uints(log.data, 4)
    return Sale(tab, lot, log.timestamp, top)


def _redone(log: Log, before: Sale | None) -> Sale:
    top, tab, lot, _coin = uints(log.data, 4)
    if before is None:
        raise ValueError("its auction is not there")
    return Sale(tab, lot, log.timestamp, top)


def _taken(log: Log, before: Sale | None) -> Sale | None:
    _most, _price, _owe, tab, lot = uints(log.data, 5)
    if before is None:
        raise ValueError("its auction is not there")
    return before._replace(tab=tab, lot=lot) if tab and lot else None


def _yanked(_log: Log, _before: Sale | None) -> None:
    return None


_STEPS: Mapping[bytes, Callable[[Log, Sale | None], Sale | None]] = {
    KICK: _kicked,
    REDO: _redone,
    TAKE: _taken,
    YANK: _yanked,
}
