"""What could be taken of each chosen pair: the largest legal repay, and its rate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keeper.planning.costs import Rate, Rates
from keeper.planning.gas import FEE_ROUNDING
from keeper.planning.rules import Choice, PlanRules
from keeper.ports import Terms
from keeper.quick import quick
from keeper.types import Position, Reason, Seizure, Skip
from keeper.units import Address

Lane = tuple[Address, Address, frozenset[str] | None]
"""Collateral, debt and the venues allowed: what shares one sale."""


@quick
@dataclass(frozen=True, slots=True)
class Offer:
    """One pair of one choice with its largest legal repay and what that seizes.

    `whole` says that nothing less than the protocol's maximum will do. What is not `alone` leaves
    the position less healthy and does not end it: only other calls behind it make up for that.
    """

    choice: Choice
    terms: Terms
    rate: Rate
    largest: int
    seizure: Seizure
    whole: bool = False
    alone: bool = True

    @property
    def pot(self) -> tuple[str, Address]:
        """Return the market and token whose reserve the collateral is withdrawn from."""
        return self.choice.opportunity.position.home, self.terms.collateral.address

    @property
    def lane(self) -> Lane:
        """Return the key of its routes."""
        venues = self.choice.limits.venues
        return self.terms.collateral.address, self.terms.debt.address, venues


def refuse(choice: Choice, reason: Reason, detail: str) -> Skip:
    """Return a skip of a choice, in its strategy's name."""
    opportunity = choice.opportunity
    position = opportunity.position
    return Skip(
        position.market,
        position.protocol,
        position.borrower,
        reason,
        detail,
        opportunity.strategy,
    )


def refuse_toxic(choice: Choice, symbol: str) -> Skip:
    """Return the skip of a position that every call allowed would leave less healthy."""
    detail = f"a part against {symbol} would leave it less healthy, and no call takes all"
    return refuse(choice, Reason.TOXIC, detail)


def find_offers(choice: Choice, rates: Rates, rules: PlanRules) -> list[Offer] | Skip:
    """Return the pairs of a choice that may be touched, priced and repaid, or why there is none.

    The operator's `rules` bound the repay beside the strategy's own limit. Where taking a part would
    leave the position less healthy, only what ends it is offered, unless they say otherwise.
    """
    offers, unpriced, denied, toxic = [], 0, "", ""
    position = choice.opportunity.position
    protocol = position.protocol
    for terms in choice.opportunity.pairs:
        if why := rules.excluded(protocol, terms.collateral, terms.debt):
            denied = why
            continue
        rate = rates.find(position.market, terms.debt)
        if rate is None:
            unpriced += 1
            continue
        most = terms.maximum
        for bound in (choice.limits.largest_repay, rules.largest_repay):
            if bound is not None:
                most = min(most, rate.from_usd_down(bound))
        largest = terms.legal_down(most)
        if choice.limits.whole and largest < terms.maximum:
            continue
        if largest <= 0:
            continue
        seizure = terms.seize(largest)
        whole, alone = choice.limits.whole, True
        if not rules.toxic_parts and position.worsens(terms.collateral):
            if largest == terms.maximum and ends(position, terms, seizure):
                whole = True
            elif choice.limits.calls > 1:
                alone = False
            else:
                toxic = terms.collateral.symbol
                continue
        offers.append(Offer(choice, terms, rate, largest, seizure, whole, alone))
    if offers:
        return offers
    if toxic and not unpriced:
        return refuse_toxic(choice, toxic)
    if denied and not unpriced:
        return refuse(choice, Reason.DENIED, denied)
    if unpriced:
        return refuse(choice, Reason.NO_PRICE, "the debt token or the native coin has no price")
    return refuse(choice, Reason.DUST, "no repay within the limits is legal")


def ends(position: Position, terms: Terms, seizure: Seizure) -> bool:
    """Tell whether a call takes the last collateral, or repays the last debt."""
    taken = seizure.received + seizure.protocol_fee + FEE_ROUNDING
    return not any(
        leg.amount > taken * (leg.token == terms.collateral) for leg in position.collateral
    ) or not any(leg.amount > seizure.repaid * (leg.token == terms.debt) for leg in position.debt)


def demands(offers: Iterable[Offer]) -> Mapping[Address, int]:
    """Return the most each debt token could be asked for, one offer for each choice."""
    most: dict[tuple[int, Address], int] = {}
    for offer in offers:
        if offer.seizure.repaid <= 0:
            continue
        key = (id(offer.choice), offer.terms.debt.address)
        most[key] = max(most.get(key, 0), offer.largest)
    totals: dict[Address, int] = {}
    for (_, token), amount in most.items():
        totals[token] = totals.get(token, 0) + amount
    return totals
