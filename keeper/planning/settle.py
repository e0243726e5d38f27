"""What a simulation says about a plan: estimates replaced by what was realised, or what to drop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from keeper.planning.decoding import GroupResult, RunResult
from keeper.planning.grouping import PositionKey, group_key
from keeper.planning.reasons import explain_reason
from keeper.quick import remade
from keeper.types import Bid, Plan, Quote, Reason, Skip
from keeper.units import ZERO_ADDRESS, Usd, Wei, mul_div_up

_NATIVE_UNIT = 10**18


@dataclass(frozen=True, slots=True)
class Settled:
    """The plan with simulated figures, or the positions to drop from it, each with a skip.

    `undone` are those of them that held, and were undone with their group. `part` is the plan as it
    would end if it were sent as it is, with the quotes alone that hold, None when none does.
    """

    plan: Plan | None
    failed: Mapping[PositionKey, str] = field(default_factory=dict)
    skips: Sequence[Skip] = ()
    undone: frozenset[PositionKey] = frozenset()
    part: Plan | None = None


def settle_plan(plan: Plan, gas_used: int, result: RunResult) -> Settled:
    """Judge a plan by its simulation: every item held, and every quote still meets its minimum.

    Where it brings less than estimated the maximum fee falls with it: a later base fee is paid out of
    what it brings above the minimum.

    Quotes stand in the batch's order, groups one after another. Raises ValueError when the result
    has another shape or its tip cannot be valued.
    """
    groups = [list(group) for _, group in groupby(plan.quotes, group_key)]
    if len(result.items) != len(plan.quotes) or len(result.groups) != len(groups):
        raise ValueError(
            f"{len(result.items)} items in {len(result.groups)} groups came back "
            f"for {len(plan.quotes)} in {len(groups)}"
        )
    failed = _failed(groups, result)
    if failed:
        undone = frozenset(
            quote.opportunity.key
            for quote, item in zip(plan.quotes, result.items, strict=True)
            if item.undone
        )
        part = _part(plan, groups, failed, gas_used, result)
        return Settled(None, failed, _skips(plan, failed, Reason.SIMULATION_FAILED), undone, part)
    expected = sum(quote.gas for quote in plan.quotes)
    quotes = [
        _realise(quote, proceeds, mul_div_up(gas_used, quote.gas, expected))
        for group, outcome in zip(groups, result.groups, strict=True)
        for quote, proceeds in zip(group, _proceeds(group, outcome), strict=True)
    ]
    # A tip is native coin, out of profit in its wrapped token: units of the debt token.
    tips = plan.tips or (0,) * len(quotes)
    short = {
        quote.opportunity.key: f"net {quote.net - tip} < minimum "
        f"{quote.minimum_profit} {quote.debt.symbol} wei when simulated"
        for quote, tip in zip(quotes, tips, strict=True)
        if quote.net - tip < quote.minimum_profit
    }
    if short:
        return Settled(None, short, _skips(plan, short, Reason.UNPROFITABLE))
    tip_usd = _tip_usd_up(plan, result)
    room = sum(
        _scale(quote, quote.net - tip - quote.minimum_profit)
        for quote, tip in zip(quotes, tips, strict=True)
    )
    return Settled(
        replace(
            plan,
            quotes=tuple(quotes),
            bid=_within(plan, room, gas_used),
            gas=gas_used,
            gas_cost=_gas_cost_up(plan, gas_used),
            gross_usd=Usd(sum(quote.gross_usd for quote in quotes)),
            net_usd=Usd(sum(quote.net_usd for quote in quotes) - tip_usd),
        )
    )


def _part(
    plan: Plan,
    groups: Sequence[Sequence[Quote]],
    failed: Mapping[PositionKey, str],
    gas_used: int,
    result: RunResult,
) -> Plan | None:
    """Return what a plan brings whose other items fail: those still cost gas, data and premium."""
    holds = [quote.opportunity.key not in failed for quote in plan.quotes]
    if not any(holds):
        return None
    expected = sum(quote.gas for quote, held in zip(plan.quotes, holds, strict=True) if held)
    quotes: list[Quote] = []
    net_usd = -_tip_usd_up(plan, result)
    for group, outcome in zip(groups, result.groups, strict=True):
        held = [quote for quote in group if quote.opportunity.key not in failed]
        for quote in group if held else ():
            if quote not in held:
                net_usd += _scale(quote, -quote.premium - quote.data_fee)
        quotes.extend(
            _realise(quote, proceeds, mul_div_up(gas_used, quote.gas, expected))
            for quote, proceeds in zip(held, _proceeds(held, outcome) if held else (), strict=True)
        )
    tips = plan.tips or (Wei(0),) * len(holds)
    tips = tuple(tip for tip, held in zip(tips, holds, strict=True) if held)
    return replace(
        plan,
        quotes=tuple(quotes),
        tips=tips if plan.tips else (),
        gas=gas_used,
        gas_cost=_gas_cost_up(plan, gas_used),
        gross_usd=Usd(sum(quote.gross_usd for quote in quotes)),
        net_usd=Usd(net_usd + sum(quote.net_usd for quote in quotes)),
    )


def _gas_cost_up(plan: Plan, gas_used: int) -> Wei:
    return Wei(mul_div_up(plan.gas_cost - plan.data_fee, gas_used, plan.gas) + plan.data_fee)


def _tip_usd_up(plan: Plan, result: RunResult) -> int:
    price = plan.prices.get(ZERO_ADDRESS)
    if result.tip and price is None:
        raise ValueError("the plan pays a tip and knows no price of the native coin")
    return mul_div_up(result.tip, price or 0, _NATIVE_UNIT)


def _within(plan: Plan, room: int, gas_used: int) -> Bid:
    """Return the bid, its maximum fee no higher than what is left over (in dollars) can pay."""
    price = plan.prices.get(ZERO_ADDRESS)
    if not price or not gas_used:
        return plan.bid
    now = plan.fees.price(plan.next_block.base_fee)
    most = now + room * _NATIVE_UNIT // (price * gas_used)
    return replace(plan.bid, max_fee=Wei(min(plan.bid.max_fee, most)))


def _failed(groups: Sequence[Sequence[Quote]], result: RunResult) -> dict[PositionKey, str]:
    failed: dict[PositionKey, str] = {}
    items = iter(result.items)
    for group, outcome in zip(groups, result.groups, strict=True):
        for quote in group:
            item = next(items)
            if item.undone:
                failed[quote.opportunity.key] = explain_reason(outcome.reason)
            elif not item.ok:
                failed[quote.opportunity.key] = explain_reason(item.reason)
    return failed


def _proceeds(group: Sequence[Quote], outcome: GroupResult) -> list[int]:
    """Share what a group's sale brought: as estimated, the difference in proportion, to the wei."""
    estimated = [quote.proceeds for quote in group]
    brought = outcome.gain + sum(quote.repaid for quote in group)
    total = sum(estimated)
    shared = [brought * amount // total if total else 0 for amount in estimated]
    shared[0] += brought - sum(shared)
    return shared


def _realise(quote: Quote, proceeds: int, gas: int) -> Quote:
    gas_cost = mul_div_up(quote.gas_cost - quote.data_fee, gas, quote.gas) + quote.data_fee
    net = proceeds - quote.repaid - quote.premium - gas_cost
    return remade(
        quote,
        proceeds=proceeds,
        gas=gas,
        gas_cost=gas_cost,
        net=net,
        net_usd=_scale(quote, net),
        gross_usd=_scale(quote, proceeds - quote.repaid),
    )


def _scale(quote: Quote, amount: int) -> Usd:
    """Value an amount at the dollars per debt token the quote was made with, rounded down."""
    return Usd(amount * quote.gross_usd // max(quote.proceeds - quote.repaid, 1))


def _skips(plan: Plan, failed: Mapping[PositionKey, str], reason: Reason) -> list[Skip]:
    return [
        Skip(
            position.market,
            position.protocol,
            position.borrower,
            reason,
            failed[position.key],
            quote.opportunity.strategy,
        )
        for quote in plan.quotes
        if (position := quote.opportunity.position).key in failed
    ]
