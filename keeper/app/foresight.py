"""Ask for offers ahead: for what a fall of prices would make liquidatable, before it is."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from keeper.book.book import Book
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event
from keeper.ports import LendingProtocol, Offering, Placing, Terms
from keeper.types import NextBlock, Position, Prices
from keeper.units import WAD, Address

log = structlog.get_logger(__name__)

NEAR = 1.02
"""Health under which offers are asked for: a fall of 2 % between two heads is a lot."""
MOST = 8
"""Positions looked at, the riskiest first."""
_UNDER = WAD * 9_995 // 10_000


class Foresight:
    """After each head, size what nearly can be liquidated as if it could, and say what would be sold.

    Beside the line and never waited for. The venues with offers (`offering`, by name) note the sales;
    the riskiest position of a pair of tokens is the one that counts. Why offers are refused is told
    once for each reason.
    """

    def __init__(self, chain: str, book: Book, offering: Mapping[str, Offering]) -> None:
        self._chain = chain
        self._book = book
        self._offering = offering
        self._told: set[tuple[str, str]] = set()
        self._due = asyncio.Event()
        self._next_block: NextBlock

    def observe(self, subject: Report | Event) -> None:
        """Look after every head that was decided on."""
        if self._offering and isinstance(subject, Report):
            self._next_block = subject.view.next_block
            self._due.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.look(self._next_block)
            except TransientError as error:
                log.debug("foresight.overtaken", chain=self._chain, error=str(error))
            except Exception as error:
                # What is only asked for ahead is no reason to stop a chain.
                log.exception("foresight.failed", chain=self._chain, error=str(error))

    async def look(self, next_block: NextBlock) -> None:
        """Note what the positions near their threshold would have sold.

        Raises `TransientError` when the book went on meanwhile.
        """
        for name, venue in self._offering.items():
            for why in sorted(venue.refused):
                if (name, why) not in self._told:
                    self._told.add((name, why))
                    log.warning("offer.refused", chain=self._chain, venue=name, why=why)
        asked: set[tuple[Address, Address]] = set()
        for position in await self._book.positions(next_block, NEAR, MOST):
            market = self._book.markets[position.home]
            for terms in fallen(market.protocol, position, market.prices, next_block):
                pair = terms.collateral.address, terms.debt.address
                repay = terms.legal_down(terms.maximum)
                if pair in asked or pair[0] == pair[1] or repay <= 0:
                    continue
                asked.add(pair)
                for venue in self._offering.values():
                    venue.want(*pair, terms.seize(repay).received)


def fallen(
    protocol: LendingProtocol, position: Position, prices: Prices, at: NextBlock
) -> Iterable[Terms]:
    """Return what may be called on a position once its collateral has just fallen far enough."""
    if position.health < WAD:
        return protocol.pairs(position, prices, at)[0]
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
        return ()
    return protocol.pairs(under, lower, at)[0]
