"""What the liquidations of one head leave in the reserves they all draw on."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from keeper.planning.grouping import cover_up
from keeper.planning.offers import Offer
from keeper.ports import LendingProtocol
from keeper.types import FlashSource, Quote, Step
from keeper.units import BPS, Address

Pot = tuple[str, Address]
"""A market and a token of its reserves."""


class Liquidity:
    """Collateral is withdrawn from reserves, and a market's own flash loan comes out of them too.

    A token that is both lent and seized is counted once for all transactions of a head, which is
    more careful than need be where they follow each other.
    """

    def __init__(
        self,
        markets: Mapping[str, LendingProtocol],
        offers: Iterable[Offer],
        sources: Mapping[Address, FlashSource],
    ) -> None:
        self._left: dict[Pot, int] = {}
        self._pots: dict[FlashSource, Pot] = {}
        self._lenders: dict[Address, Pot] = {}
        for pot in {offer.pot for offer in offers}:
            market, token = pot
            left = markets[market].withdrawable(token)
            if left is None:
                continue
            self._left[pot] = left
            own = markets[market].flash_sources(token)
            self._pots |= dict.fromkeys(own, pot)
            if sources.get(token) in own:
                self._lenders[token] = pot

    def take(self, quote: Quote) -> None:
        """Take what a quote borrows and seizes."""
        self._add(quote.opportunity.position.home, quote.steps[0], -1)

    def give(self, quote: Quote) -> None:
        """Give back what a quote took."""
        self._add(quote.opportunity.position.home, quote.steps[0], 1)

    def _add(self, market: str, step: Step, sign: int) -> None:
        drawn = (
            (self._lenders.get(step.terms.debt.address), cover_up(step)),
            ((market, step.terms.collateral.address), step.seizure.received),
        )
        for pot, amount in drawn:
            if pot is not None and pot in self._left:
                self._left[pot] += sign * amount

    def lends_down(self, offer: Offer) -> int | None:
        """Return the most that is left to borrow for an offer, None without a bound."""
        pot = self._lenders.get(offer.terms.debt.address)
        if pot is None:
            return None
        left = max(self._left[pot], 0)
        # The same reserve pays the loan out and then the collateral.
        return left * BPS // (BPS + offer.terms.bonus) if pot == offer.pot else left

    def spared(self, source: FlashSource) -> FlashSource:
        """Return a source as what lends beside or instead of the first, with what all else leaves it."""
        pot = self._pots.get(source)
        if pot is None or source.available <= self._left[pot]:
            return source
        return replace(source, available=max(self._left[pot], 0))

    def within(self, offer: Offer) -> Offer | None:
        """Return an offer as large as its collateral can still be withdrawn, None for none."""
        left = self._left.get(offer.pot)
        if left is None:
            return offer
        repay, seizure = offer.largest, offer.seizure
        while seizure.received > left:
            repay = offer.terms.legal_down(min(repay - 1, repay * left // seizure.received))
            if repay <= 0:
                return None
            seizure = offer.terms.seize(repay)
        return offer if repay == offer.largest else replace(offer, largest=repay, seizure=seizure)
