"""What is taken of each position: one claim for each strategy that wants it, and the calls behind it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from keeper.planning.grouping import PositionKey
from keeper.planning.offers import Offer
from keeper.planning.sequels import Call
from keeper.types import Quote, Skip


class Taken(NamedTuple):
    """One claim on a position, with its quote or why it has none, and the calls behind that."""

    offer: Offer
    result: Quote | Skip
    more: tuple[Call, ...] = ()

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return every call in order, none without a quote."""
        if isinstance(self.result, Skip):
            return ()
        return (Call(self.offer, self.result), *self.more)

    @property
    def net_usd(self) -> int:
        """Return what all calls net, marginal costs only."""
        return sum(call.quote.net_usd for call in self.calls)


def best_of(taken: Sequence[Taken]) -> Taken | None:
    """Return the claim whose quotes net most, None when there is no quote."""
    best: Taken | None = None
    for each in taken:
        if each.calls and (best is None or each.net_usd > best.net_usd):
            best = each
    return best


def calls_of(taken: Sequence[Taken]) -> tuple[Call, ...]:
    """Return the calls of the claim whose quotes net most."""
    best = best_of(taken)
    return () if best is None else best.calls


def every_call(settled: Mapping[PositionKey, Sequence[Taken]]) -> Iterator[Call]:
    """Yield the calls of every position, in the order they were taken."""
    for taken in settled.values():
        yield from calls_of(taken)
