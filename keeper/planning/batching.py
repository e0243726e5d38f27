"""Turn groups of bid quotes into the batch the contract runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, assert_never

from keeper.planning.batch import (
    GAINED,
    NATIVE,
    Action,
    Amount,
    Batch,
    Call,
    Check,
    Fund,
    FundKind,
    Group as BatchGroup,
    Item,
    Minimum,
    Protocol,
    Redeem,
    Swap,
    Template,
    Unwrap,
    Wrap,
    share_of_gain,
)
from keeper.planning.encoding import measure_group
from keeper.planning.fitting import sum_loans
from keeper.planning.gas import group_gas_limit, item_gas, item_gas_limit
from keeper.planning.grouping import CallKey, Group, moving_gas, turns_of, word_up
from keeper.planning.routing import Routes
from keeper.planning.shares import shares_of_left
from keeper.planning.size import Extent, tokens_of
from keeper.ports import LendingProtocol, Venue
from keeper.types import (
    CallLiquidation,
    FlashKind,
    FlashSource,
    Hop,
    Liquidation,
    NativeUnwrap,
    NativeWrap,
    PoolCall,
    PoolLiquidation,
    PoolSwap,
    Quote,
    VaultRedeem,
)
from keeper.units import BPS, WAD, ZERO_ADDRESS, Address, mul_div_up

# A wei repaid in a borrower's name must not turn our item away; a rival's call takes far more.
_DEBT_KEPT_BPS = 9_900
_FUND_KINDS = {
    FlashKind.INVENTORY: FundKind.INVENTORY,
    FlashKind.AAVE: FundKind.AAVE,
    FlashKind.UNISWAP_V3: FundKind.UNISWAP,
    FlashKind.MORPHO: FundKind.MORPHO,
    FlashKind.BALANCER: FundKind.BALANCER,
}


class _Call(TypedDict):
    debt_token: Address
    check: Check
    protocol: Protocol
    template: Template | None


def build_batch(
    groups: Sequence[Group],
    venues: Mapping[str, Venue],
    markets: Mapping[str, LendingProtocol],
    tips: Mapping[CallKey, int],
    tip: int,
    native: Address,
    deadline: int,
    refill: int = 0,
) -> Batch:
    """Return the batch of groups in order.

    `tips` are per quote in its debt token, `tip` their sum in native wei. An item's minimum gain
    covers its gas, premium, tip and minimum profit, so that a group that keeps its items pays.
    `refill` is what the operator takes of it as native wei: the batch need not keep that.
    """
    quotes = [quote for group in groups for quote in group]
    turns = turns_of(groups)
    funds = [
        replace(_fund(source, amount, venues), apart=source.token in turns)
        for source, amount in sum_loans(groups).items()
        if source.kind is not FlashKind.NONE
    ]
    tokens = tokens_of(quotes) | {fund.other for fund in funds if fund.kind is FundKind.UNISWAP}
    return Batch(
        deadline=deadline,
        tokens=tuple(sorted(tokens - {NATIVE})),
        groups=tuple(_group(group, venues, markets, tips) for group in groups),
        funds=tuple(funds),
        minimums=tuple(_minimums(quotes, native, refill)),
        tip=tip,
        tip_share=_tip_share_up(quotes, tip, native),
        refill=refill,
    )


def measure(
    quote: Quote, venues: Mapping[str, Venue], markets: Mapping[str, LendingProtocol]
) -> Extent:
    """Return what a quote's group takes up; raises BatchError where the contract takes none such."""
    return measure_group(_group([quote], venues, markets, {}), tokens_of([quote]) - {NATIVE})


def minimum_gain(quote: Quote, tip: int) -> int:
    """Return what a liquidation must bring over its repay to be worth its costs."""
    return quote.gas_cost + quote.premium + quote.minimum_profit + tip


def _group(
    group: Group,
    venues: Mapping[str, Venue],
    markets: Mapping[str, LendingProtocol],
    tips: Mapping[CallKey, int],
) -> BatchGroup:
    first = group[0]
    terms = first.steps[0].terms
    liquidation = markets[first.opportunity.position.home].execution(terms)
    costs = [item_gas(quote.opportunity.position, quote.steps[0]) for quote in group]
    actions = _actions(first.routes, venues)
    if isinstance(liquidation, CallLiquidation) and liquidation.native:
        actions = (Wrap(terms.collateral.address), *actions)
    return BatchGroup(
        pool=liquidation.target,
        collateral=terms.collateral.address,
        debt=terms.debt.address,
        items=tuple(_item(quote, tips) for quote in group),
        actions=actions,
        item_gas=item_gas_limit(costs),
        group_gas=group_gas_limit(costs, len(first.hops), moving_gas(group)),
        **_call(liquidation),
    )


def _call(liquidation: Liquidation) -> _Call:
    match liquidation:
        case PoolLiquidation(_, debt_token):
            return _Call(
                debt_token=debt_token, check=Check.SCALED, protocol=Protocol.AAVE, template=None
            )
        case CallLiquidation():
            template = Template(
                liquidation.opening,
                liquidation.middle,
                liquidation.closing,
                borrower=liquidation.takes_borrower,
                amount=liquidation.takes_amount,
                value=liquidation.value,
                gainless=liquidation.gainless,
                unbounded=liquidation.unbounded,
                together=liquidation.together,
                view=liquidation.view,
                nth=liquidation.nth,
            )
            return _Call(
                debt_token=liquidation.viewed if liquidation.view else ZERO_ADDRESS,
                check=Check.VIEW if liquidation.view else Check.NONE,
                protocol=Protocol.CALL,
                template=template,
            )
        case never:
            assert_never(never)


def _item(quote: Quote, tips: Mapping[CallKey, int]) -> Item:
    step = quote.steps[0]
    return Item(
        borrower=quote.opportunity.position.borrower,
        repay=word_up(step),
        minimum_debt=step.terms.scaled_debt * _DEBT_KEPT_BPS // BPS,
        minimum_gain=minimum_gain(quote, tips.get(quote.key, 0)),
    )


def _actions(routes: Routes, venues: Mapping[str, Venue]) -> tuple[Action, ...]:
    """Return the actions of a sale: the first hop of each route takes its share, the others all."""
    return tuple(
        _action(
            hop, venues[hop.venue], GAINED if place or of_left == WAD else share_of_gain(of_left)
        )
        for portion, of_left in zip(routes, shares_of_left(routes), strict=True)
        for place, hop in enumerate(portion.route)
    )


def _action(hop: Hop, venue: Venue, amount: Amount) -> Action:
    spend, receive = hop.token_in, hop.token_out
    match venue.execution(hop):
        case PoolSwap(factory, fee):
            return Swap(factory, fee, spend, receive, amount)
        case PoolCall(target, head, tail, whole=True, minimum=minimum):
            return Call(target, head + tail, spend, receive, amount, minimum)
        case PoolCall(target, head, tail, minimum=minimum):
            data = head + bytes(32) + tail
            return Call(target, data, spend, receive, amount, minimum, patch_at=len(head))
        case VaultRedeem():
            return Redeem(spend, receive, amount)
        case NativeWrap():
            return Wrap(receive, amount)
        case NativeUnwrap():
            return Unwrap(spend, amount)
        case never:
            assert_never(never)


def _fund(source: FlashSource, amount: int, venues: Mapping[str, Venue]) -> Fund:
    if source.kind is not FlashKind.UNISWAP_V3:
        return Fund(_FUND_KINDS[source.kind], source.token, amount, source.source)
    hop, swap = next(
        (hop, swap)
        for venue in venues.values()
        for hop in venue.hops(source.token)
        if hop.pool == source.source and isinstance(swap := venue.execution(hop), PoolSwap)
    )
    return Fund(FundKind.UNISWAP, source.token, amount, swap.factory, hop.token_out, swap.fee)


def _minimums(quotes: Sequence[Quote], native: Address, refill: int) -> list[Minimum]:
    """Return for each debt token the least its batch is worth keeping for: one quote's minimum.

    A token none of whose groups held need not bring it where another's did.
    """
    least: dict[Address, int] = {}
    for quote in quotes:
        token = quote.debt.address
        least[token] = min(least.get(token, quote.minimum_profit), quote.minimum_profit)
    if native in least:
        least[native] = max(least[native] - refill, 0)
    return [Minimum(token, gain) for token, gain in sorted(least.items())]


def _tip_share_up(quotes: Sequence[Quote], tip: int, native: Address) -> int:
    """Return the tip as a share of the expected gain it is paid from, in bps, at most all."""
    gain = sum(
        quote.proceeds - quote.repaid - quote.premium
        for quote in quotes
        if quote.debt.address == native
    )
    return min(mul_div_up(tip, BPS, gain), BPS) if gain > 0 else 0
