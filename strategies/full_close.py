"""Close positions whole: take the pair that ends a debt or a position, and all a call may take of it.

What stays behind of a part is dust for somebody else, may be liquidated again for another call's
gas, and is where bad debt grows. Where no pair ends anything (a close factor, a dust rule, another
collateral beside it) the position is left to other strategies, or taken as far as allowed.
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from keeper import (
    USD,
    AtRisk,
    Bid,
    Limits,
    Opportunity,
    Position,
    Quote,
    Reason,
    Skip,
    Terms,
    Usd,
    View,
    Wei,
)

Gwei = Annotated[Decimal, Field(ge=0, le=100_000)]


class Ending(IntEnum):
    """What the largest repay of a pair ends, the less the better last."""

    NOTHING = 0
    LEG = 1
    POSITION = 2


class FullClose:
    """Choose the pairs that end the most of a position; repay all a call may, or nothing."""

    class Config(BaseModel):
        """What an operator may set under `[strategies.NAME]`."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        min_profit_usd: Annotated[Decimal, Field(gt=0)] = Decimal(1)
        """Least profit of one liquidation after every cost."""
        least: Literal["position", "leg", "any"] = "leg"
        """What has to end: the whole position, one of its debts or collaterals, or nothing."""
        priority_fee_gwei: Gwei = Decimal("0.1")
        """Paid per gas on top of the base fee."""
        max_fee_gwei: Gwei = Decimal(300)
        """Most paid per gas, base fee included; above it nothing is sent."""
        deadline_seconds: Annotated[int, Field(ge=0, le=3_600)] = 24
        """How long after the next block the transaction may still run."""

    def __init__(self, config: Config) -> None:
        self._minimum = Usd(int((config.min_profit_usd * USD).to_integral_value(ROUND_CEILING)))
        self._least = {"any": Ending.NOTHING, "leg": Ending.LEG, "position": Ending.POSITION}[
            config.least
        ]
        self._priority = _wei_down(config.priority_fee_gwei)
        self._max_fee = _wei_down(config.max_fee_gwei)
        self._deadline = config.deadline_seconds

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return each position with the pairs that end the most of it; refuse what ends too little."""
        for risk in view.at_risk:
            if not risk.pairs:
                yield from risk.refusals
                continue
            yield self._choose(risk)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:  # noqa: ARG002
        """Return the minimum profit, and that a part will not do where something can be ended."""
        best = max(ending(opportunity.position, pair) for pair in opportunity.pairs)
        return Limits(self._minimum, whole=best > Ending.NOTHING)

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Offer the configured priority fee where it gains a place, as far as the profit pays for it."""
        base_fee = view.next_block.base_fee
        room = quote.net + quote.gas_cost - quote.data_fee - quote.minimum_profit
        native = quote.debt.address == view.native.address
        priority = self._priority if view.inclusion.orders_by_fee else Wei(0)
        if native and quote.gas:
            priority = Wei(max(min(priority, room // quote.gas - base_fee), 0))
        if base_fee + priority > self._max_fee:
            detail = f"base fee {base_fee} wei leaves no room under max_fee_gwei"
            return _skip(quote.opportunity.position, Reason.GAS_CAP, detail)
        return Bid(priority, self._max_fee, view.next_block.timestamp + self._deadline)

    def _choose(self, risk: AtRisk) -> Opportunity | Skip:
        ends = [ending(risk.position, pair) for pair in risk.pairs]
        best = max(ends)
        if best < self._least:
            detail = f"a call ends {_WORDS[best]}, least is {_WORDS[self._least]}"
            return _skip(risk.position, Reason.DENIED, detail)
        pairs = [pair for pair, each in zip(risk.pairs, ends, strict=True) if each == best]
        return Opportunity(risk.position, tuple(pairs), risk.cause)


_WORDS = {
    Ending.NOTHING: "nothing",
    Ending.LEG: "one debt or collateral",
    Ending.POSITION: "the position",
}


def ending(position: Position, pair: Terms) -> Ending:
    """Return what the largest repay the protocol allows on a pair ends.

    A position ends with its only debt, or with its only collateral: what is owed then is bad debt.
    """
    repay = pair.maximum
    if repay <= 0 or pair.legal_down(repay) < repay:
        return Ending.NOTHING
    seized = pair.seize(repay)
    ended = (
        (position.debt, pair.debt, seized.repaid),
        (position.collateral, pair.collateral, seized.received + seized.protocol_fee),
    )
    best = Ending.NOTHING
    for legs, token, amount in ended:
        left = sum(leg.amount for leg in legs if leg.token == token) - amount
        if left <= 0:
            best = max(best, Ending.POSITION if len(legs) == 1 else Ending.LEG)
    return best


def _wei_down(gwei: Decimal) -> Wei:
    return Wei(int((gwei * 10**9).to_integral_value(ROUND_FLOOR)))


def _skip(position: Position, reason: Reason, detail: str) -> Skip:
    return Skip(position.market, position.protocol, position.borrower, reason, detail)
