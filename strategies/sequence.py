"""Take a position in several calls of one transaction where that earns more than the best one.

A close factor allows half of the debt at a time, a pair ends one collateral or debt of several. As
long as a call leaves the position liquidatable another may follow, on what the first one left: a
small call first and then the largest, one collateral and then the next. The planner looks for such
calls; where none earns more, gas included, the position is taken as `profitability` takes it.
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from keeper import (
    USD,
    Bid,
    Limits,
    Opportunity,
    Position,
    Quote,
    Reason,
    Skip,
    Usd,
    View,
    Wei,
)

Gwei = Annotated[Decimal, Field(ge=0, le=100_000)]


class Sequence:
    """Choose every position, with all its pairs, and allow several calls on each."""

    class Config(BaseModel):
        """What an operator may set under `[strategies.NAME]`."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        calls: Annotated[int, Field(ge=1, le=4)] = 2
        """Most calls on one position in one transaction; more take longer to find."""
        min_profit_usd: Annotated[Decimal, Field(gt=0)] = Decimal(1)
        """Least profit of one position after every cost."""
        largest_repay_usd: Annotated[Decimal, Field(gt=0)] | None = None
        """Most debt repaid for one position, all calls together; unset for no such limit."""
        priority_fee_gwei: Gwei = Decimal("0.1")
        """Paid per gas on top of the base fee."""
        max_fee_gwei: Gwei = Decimal(300)
        """Most paid per gas, base fee included; above it nothing is sent."""
        deadline_seconds: Annotated[int, Field(ge=0, le=3_600)] = 24
        """How long after the next block the transaction may still run."""

    def __init__(self, config: Config) -> None:
        self._calls = config.calls
        self._minimum = Usd(int((config.min_profit_usd * USD).to_integral_value(ROUND_CEILING)))
        largest = config.largest_repay_usd
        self._largest = (
            None if largest is None else Usd(int((largest * USD).to_integral_value(ROUND_FLOOR)))
        )
        self._priority = _wei_down(config.priority_fee_gwei)
        self._max_fee = _wei_down(config.max_fee_gwei)
        self._deadline = config.deadline_seconds

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return every position that may be liquidated, and why the others may not."""
        for risk in view.at_risk:
            if risk.pairs:
                yield Opportunity(risk.position, risk.pairs, risk.cause)
            else:
                yield from risk.refusals

    def limits(self, opportunity: Opportunity, view: View) -> Limits:  # noqa: ARG002
        """Return the minimum profit of all calls on a position together, and how many there may be.

        Where one call can close a single pair whole nothing is left to follow it.
        """
        legs = len(opportunity.position.collateral) + len(opportunity.position.debt)
        whole = legs == 2 and all(
            pair.maximum >= opportunity.position.debt[0].amount for pair in opportunity.pairs
        )
        return Limits(self._minimum, self._largest, calls=1 if whole else self._calls)

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Offer the configured priority fee where it gains a place, as far as the profit pays for it."""
        base_fee = view.next_block.base_fee
        room = quote.net + quote.gas_cost - quote.data_fee - quote.minimum_profit
        priority = self._priority if view.inclusion.orders_by_fee else Wei(0)
        if quote.debt.address == view.native.address and quote.gas:
            priority = Wei(max(min(priority, room // quote.gas - base_fee), 0))
        if base_fee + priority > self._max_fee:
            detail = f"base fee {base_fee} wei leaves no room under max_fee_gwei"
            return _skip(quote.opportunity.position, Reason.GAS_CAP, detail)
        return Bid(priority, self._max_fee, view.next_block.timestamp + self._deadline)


def _wei_down(gwei: Decimal) -> Wei:
    return Wei(int((gwei * 10**9).to_integral_value(ROUND_FLOOR)))


def _skip(position: Position, reason: Reason, detail: str) -> Skip:
    return Skip(position.market, position.protocol, position.borrower, reason, detail)
