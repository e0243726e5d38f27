"""Several calls on one position, tried on the sales and reserves of one head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from keeper.planning.gas import FUND, extra_gas, group_gas
from keeper.planning.grouping import cover_up
from keeper.planning.offers import Offer
from keeper.planning.rules import Choice
from keeper.planning.sequencing import Move
from keeper.ports import LendingProtocol, Terms
from keeper.types import Limits, NextBlock, Opportunity, Position, Prices, Quote
from keeper.units import Address, Usd

_NEVER = -(10**40)

Pair = tuple[Address, Address]
"""Collateral and debt."""
Key = tuple[Address, Address, int]
"""A pair, and what tells its calls from those on another of the same tokens."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a sequence, priced behind those before it."""

    offer: Offer
    quote: Quote


@dataclass(frozen=True, slots=True)
class Sequel:
    """A choice of what earlier calls leave of a position."""

    opportunity: Opportunity
    limits: Limits


class Desk(Protocol):
    """Prices calls behind what stands: everybody's sales, and the calls it was told to stand on."""

    def stand(self, calls: Sequence[Call]) -> None:
        """Sell what these calls sell, instead of those told before."""
        ...

    def offer(self, choice: Choice) -> Offer | None:
        """Return the one pair of a choice as far as limits, reserves and loans allow it."""
        ...

    def bound(self, offer: Offer) -> int:
        """Return at least the dollars an offer can earn before costs."""
        ...

    def best(self, offer: Offer) -> int:
        """Return the repay that earns most, 0 for none."""
        ...

    def draft(self, offer: Offer, repay: int) -> Quote:
        """Return a legal repay's quote, marginal costs only."""
        ...

    def dollars(self, offer: Offer, gas: int) -> Usd:
        """Return what gas costs."""
        ...


class PairRules:
    """A market's rules at one block, for the pairs a strategy chose."""

    def __init__(
        self, market: LendingProtocol, prices: Prices, at: NextBlock, pairs: frozenset[Pair]
    ) -> None:
        self._market = market
        self._prices = prices
        self._at = at
        self._pairs = pairs
        self._known: dict[int, tuple[Position, tuple[Terms, ...]]] = {}

    def pairs(self, position: Position) -> Sequence[Terms]:
        """Return the chosen pairs that are open on a position."""
        known = self._known.get(id(position))
        if known is None:
            found, _ = self._market.pairs(position, self._prices, self._at)
            chosen = tuple(terms for terms in found if pair_of(terms) in self._pairs)
            # the position is kept, so that no other one takes its id
            known = self._known[id(position)] = position, chosen
        return known[1]

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a legal call leaves."""
        return self._market.after(position, terms, repay)


class Trial:
    """What calls net behind others on the same position, in dollars of 8 decimals."""

    def __init__(self, desk: Desk, choice: Choice, calls: tuple[Call, ...] = ()) -> None:
        self._desk = desk
        self._choice = choice
        self.calls = calls
        self._offers: dict[Key, Offer | None] = {}
        self._best: dict[Key, int] = {}

    def bound(self, position: Position, terms: Terms) -> int:
        """Return at least what a call nets; negative when none can be made."""
        offer = self._offer(position, terms)
        if offer is None:
            return _NEVER
        self._desk.stand(self.calls)
        return self._desk.bound(offer)

    def best(self, position: Position, terms: Terms) -> int:
        """Return the repay that earns most as the last call; 0 when none can be made."""
        offer = self._offer(position, terms)
        if offer is None:
            return 0
        key = _key(terms)
        if key not in self._best:
            self._desk.stand(self.calls)
            self._best[key] = self._desk.best(offer)
        return self._best[key]

    def most(self, position: Position, terms: Terms) -> int:
        """Return the largest legal repay that can be funded and withdrawn; 0 when there is none."""
        offer = self._offer(position, terms)
        return 0 if offer is None else offer.largest

    def value(self, position: Position, terms: Terms, repay: int) -> int:
        """Return what a call nets, less the gas of a group or loan that it alone needs."""
        call = self._call(position, terms, repay)
        return _NEVER if call is None else call.quote.net_usd - self._overhead(call)

    def after(self, position: Position, terms: Terms, repay: int) -> "Trial":
        """Return the trial behind a call."""
        call = self._call(position, terms, repay)
        return self if call is None else Trial(self._desk, self._choice, (*self.calls, call))

    def _overhead(self, call: Call) -> int:
        if not self.calls:
            return 0
        gas = 0
        if call.offer.lane != self.calls[-1].offer.lane:
            hops = call.quote.hops
            gas += group_gas(max(len(hops), 1), extra_gas(hops))
        if all(call.quote.debt != other.quote.debt for other in self.calls):
            gas += FUND[call.quote.flash.kind]
        return self._desk.dollars(call.offer, gas) if gas else 0

    def _call(self, position: Position, terms: Terms, repay: int) -> Call | None:
        offer = self._offer(position, terms)
        if offer is None or repay <= 0:
            return None
        self._desk.stand(self.calls)
        return Call(offer, self._desk.draft(offer, repay))

    def _offer(self, position: Position, terms: Terms) -> Offer | None:
        key = _key(terms)
        if key not in self._offers:
            self._desk.stand(self.calls)
            self._offers[key] = self._desk.offer(self._sequel(position, terms))
        return self._offers[key]

    def _sequel(self, position: Position, terms: Terms) -> Sequel:
        limits = self._choice.limits
        if limits.largest_repay is not None:
            used = sum(call.offer.rate.usd_down(call.quote.repaid) + 1 for call in self.calls)
            limits = replace(limits, largest_repay=Usd(max(limits.largest_repay - used, 0)))
        opportunity = replace(self._choice.opportunity, position=position, pairs=(terms,))
        return Sequel(opportunity, limits)


def linked(trial: Trial, moves: Sequence[Move]) -> tuple[Call, ...]:
    """Return the calls of a sequence, numbered: those of one lane in a row share a stage.

    Each has to pay for itself; the last one brings the profit asked for. None where one cannot be
    funded or withdrawn any more.
    """
    for move in moves:
        if trial.most(move.position, move.terms) < move.repay:
            return ()
        trial = trial.after(move.position, move.terms, move.repay)
    calls: list[Call] = []
    stage = 0
    for part, call in enumerate(trial.calls):
        if part and call.offer.lane != trial.calls[part - 1].offer.lane:
            stage += 1
        parts = len(trial.calls)
        minimum = call.quote.minimum_profit if part + 1 == parts else 1
        quote = replace(call.quote, part=part, parts=parts, stage=stage, minimum_profit=minimum)
        calls.append(replace(call, quote=quote))
    return tuple(calls)


def borrowed(calls: Sequence[Call], debt: Address) -> int:
    """Return what calls borrow of a token together."""
    return sum(cover_up(call.quote.steps[0]) for call in calls if call.quote.debt.address == debt)


def pair_of(terms: Terms) -> Pair:
    """Return the tokens of a pair."""
    return terms.collateral.address, terms.debt.address


def _key(terms: Terms) -> Key:
    return *pair_of(terms), getattr(terms, "way", 0)
