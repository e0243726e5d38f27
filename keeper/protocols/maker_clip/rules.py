"""What logs do not tell of a Clipper and its Dog, read at each head; and when to take an auction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeper.chain.words import address, answered, read, uint
from keeper.protocols.maker_clip.dutch import (
    Auction,
    Calculator,
    Exponential,
    Linear,
    Moment,
    Stairstep,
    Vault,
    best_moment,
    moments,
)
from keeper.protocols.maker_clip.ledger import Kind, Sale, Urn
from keeper.types import Call, CallResult
from keeper.units import BPS, WAD, Address

BLOCK_SECONDS = 12
MOST_MOMENTS = 200
NO_BARK, NO_REDO, NO_TAKE = 1, 2, 3
"""`stopped` from which on nothing can be started, started anew, taken."""
_OWN = ("tail()", "cusp()", "chost()", "stopped()", "tip()", "chip()")
_DOG = ("Hole()", "Dirt()", "live()")
_CALCULATOR = ("cut()", "step()", "tau()")
_MILK = 4
"""Words of Dog.ilks: Clipper, penalty, most, running."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """The contracts of one Clipper; `ilk` is the Vat's word for the collateral."""

    clip: Address
    dog: Address
    vat: Address
    auctioneer: Address
    ilk: bytes


@dataclass(frozen=True, slots=True)
class Figures:
    """A Clipper's and its Dog's figures at one head.

    `room` is what may still be auctioned (rad); `barks` whether the Dog hands urns to this Clipper.
    """

    calculator: Calculator
    tail: int
    cusp: int
    chost: int
    stopped: int
    tip: int
    chip: int
    room: int
    chop: int
    barks: bool

    def auction(self, sale: Sale) -> Auction:
        """Return one auction under these figures."""
        return Auction(
            sale.lot,
            sale.tab,
            sale.tic,
            sale.top,
            self.calculator,
            self.tail,
            self.cusp,
            self.chost,
        )

    def vault(self, urn: Urn, kind: Kind) -> Vault:
        """Return one urn under these figures."""
        return Vault(urn.ink, urn.art, kind.rate, kind.spot, kind.dust, self.room, self.chop)


def figure_calls(contracts: Contracts, calculator: Address) -> list[Call]:
    """Return the reads of all figures; a calculator answers only what it has."""
    return [
        read(contracts.clip, "calc()"),
        read(contracts.clip, "dog()"),
        *(read(contracts.clip, name) for name in _OWN),
        *(read(contracts.dog, name) for name in _DOG),
        read(contracts.dog, "ilks(bytes32)", contracts.ilk),
        *(read(calculator, name) for name in _CALCULATOR),
    ]


def calculator_named(results: Sequence[CallResult]) -> Address | None:
    """Return the calculator that the Clipper names in the answers to `figure_calls`."""
    return address(results[0].data) if answered(results[0]) else None


def figures_of(results: Sequence[CallResult], contracts: Contracts) -> Figures | None:
    """Return what the answers to `figure_calls` say, None when they do not tell enough.

    The auctioneer calls one Dog for good: where the Clipper names another there are no figures.
    """
    _, named, *rest = results
    if not answered(named) or address(named.data) != contracts.dog:
        return None
    own, rest = rest[: len(_OWN)], rest[len(_OWN) :]
    dog, (milk, *asked) = rest[: len(_DOG)], rest[len(_DOG) :]
    if not all(map(answered, (*own, *dog))) or not answered(milk, _MILK):
        return None
    calculator = _calculator(asked)
    if calculator is None:
        return None
    tail, cusp, chost, stopped, tip, chip = (uint(each.data) for each in own)
    hole, dirt, live = (uint(each.data) for each in dog)
    chop, most, running = (uint(milk.data, place) for place in (1, 2, 3))
    return Figures(
        calculator,
        tail,
        cusp,
        chost,
        stopped,
        tip,
        chip,
        min(hole - dirt, most - running),
        chop,
        live == 1 and address(milk.data) == contracts.clip,
    )


def _calculator(asked: Sequence[CallResult]) -> Calculator | None:
    cut, step, tau = (uint(each.data) if answered(each) else None for each in asked)
    if cut is not None and step:
        return Stairstep(cut, step)
    if tau:
        return Linear(tau)
    return None if cut is None else Exponential(cut)


def times(auction: Auction, first: int) -> Iterator[int]:
    """Yield when to look at an auction from a time on: at each new price, a block apart at least."""
    timestamp = first
    for _ in range(MOST_MOMENTS):
        yield timestamp
        timestamp = max(auction.next_change(timestamp), timestamp + BLOCK_SECONDS)


def best(
    auction: Auction, price: int, slippage: int, cost: int, survival_ppm: int, first: int
) -> Moment | None:
    """Return the best moment from a time on, at a price in wad and a sale that loses `slippage` bps."""

    def sale(amount: int) -> int:
        return amount * price * (BPS - slippage) // (WAD * BPS)

    found = moments(auction, sale, cost, times(auction, first))
    return best_moment(found, survival_ppm)
