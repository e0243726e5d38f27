"""Take every liquidation that still pays after slippage, gas, flash premium and tip."""

from collections.abc import Iterable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from keeper import (
    BPS,
    USD,
    Address,
    AtRisk,
    Bid,
    BidRecord,
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
TipBps = Annotated[int, Field(ge=0, le=9_000)]

RAISE_BPS = 500
LOWER_BPS = 100
"""How far a loss and a win move the builder's share: it settles at five wins for each loss."""
ENOUGH = 10
"""Outcomes of the way a bid takes from which on those of other ways do not count."""


class Profitability:
    """Price every position at risk; bid on each quote whose net meets the minimum."""

    class Config(BaseModel):
        """What an operator may set under `[strategies.NAME]`."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        min_profit_usd: Annotated[Decimal, Field(gt=0)] = Decimal(1)
        """Least profit of one liquidation after every cost."""
        largest_repay_usd: Annotated[Decimal, Field(gt=0)] | None = None
        """Most debt repaid for one borrower; unset means what the protocol allows."""
        tip_bps_of_profit: TipBps = 0
        """Share of the profit first offered to the block's builder; only profit in wrapped native
        coin pays. Winning lowers it."""
        largest_tip_bps_of_profit: TipBps | None = None
        """Most of it ever offered: losing raises the share up to here; unset, not at all."""
        priority_fee_gwei: Gwei = Decimal("0.1")
        """Paid per gas on top of the base fee, whatever others pay."""
        priority_percentile: Annotated[int, Field(ge=0, le=90)] = 50
        """More is paid to match this percentile of recent blocks' priority fees; 0 does not."""
        largest_priority_fee_gwei: Gwei = Decimal(3)
        """Most paid per gas to match others."""
        max_fee_gwei: Gwei = Decimal(300)
        """Most paid per gas, base fee included; above it nothing is sent."""
        full_blocks: Annotated[int, Field(ge=0, le=32)] = 6
        """Full blocks in a row a transaction stays payable; six double the base fee."""
        deadline_seconds: Annotated[int, Field(ge=0, le=3_600)] = 24
        """How long after the next block the transaction may still run."""
        deny_borrowers: frozenset[AddressText] = frozenset()
        """Borrowers never liquidated."""
        deny_tokens: frozenset[AddressText] = frozenset()
        """Tokens never repaid nor received."""

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            largest = self.largest_tip_bps_of_profit
            if largest is not None and largest < self.tip_bps_of_profit:
                raise ValueError("largest_tip_bps_of_profit is less than tip_bps_of_profit")
            return self

    def __init__(self, config: Config) -> None:
        self._minimum = Usd(_scaled(config.min_profit_usd, USD, ROUND_CEILING))
        self._largest = (
            None
            if config.largest_repay_usd is None
            else Usd(_scaled(config.largest_repay_usd, USD, ROUND_FLOOR))
        )
        largest = config.largest_tip_bps_of_profit
        self._largest_tip = config.tip_bps_of_profit if largest is None else largest
        self._first_tip = min(config.tip_bps_of_profit, self._largest_tip)
        self._shaded: tuple[BidRecord, int] | None = None
        self._percentile = config.priority_percentile
        self._largest_priority = Wei(_scaled(config.largest_priority_fee_gwei, 10**9, ROUND_FLOOR))
        self._full_blocks = config.full_blocks
        self._priority = Wei(_scaled(config.priority_fee_gwei, 10**9, ROUND_FLOOR))
        self._max_fee = Wei(_scaled(config.max_fee_gwei, 10**9, ROUND_FLOOR))
        self._deadline = config.deadline_seconds
        self._deny_borrowers = _raw(config.deny_borrowers)
        self._deny_tokens = _raw(config.deny_tokens)

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return what to price; refuse what is denied or cannot pay even before costs."""
        priority = self._priority if view.inclusion.orders_by_fee else 0
        if view.next_block.base_fee + priority > self._max_fee:
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
        """Offer what is usual to pay per gas, and a share of the profit, keeping the minimum.

        The priority fee matches recent blocks within the owner's cap, and where there is no history
        is the configured one. The builder's share starts at `tip_bps_of_profit` and follows the own
        record (`shade`). Gas, data fee, tip and minimum profit together never pass what the sale
        brings. Where paying more gains no place, nothing is paid for it.
        """
        position = quote.opportunity.position
        spare = quote.net - quote.minimum_profit
        if spare < 0:
            return _skip(
                position,
                Reason.UNPROFITABLE,
                f"net {quote.net_usd / USD:.2f} USD < minimum {self._minimum / USD:.2f} USD",
            )
        base_fee = view.next_block.base_fee
        room = quote.net + quote.gas_cost - quote.data_fee - quote.minimum_profit
        priority = self._affordable(quote, room, view)
        tip = 0
        if quote.debt.address == view.native.address and view.inclusion.orders_by_fee:
            left = room - quote.gas * (base_fee + priority)
            share = self._share(view.bid_record)
            tip = max(min(mul_div_down(quote.net, share, BPS), left), 0)
        return Bid(
            Wei(priority),
            Wei(min(self._max_fee, view.next_block.base_fee_after(self._full_blocks) + priority)),
            view.next_block.timestamp + self._deadline,
            Wei(tip),
        )

    def _wanted(self, view: View) -> int:
        """Return the priority fee to pay if the profit allows it."""
        if not view.inclusion.orders_by_fee:
            return 0
        history = view.fee_history
        usual = None
        if history is not None and self._percentile:
            usual = history.priority_fee(self._percentile)
        matched = 0 if usual is None else min(usual, self._largest_priority)
        room = max(self._max_fee - view.next_block.base_fee, 0)
        return min(max(self._priority, matched), room)

    def _affordable(self, quote: Quote, room: int, view: View) -> int:
        """Return the priority fee to pay so that gas takes no more than `room` of the debt token."""
        wanted = self._wanted(view)
        market = quote.opportunity.position.market
        price = view.price(market, quote.debt.address)
        native = view.price(market, view.native.address)
        if not price or not native:
            return min(wanted, self._priority)
        wei = mul_div_down(room * price, 10**view.native.decimals, native * 10**quote.debt.decimals)
        return min(wanted, max(wei // max(quote.gas, 1) - view.next_block.base_fee, 0))

    def _share(self, record: BidRecord) -> int:
        """Return the builder's share for one record; worked out once for all quotes of a head."""
        if self._shaded is None or self._shaded[0] is not record:
            own = record.of(record.way)
            telling = own if len(own.outcomes) >= ENOUGH else record
            self._shaded = record, shade(self._first_tip, self._largest_tip, telling)
        return self._shaded[1]

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
        prices = view.prices.get(position.home)
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


def shade(first: int, largest: int, record: BidRecord) -> int:
    """Return the builder's share, in bps of the profit, after a record of own bids.

    It starts at `first`; every loss raises it by `RAISE_BPS`, at most to `largest`, every win lowers
    it by `LOWER_BPS`, at least to 0, oldest first. What tells nothing about the share then offered
    is passed over: a win with clearly more, a loss with clearly less.
    """
    share = first
    for each in record.outcomes:
        if each.won and each.share <= share + RAISE_BPS:
            share = max(share - LOWER_BPS, 0)
        elif not each.won and each.share >= share - RAISE_BPS:
            share = min(share + RAISE_BPS, largest)
    return share


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
