"""Ask for offers ahead: for what a fall of prices would make liquidatable, before it is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from keeper.book.book import Book
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event
from keeper.planning.costs import Rates
from keeper.planning.offers import Offer, find_offers
from keeper.planning.rules import PlanRules
from keeper.planning.sequels import Sequel
from keeper.ports import LendingProtocol, Offering, Placing
from keeper.types import (
    Cause,
    Limits,
    NextBlock,
    Opportunity,
    Position,
    Prices,
    Skip,
    View,
)
from keeper.units import WAD, Address, Usd

log = structlog.get_logger(__name__)

NEAR = 1.02
"""Health under which offers are asked for: a fall of 2 % between two heads is a lot."""
MOST = 8
"""Positions looked at, the riskiest first."""
FALLEN = 200
"""Positions passed over at most to find those: what has fallen already is planning's to size."""
_UNDER = WAD * 9_995 // 10_000


class Foresight:
    """After each head, size what nearly can be liquidated as if it could, and say what would be sold.

    Beside the line and never waited for. The venues with offers (`offering`, by name) note the sales,
    no larger than the `rules` of planning allow; the riskiest position of a pair of tokens is the one
    that counts. Why offers are refused is told once for each reason.
    """

    def __init__(
        self,
        chain: str,
        book: Book,
        offering: Mapping[str, Offering],
        rules: Callable[[], PlanRules],
    ) -> None:
        self._chain = chain
        self._book = book
        self._offering = offering
        self._rules = rules
        self._told: set[tuple[str, str]] = set()
        self._due = asyncio.Event()
        self._view: View

    def observe(self, subject: Report | Event) -> None:
        """Look after every head that was decided on."""
        if self._offering and isinstance(subject, Report):
            self._view = subject.view
            self._due.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.look(self._view)
            except TransientError as error:
                log.debug("foresight.overtaken", chain=self._chain, error=str(error))
            except Exception as error:
                # What is only asked for ahead is no reason to stop a chain.
                log.exception("foresight.failed", chain=self._chain, error=str(error))

    async def look(self, view: View) -> None:
        """Note what the positions near their threshold would have sold.

        Raises `TransientError` when the book went on meanwhile.
        """
        for name, venue in self._offering.items():
            for why in sorted(venue.refused):
                if (name, why) not in self._told:
                    self._told.add((name, why))
                    log.warning("offer.refused", chain=self._chain, venue=name, why=why)
        rates, rules = Rates(view), self._rules()
        asked: set[tuple[Address, Address]] = set()
        passed = min(len(view.at_risk), FALLEN)
        under = await self._book.positions(view.next_block, NEAR, MOST + passed)
        for position in [each for each in under if each.health >= WAD][:MOST]:
            market = self._book.markets[position.home]
            found = fallen(market.protocol, position, market.prices, view.next_block)
            for offer in _allowed(found, rates, rules):
                pair = offer.terms.collateral.address, offer.terms.debt.address
                if pair in asked or pair[0] == pair[1]:
                    continue
                asked.add(pair)
                for venue in self._offering.values():
                    venue.want(*pair, offer.seizure.received, is_foreseen=True)


def fallen(
    protocol: LendingProtocol, position: Position, prices: Prices, at: NextBlock
) -> Opportunity | None:
    """Return a position once its collateral has just fallen far enough, with what may be called.

    None when no fall of it would bring the position down.
    """
    debts = {leg.token.address for leg in position.debt}
    values = dict(prices.values)
    for leg in position.collateral:
        price = values.get(leg.token.address)
        if price is not None and leg.token.address not in debts:
            values[leg.token.address] = price * _UNDER // position.health
    lower = replace(prices, values=values)
    account = protocol.account(position) if isinstance(protocol, Placing) else position.borrower
    under = protocol.position(account, lower, at)
    if under is None or under.health >= WAD:
        return None
    pairs, _ = protocol.pairs(under, lower, at)
    return Opportunity(under, tuple(pairs), Cause.PRICE)


def _allowed(found: Opportunity | None, rates: Rates, rules: PlanRules) -> Sequence[Offer]:
    if found is None:
        return ()
    offers = find_offers(Sequel(found, Limits(Usd(0))), rates, rules)
    return () if isinstance(offers, Skip) else offers
