"""Look now and then how far every position is from its threshold, for the metrics alone."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from keeper.book.market import MarketBook
from keeper.book.spread import FALLS, Spread
from keeper.engine import Report
from keeper.errors import InvariantError
from keeper.metrics import Metrics
from keeper.observers.observation import Event
from keeper.types import NextBlock

log = structlog.get_logger(__name__)

HEADS = 10
"""Heads between two looks."""


class Survey:
    """Spread the positions of each protocol by health, beside the line and never waited for."""

    def __init__(self, chain: str, markets: Mapping[str, MarketBook], metrics: Metrics) -> None:
        self._chain = chain
        self._markets = markets
        self._metrics = metrics
        self._left = 0
        self._due = asyncio.Event()
        self._next_block: NextBlock

    def observe(self, subject: Report | Event) -> None:
        """Count heads that were decided on."""
        if isinstance(subject, Report):
            self._left -= 1
            if self._left < 0:
                self._left = HEADS - 1
                self._next_block = subject.view.next_block
                self._due.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            for protocol in {market.protocol.protocol for market in self._markets.values()}:
                await self._look(protocol)

    async def _look(self, protocol: str) -> None:
        found: list[tuple[Spread, int]] = []
        for market in self._markets.values():
            if market.protocol.protocol != protocol or market.protocol.stopped:
                continue
            try:
                spread = await market.spread(self._next_block)
            except InvariantError as error:
                log.debug("survey.failed", chain=self._chain, protocol=protocol, error=str(error))
                return
            except Exception as error:
                # What is only shown is no reason to stop a chain.
                log.exception(
                    "survey.failed", chain=self._chain, protocol=protocol, error=str(error)
                )
                return
            if spread is None:
                return
            found.append((spread, market.prices.unit))
        if found:
            self._metrics.health(self._chain, protocol, *summed(found))


def summed(spreads: Sequence[tuple[Spread, int]]) -> tuple[list[int], list[float] | None]:
    """Add up markets, each with its base currency's unit: positions, and debts in whole units.

    No debts when those of one market are not known.
    """
    positions = [sum(spread.positions[step] for spread, _ in spreads) for step in range(len(FALLS))]
    debts = [0.0] * len(FALLS)
    for spread, unit in spreads:
        if spread.debts is None:
            return positions, None
        for step, debt in enumerate(spread.debts):
            debts[step] += debt / unit
    return positions, debts
