"""What logs do not tell of a Clipper: its figures, read at each head; and when to take an auction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeper.chain.words import read, uint
from keeper.protocols.maker_clip.dutch import (
    Auction,
    Calculator,
    Exponential,
    Linear,
    Moment,
    Stairstep,
    best_moment,
    moments,
)
from keeper.protocols.maker_clip.ledger import Sale
from keeper.types import Call, CallResult
from keeper.units import BPS, WAD, Address

BLOCK_SECONDS = 12
MOST_MOMENTS = 200
NO_TAKE = 3
"""`stopped` from which on nothing can be taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A Clipper's figures at one head."""

    calculator: Calculator
    tail: int
    cusp: int
    chost: int
    stopped: int

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


def figure_calls(clip: Address, calculator: Address) -> list[Call]:
    """Return the reads of all figures; a calculator answers only what it has."""
    own = ("tail()", "cusp()", "chost()", "stopped()")
    theirs = ("cut()", "step()", "tau()")
    return [read(clip, name) for name in own] + [read(calculator, name) for name in theirs]


def figures_of(results: Sequence[CallResult]) -> Figures | None:
    """Return what the answers to `figure_calls` say, None when they do not tell enough."""
    words = [uint(each.data) if each.ok and len(each.data) == 32 else None for each in results]
    tail, cusp, chost, stopped, cut, step, tau = words
    if tail is None or cusp is None or chost is None or stopped is None:
        return None
    calculator: Calculator
    if cut is not None and step:
        calculator = Stairstep(cut, step)
    elif tau:
        calculator = Linear(tau)
    elif cut is not None:
        calculator = Exponential(cut)
    else:
        return None
    return Figures(calculator, tail, cusp, chost, stopped)


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
