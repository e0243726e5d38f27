"""Take every liquidation that still pays after slippage, gas, flash premium and tip."""

from collections.abc import Iterable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keeper import (
    BPS,
    USD,
    Address,
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
    mul_div_down,
    mul_div_up,
)


def _address(text: str) -> str:
    digits = text.removeprefix("0x")
    try:
        size = len(bytes.fromhex(digits))
    except ValueError:
        size = 0
    if size != 20 or digits == text:
        raise ValueError(f"{text!r} is no address: 0x and 40 hexadecimal digits")
    return text.lower()


AddressText = Annotated[str, AfterValidator(_address)]
Gwei = Annotated[Decimal, Field(ge=0, le=100_000)]


class Profitability:
    """Price every position at risk; bid on each quote whose net meets the minimum."""

    class Config(BaseModel):
        """What an operator may set under `[strategies.NAME]`."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        min_profit_usd: Annotated[Decimal, Field(gt=0)] = Decimal(1)
        """Least profit of one liquidation after every cost."""
        largest_repay_usd: Annotated[Decimal, Field(gt=0)] | None = None
        """Most debt repaid for one borrower; unset means what the protocol allows."""
        tip_bps_of_profit: Annotated[int, Field(ge=0, le=9_000)] = 0
        """Share of the profit paid to the block's builder; only profit in wrapped native coin pays."""
        priority_fee_gwei: Gwei = Decimal("0.1")
        """Paid per gas on top of the base fee."""
        max_fee_gwei: Gwei = Decimal(300)
        """Most paid per gas, base fee included; above it nothing is sent."""
        deadline_seconds: Annotated[int, Field(ge=0, le=3_600)] = 24
        """How long after the next block the transaction may still run."""
        deny_borrowers: frozenset[AddressText] = frozenset()
        """Borrowers never liquidated."""
        deny_tokens: frozenset[AddressText] = frozenset()
        """Tokens never repaid nor received."""

    def __init__(self, config: Config) -> None:
        self._minimum = Usd(_scaled(config.min_profit_usd, USD, ROUND_CEILING))
        self._largest = (
            None
            if config.largest_repay_usd is None
            else Usd(_scaled(config.largest_repay_usd, USD, ROUND_FLOOR))
        )
        self._tip_bps = config.tip_bps_of_profit
        self._priority = Wei(_scaled(config.priority_fee_gwei, 10**9, ROUND_FLOOR))
        self._max_fee = Wei(_scaled(config.max_fee_gwei, 10**9, ROUND_FLOOR))
        self._deadline = config.deadline_seconds
        self._deny_borrowers = _raw(config.deny_borrowers)
        self._deny_tokens = _raw(config.deny_tokens)

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return what to price; refuse what is denied or cannot pay even before costs."""
        if view.next_block.base_fee + self._priority > self._max_fee:
            detail = f"base fee {view.next_block.base_fee} wei leaves no room under max_fee_gwei"
            for risk in view.at_risk:
                yield _skip(risk.position, Reason.GAS_CAP, detail)
            return
        for risk in view.at_risk:
            yield from self._judge(risk, view)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:  # noqa: ARG002
        """Return the configured minimum profit and largest repay, the same for every position."""
        return Limits(self._minimum, self._largest)

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Offer the configured fees and a share of the profit, keeping the minimum."""
        position = quote.opportunity.position
        spare = quote.net - quote.minimum_profit
        if spare < 0:
            return _skip(
                position,
                Reason.UNPROFITABLE,
                f"net {quote.net_usd / USD:.2f} USD < minimum {self._minimum / USD:.2f} USD",
            )
        tip = Wei(0)
        if quote.debt.address == view.native.address:
            tip = Wei(min(mul_div_down(quote.net, self._tip_bps, BPS), spare))
        # A base fee rises by an eighth a block at most: a quarter covers two.
        ceiling = view.next_block.base_fee * 5 // 4 + self._priority
        return Bid(
            self._priority,
            Wei(min(self._max_fee, ceiling)),
            view.next_block.timestamp + self._deadline,
            tip,
        )

    def _judge(self, risk: AtRisk, view: View) -> Iterator[Opportunity | Skip]:
        position = risk.position
        if position.borrower in self._deny_borrowers:
            yield _skip(position, Reason.DENIED, "the borrower is in deny_borrowers")
            return
        if not risk.pairs:
            yield from risk.refusals
            return
        pairs = tuple(pair for pair in risk.pairs if not self._denied(pair))
        if not pairs:
            yield _skip(position, Reason.DENIED, "every pair holds a token of deny_tokens")
            return
        prices = view.prices.get(position.market)
        bonuses = [_bonus_value(pair, view, position.market) for pair in pairs]
        known = [bonus for bonus in bonuses if bonus is not None]
        if prices is None or not known:
            yield _skip(position, Reason.NO_PRICE, "the debt token has no price")
            return
        best = prices.usd(max(known))
        if best < self._minimum and len(known) == len(bonuses):
            yield _skip(
                position,
                Reason.UNPROFITABLE,
                f"bonus {best / USD:.2f} USD < minimum {self._minimum / USD:.2f} USD before costs",
            )
            return
        yield Opportunity(position, pairs, risk.cause)

    def _denied(self, pair: Terms) -> bool:
        return not self._deny_tokens.isdisjoint({pair.collateral.address, pair.debt.address})


def _bonus_value(pair: Terms, view: View, market: str) -> int | None:
    """Return the most a pair's bonus can be worth in base currency; None without a price."""
    price = view.price(market, pair.debt.address)
    if price is None:
        return None
    return mul_div_up(pair.maximum * price, pair.bonus - BPS, 10**pair.debt.decimals * BPS)


def _scaled(amount: Decimal, scale: int, rounding: str) -> int:
    return int((amount * scale).to_integral_value(rounding))


def _raw(texts: Iterable[str]) -> frozenset[Address]:
    return frozenset(Address(bytes.fromhex(text[2:])) for text in texts)


def _skip(position: Position, reason: Reason, detail: str) -> Skip:
    return Skip(position.market, position.protocol, position.borrower, reason, detail)
