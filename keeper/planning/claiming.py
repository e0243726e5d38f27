"""One claim on a position: the pair and size, or the several calls, that net most behind others."""

from collections.abc import Sequence

from keeper.planning.appraising import Appraisal, Costs
from keeper.planning.calling import Calling
from keeper.planning.explain import explain_loss
from keeper.planning.grouping import cover_up_repay
from keeper.planning.loans import Loans
from keeper.planning.offers import Offer, refuse, refuse_toxic
from keeper.planning.selling import Selling
from keeper.planning.sizing import Size
from keeper.planning.taken import Taken
from keeper.planning.trust import Trust
from keeper.types import Quote, Reason


class Claiming:
    """Quotes positions one by one on what is sold and lent so far."""

    def __init__(
        self,
        costs: Costs,
        trust: Trust,
        selling: Selling,
        loans: Loans,
        appraisal: Appraisal,
        calling: Calling,
    ) -> None:
        self._costs = costs
        self._trust = trust
        self._selling = selling
        self._loans = loans
        self._appraisal = appraisal
        self._calling = calling

    def quote(self, offers: Sequence[Offer]) -> Taken:
        """Return what a claim's offers come to: one call, several where they net more, or why not."""
        alone = [offer for offer in offers if offer.alone]
        choice = offers[0].choice
        if alone:
            taken = self._single(alone)
        else:
            symbol = offers[0].terms.collateral.symbol
            taken = Taken(offers[0], refuse_toxic(choice, symbol))
        if choice.limits.calls > 1 and not choice.limits.whole:
            calls = self._calling.sequence(offers)
            if len(calls) > 1:
                found = Taken(calls[0].offer, calls[0].quote, calls[1:])
                if found.net_usd > taken.net_usd:
                    return found
        return taken

    def whole(self, claims: Sequence[Sequence[Offer]]) -> tuple[Offer, Quote] | None:
        """Return the pair of a position that returns most, taken in full, and a draft of its quote.

        None where several strategies want the position, several calls may be made on it, or
        something does not let it be taken whole.
        """
        choice = claims[0][0].choice
        if choice.limits.calls > 1 and not choice.limits.whole:
            return None
        offer = max(claims[0], key=self._appraisal.returns)
        source = self._loans.source(offer)
        if len(claims) > 1 or source is None or not self._selling[offer.lane].is_open:
            return None
        if self._loans.liquidity.within(offer) is not offer:
            return None
        available = self._loans.available(offer, source, ())
        if cover_up_repay(offer.terms, offer.largest) > available or offer.seizure.received <= 0:
            return None
        size = Size(offer.largest, offer.seizure, 0, 0)
        return offer, self._appraisal.draft(offer, source, size)

    def _single(self, offers: Sequence[Offer]) -> Taken:
        choice = offers[0].choice
        drawn = [found for offer in offers if (found := self._loans.liquidity.within(offer))]
        if not drawn:
            symbol = offers[0].terms.collateral.symbol
            detail = f"others of this head take all {symbol}"
            return Taken(offers[0], refuse(choice, Reason.NO_LIQUIDITY, detail))
        bounded = sorted(
            ((self._appraisal.bound(offer), offer) for offer in drawn), key=lambda pair: -pair[0]
        )
        best: Quote | None = None
        of = drawn[0]
        reason, detail = Reason.NO_ROUTE, self._unsold(drawn[0])
        for bound, offer in bounded:
            # Gross leaves the premium out of account, and debts differ in that: compare with net.
            if best is not None and bound <= best.net_usd:
                break
            if not self._selling[offer.lane].is_open:
                continue
            source = self._loans.source(offer)
            if source is None:
                reason, detail = Reason.CAPITAL, f"nobody lends {offer.terms.debt.symbol}"
                continue
            available = self._loans.available(offer, source, ())
            hopeless = bound < choice.limits.minimum_profit
            size = self._appraisal.size(offer, source, available, hopeless=hopeless)
            if size is None:
                reason = Reason.CAPITAL
                detail = f"{available} {offer.terms.debt.symbol} can be borrowed"
                continue
            quote = self._appraisal.draft(offer, source, size)
            if best is None or quote.net_usd > best.net_usd:
                best, of = quote, offer
        if best is None:
            return Taken(of, refuse(choice, reason, detail))
        if best.net < best.minimum_profit:
            why = explain_loss(best, self._costs.rates.of(best))
            return Taken(of, refuse(choice, Reason.UNPROFITABLE, why))
        return Taken(of, best)

    def _unsold(self, offer: Offer) -> str:
        terms = offer.terms
        text = f"nothing turns {terms.collateral.symbol} into {terms.debt.symbol}"
        left_out = self._trust.refusals(terms.collateral.address, terms.debt.address)
        return f"{text}; left out: {left_out}" if left_out else text
