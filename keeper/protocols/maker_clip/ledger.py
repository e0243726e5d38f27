"""The running auctions of one Clipper and the urns behind it, and what logs do to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from keeper.chain.words import topic, uint, uints
from keeper.errors import UndecodableError
from keeper.protocols.maker_clip import notes
from keeper.types import Log, Undo
from keeper.units import RAY, Address

KICK = topic("Kick(uint256,uint256,uint256,uint256,address,address,uint256)")
TAKE = topic("Take(uint256,uint256,uint256,uint256,uint256,uint256,address)")
REDO = topic("Redo(uint256,uint256,uint256,uint256,address,address,uint256)")
YANK = topic("Yank(uint256)")
TOPICS = frozenset({KICK, TAKE, REDO, YANK})
_PREFIX = 12
"""Bytes of the Clipper's address that an auction's name starts with; its number is the rest."""


class Sale(NamedTuple):
    """One auction as the contract stores it: `tab` in rad, `lot` in wad, `top` in ray."""

    tab: int
    lot: int
    tic: int
    top: int


class Urn(NamedTuple):
    """Collateral and debt of one owner, the debt without its rate, both in wad."""

    ink: int
    art: int


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for all urns of one collateral: `rate` and `spot` in ray, `dust` in rad."""

    rate: int = RAY
    spot: int = 0
    dust: int = 0


@dataclass(slots=True)
class Ledger:
    """Auctions by number and urns by owner; `touched` are the names of those that changed.

    `ilk` is the Vat's word for the collateral.
    """

    market: str
    clip: Address
    vat: Address
    ilk: bytes
    sales: dict[int, Sale] = field(default_factory=dict)
    urns: dict[Address, Urn] = field(default_factory=dict)
    kind: Kind = Kind()  # frozen
    touched: set[Address] = field(default_factory=set)

    def name_of(self, number: int) -> Address:
        """Return what an auction is called where borrowers have addresses, unlike any other's."""
        return Address(self.clip[:_PREFIX] + number.to_bytes(20 - _PREFIX, "big"))

    def number_of(self, name: Address) -> int | None:
        """Return the auction behind such an address, None for an urn's owner."""
        if name[:_PREFIX] != self.clip[:_PREFIX]:
            return None
        return int.from_bytes(name[_PREFIX:], "big")

    def sale(self, name: Address) -> Sale | None:
        """Return an auction by its name."""
        number = self.number_of(name)
        return None if number is None else self.sales.get(number)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `UndecodableError` when it cannot be right."""
        if not log.topics:
            return None
        try:
            if log.address == self.clip and log.topics[0] in _STEPS:
                return self._fold_sale(log, _STEPS[log.topics[0]])
            if log.address == self.vat and log.topics[0] in notes.TOPICS:
                return self._fold_note(log)
        except (LookupError, ValueError) as error:
            raise UndecodableError(
                self.market, f"log {log.index} of block {log.block_number} makes no sense: {error}"
            ) from error
        return None

    def _fold_sale(self, log: Log, step: "Step") -> Undo:
        number = _number(log)
        before = self.sales.get(number)
        after = step(log, before)
        self._put(number, after)
        return lambda: self._put(number, before)

    def _fold_note(self, log: Log) -> Undo | None:
        if log.topics[1] != self.ilk:
            return None
        match notes.decode(log):
            case notes.Moved(owners):
                before = {owner: self.urns.get(owner) for owner, _, _ in owners}
                for owner, ink, art in owners:
                    held = self.urns.get(owner, Urn(0, 0))
                    self._put_urn(owner, Urn(held.ink + ink, held.art + art))

                def back() -> None:
                    for owner, urn in before.items():
                        self._put_urn(owner, urn)

                return back
            case notes.Folded(rate):
                return self._set(replace(self.kind, rate=self.kind.rate + rate))
            case notes.Filed(what, value) if what in {"spot", "dust"}:
                return self._set(replace(self.kind, **{what: value}))
        return None

    def _set(self, kind: Kind) -> Undo:
        before, self.kind = self.kind, kind

        def back() -> None:
            self.kind = before

        return back

    def _put(self, number: int, sale: Sale | None) -> None:
        self.touched.add(self.name_of(number))
        if sale is None:
            self.sales.pop(number, None)
        else:
            self.sales[number] = sale

    def _put_urn(self, owner: Address, urn: Urn | None) -> None:
        if urn is not None and min(urn) < 0:
            raise ValueError(f"the urn of 0x{owner.hex()} would hold less than nothing")
        self.touched.add(owner)
        if urn is None or urn == (0, 0):
            self.urns.pop(owner, None)
        else:
            self.urns[owner] = urn


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


Step = Callable[[Log, Sale | None], Sale | None]
_STEPS: Mapping[bytes, Step] = {KICK: _kicked, REDO: _redone, TAKE: _taken, YANK: _yanked}
