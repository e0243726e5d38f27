"""The planner: opportunities to quotes, bid quotes to plans, and plans again without what failed."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from keeper.planning.batching import build_batch, measure
from keeper.planning.costs import Rates
from keeper.planning.decoding import RunResult
from keeper.planning.encoding import BatchError, encode_run
from keeper.planning.explain import explain_loss
from keeper.planning.fitting import fill, split, sum_loans
from keeper.planning.gas import group_gas_limit, item_gas, run_gas_limit
from keeper.planning.grouping import (
    CallKey,
    Group,
    PositionKey,
    best_first,
    moving_gas,
    orphans,
    prune_groups,
)
from keeper.planning.quoting import Sizing
from keeper.planning.refilling import REFILL_GAS, choose_refill_down
from keeper.planning.routing import Sales
from keeper.planning.rules import TRANSACTION_GAS, Choice, PlanRules
from keeper.planning.sequels import Sequel
from keeper.planning.settle import Settled, settle_plan
from keeper.planning.size import Extent, transaction_size
from keeper.ports import LendingProtocol, Venue
from keeper.types import Bid, Fees, FlashKind, Plan, Quote, Reason, Sale, Skip, View
from keeper.units import Usd, Wei

Bidden = tuple[Quote, Bid]
Sold = tuple[Sale, ...]
"""Sales of earlier plans of the same head, to be made again on a fresh scratch state."""

_ORPHANED = "another call on the same position is not made"
FEWEST_BLOCKS = 2
"""Full blocks a plan's maximum fee outlives at least: batches are cut so that the budget allows it."""


class Planner:
    """Decide what is liquidated, how much, funded by whom, sold where, in which transaction.

    Pure: the same view, choices and pool state give the same answer. `stopped` names the markets
    and venues (`market/NAME`, `venue/NAME`) that nothing may rest on now, `refill` the native wei
    the operator's gas is to be refilled by.
    """

    def __init__(
        self,
        rules: PlanRules,
        venues: Mapping[str, Venue],
        markets: Mapping[str, LendingProtocol],
        new_id: Callable[[], str],
        stopped: Callable[[], Container[str]] = frozenset,
        refill: Callable[[], Wei] = lambda: Wei(0),
    ) -> None:
        self._rules = rules
        self._venues = venues
        self._markets = markets
        self._new_id = new_id
        self._stopped = stopped
        self._refill = refill

    @property
    def rules(self) -> PlanRules:
        """Return what it goes by."""
        return self._rules

    def quote(self, view: View, choices: Sequence[Choice]) -> tuple[list[Quote], list[Skip]]:
        """Return what pays after its share of every cost, best first, and why the rest does not.

        Where several calls on a position do not all pay in the end, the best one is taken instead.
        """
        quotes, skips, broken = self._quote(view, choices)
        if broken:
            fewer = [
                Sequel(choice.opportunity, replace(choice.limits, calls=1))
                if choice.opportunity.key in broken
                else choice
                for choice in choices
            ]
            quotes, skips, _ = self._quote(view, fewer)
        return quotes, skips

    def _quote(
        self, view: View, choices: Sequence[Choice]
    ) -> tuple[list[Quote], list[Skip], set[PositionKey]]:
        """Return quotes, skips, and the positions that lost some of several calls."""
        if not choices:
            return [], [], set()
        stopped = self._stopped()
        venues = {n: venue for n, venue in self._venues.items() if f"venue/{n}" not in stopped}
        sizing = Sizing(self._rules, venues, self._markets, view, choices)
        sizing.run()
        rates = Rates(view)
        gas_price = view.next_block.base_fee + self._rules.priority_fee
        skips = list(sizing.skips)
        quotes: list[Quote] = []
        sold: Sold = ()
        # no bid is known yet
        max_fee = view.next_block.base_fee_after(FEWEST_BLOCKS) + self._rules.priority_fee
        sized = sizing.quotes
        batches, misfits = fill(sized, self._rules, rates, max_fee, self._measure)
        skips += [_misfit(quote) for quote in misfits]
        for batch in batches:
            groups, dropped = self._prune(view, batch, gas_price, {}, sold)
            skips += [_unprofitable(quote, rates) for quote in dropped]
            quotes += [quote for group in groups for quote in group]
            sold = sold + _sales_of(groups)
        kept = {quote.key for quote in quotes}
        several = {quote.opportunity.key for quote in sized if quote.parts > 1}
        broken = {
            quote.opportunity.key
            for quote in sized
            if quote.opportunity.key in several and quote.key not in kept
        }
        return best_first(quotes), skips, broken

    def pack(self, view: View, bids: Sequence[Bidden]) -> tuple[list[Plan], list[Skip]]:
        """Return as few plans as fit, each priced on the pools the ones before leave.

        Strategies do not share a plan: what one bids is not paid, or refused, by what another chose.
        """
        allowed, denied = self._allowed(bids)
        bids = [(quote, self._rules.capped(bid)) for quote, bid in allowed]
        base_fee = view.next_block.base_fee
        skips = denied + [
            _skip(quote, Reason.GAS_CAP, f"maximum fee {bid.max_fee} < base fee {base_fee} wei")
            for quote, bid in bids
            if bid.max_fee < base_fee
        ]
        taken = {quote.key: bid for quote, bid in bids if bid.max_fee >= base_fee}
        quotes = best_first(quote for quote, _ in bids if quote.key in taken)
        lost = orphans(quotes)
        skips += [_skip(quote, Reason.UNPROFITABLE, _ORPHANED) for quote in lost]
        quotes = [quote for quote in quotes if quote not in lost]
        batches: list[list[Quote]] = []
        for mine in _by_strategy(quotes):
            most = _least(view, [taken[quote.key] for quote in mine])
            found, misfits = split(mine, self._rules, Rates(view), most, self._measure)
            batches += found
            skips += [_misfit(quote) for quote in misfits]
        plans = []
        sold: Sold = ()
        refill = self._refill()
        for batch in batches:
            bid = _join([taken[quote.key] for quote in batch])
            tips = {quote.key: taken[quote.key].tip for quote in batch}
            plan, groups, dropped = self._pack_one(view, batch, bid, tips, sold, refill)
            skips += dropped
            if plan is not None:
                plans.append(plan)
                refill = Wei(refill - plan.refill)
                sold = sold + _sales_of(groups)
        return plans, skips

    def repack(self, plan: Plan, failed: Mapping[PositionKey, str], view: View) -> Plan | None:
        """Return the plan without the failed positions, None when nothing that pays is left.

        Every quote keeps its own tip, and is priced behind the same plans as before. What the
        remainder loses on the way stands in the new plan's `skips`.
        """
        quotes = [quote for quote in plan.quotes if quote.opportunity.key not in failed]
        if not quotes:
            return None
        keys = [quote.key for quote in plan.quotes]
        tips = dict(zip(keys, plan.tips, strict=False))
        remade, _, skips = self._pack_one(view, quotes, plan.bid, tips, plan.behind, plan.refill)
        if remade is None:
            return None
        return replace(remade, skips=(*plan.skips, *skips))

    def without_offers(self, plan: Plan, view: View) -> Plan | None:
        """Return a plan with every sale over pools alone, None when nothing of it pays so."""
        keys = [quote.key for quote in plan.quotes]
        tips = dict(zip(keys, plan.tips, strict=False))
        quotes = [_over_pools(quote) for quote in plan.quotes]
        remade, _, skips = self._pack_one(view, quotes, plan.bid, tips, plan.behind, plan.refill)
        return None if remade is None else replace(remade, skips=(*plan.skips, *skips))

    def settle(self, plan: Plan, gas_used: int, result: RunResult) -> Settled:
        """Return what a simulation means for a plan (`settle_plan`)."""
        return settle_plan(plan, gas_used, result)

    def _allowed(self, bids: Sequence[Bidden]) -> tuple[list[Bidden], list[Skip]]:
        """Leave out what rests on a market or venue that stopped since it was quoted.

        Where only an offer's venue did, the sale goes over pools alone.
        """
        stopped = self._stopped()
        allowed: list[Bidden] = []
        denied: list[Skip] = []
        for quote, bid in bids:
            found = _rests_on(quote, stopped)
            pooled = _over_pools(quote) if found else quote
            if _rests_on(pooled, stopped):
                denied.append(_skip(quote, Reason.DENIED, f"{found[0]} is stopped"))
            else:
                allowed.append((pooled, bid))
        return allowed, denied

    def _measure(self, quote: Quote) -> Extent | None:
        """Return what a quote's group takes up, None where no batch can hold it."""
        try:
            return measure(quote, self._venues, self._markets)
        except BatchError:
            return None

    def _prune(
        self,
        view: View,
        quotes: Sequence[Quote],
        gas_price: int,
        tips: Mapping[CallKey, int],
        sold: Sold,
    ) -> tuple[list[Group], list[Quote]]:
        def begin() -> Sales:
            sales = Sales(self._venues)
            for sale in sold:
                sales.apply_split(sale.routes, sale.amount)
            return sales

        return prune_groups(quotes, begin, Rates(view), gas_price, tips, view.data_fee)

    def _pack_one(
        self,
        view: View,
        quotes: Sequence[Quote],
        bid: Bid,
        tips: Mapping[CallKey, Wei],
        sold: Sold,
        wanted: Wei,
    ) -> tuple[Plan | None, list[Group], list[Skip]]:
        rates = Rates(view)
        gas_price = Fees(bid.max_fee, bid.priority_fee).price(view.next_block.base_fee)
        costs = {
            quote.key: rates.of(quote).wei_up(tip)
            for quote in quotes
            if (tip := tips.get(quote.key, 0))
        }
        groups, dropped = self._prune(view, quotes, gas_price, costs, sold)
        skips = [_unprofitable(quote, rates) for quote in dropped]
        if not groups:
            return None, groups, skips
        kept = tuple(quote for group in groups for quote in group)
        shares = tuple(tips.get(quote.key, Wei(0)) for quote in kept)
        tip = Wei(sum(shares))
        native = view.native.address
        refill = choose_refill_down(kept, shares, wanted, native, gas_price, rates)
        try:
            batch = build_batch(
                groups, self._venues, self._markets, costs, tip, native, bid.deadline, refill
            )
            calldata = encode_run(batch)
        except BatchError as error:
            return None, groups, [*skips, *(_unencodable(quote, error) for quote in kept)]
        refill_gas = REFILL_GAS if refill else 0
        gas = sum(quote.gas for quote in kept) + refill_gas
        tip_usd = sum(rates.of(quote).usd_down(costs.get(quote.key, 0)) for quote in kept)
        dear = rates.of(kept[0])
        refill_usd = -dear.usd_down(-dear.gas_up(refill_gas, gas_price))
        size = transaction_size(len(calldata))
        data_fee, data_gas = Wei(0), 0
        if view.data_fee is not None:
            data_fee = view.data_fee.wei_up(size, gas)
            data_gas = view.data_fee.gas_up(size, view.next_block.base_fee)
        gas_limit = min(_gas_limit(groups) + refill_gas + data_gas, TRANSACTION_GAS)
        room = sum(
            rates.of(quote).wei_down(quote.net - costs.get(quote.key, 0) - quote.minimum_profit)
            for quote in kept
        )
        room -= refill_gas * gas_price  # in no quote's cost
        # what is left over may go into the base fee of a later block, and not more
        max_fee = min(bid.max_fee, gas_price + room // gas)
        if self._rules.gas_budget is not None:
            affordable = (self._rules.gas_budget - data_fee) * 15 // 16 // gas_limit
            max_fee = min(max_fee, max(affordable, _least(view, [bid])))
        plan = Plan(
            id=self._new_id(),
            chain=self._rules.chain,
            head=view.head,
            next_block=view.next_block,
            quotes=kept,
            bid=replace(bid, tip=tip, max_fee=Wei(max_fee)),
            contract=self._rules.contract,
            calldata=calldata,
            gas_limit=gas_limit,
            gas=gas,
            gas_cost=Wei(gas * gas_price + data_fee),
            gross_usd=Usd(sum(quote.gross_usd for quote in kept)),
            net_usd=Usd(sum(quote.net_usd for quote in kept) - tip_usd - refill_usd),
            repaid_usd=Usd(sum(rates.of(quote).usd_down(max(quote.repaid, 0)) for quote in kept)),
            tips=shares if tip else (),
            behind=sold,
            data_fee=data_fee,
            data_gas=data_gas,
            refill=refill,
        )
        return plan, groups, skips


def _over_pools(quote: Quote) -> Quote:
    """Return a quote with its sale over pools alone."""
    return replace(quote, routes=quote.fallback, fallback=()) if quote.fallback else quote


def _rests_on(quote: Quote, parts: Container[str]) -> list[str]:
    """Return which of some parts, by their names, a quote needs: its market, and whom it sells to."""
    needed = (
        f"market/{quote.opportunity.position.home}",
        *(f"venue/{hop.venue}" for hop in quote.hops),
    )
    return [part for part in needed if part in parts]


def _by_strategy(quotes: Iterable[Quote]) -> Iterable[list[Quote]]:
    """Return each strategy's quotes, in the order of its best one."""
    found: dict[str, list[Quote]] = {}
    for quote in quotes:
        found.setdefault(quote.opportunity.strategy, []).append(quote)
    return found.values()


def _join(bids: Sequence[Bid]) -> Bid:
    """Return one bid for a plan: the keenest priority, no more than anyone's cap, in time for all."""
    max_fee = min(bid.max_fee for bid in bids)
    return Bid(
        priority_fee=Wei(min(max(bid.priority_fee for bid in bids), max_fee)),
        max_fee=max_fee,
        deadline=min(bid.deadline for bid in bids),
        tip=Wei(sum(bid.tip for bid in bids)),
    )


def _least(view: View, bids: Iterable[Bid]) -> Wei:
    """Return the maximum fee below which bids are not cut to stay within the budget."""
    found = list(bids)
    priority = max((bid.priority_fee for bid in found), default=Wei(0))
    most = max((bid.max_fee for bid in found), default=Wei(0))
    return Wei(min(most, view.next_block.base_fee_after(FEWEST_BLOCKS) + priority))


def _gas_limit(groups: Sequence[Group]) -> int:
    limits = (
        group_gas_limit(
            [item_gas(quote.opportunity.position, quote.steps[0]) for quote in group],
            len(group[0].hops),
            moving_gas(group),
        )
        for group in groups
    )
    kinds = [source.kind for source in sum_loans(groups) if source.kind is not FlashKind.NONE]
    return min(run_gas_limit(limits, kinds), TRANSACTION_GAS)


def _sales_of(groups: Sequence[Group]) -> Sold:
    return tuple(
        Sale(group[0].routes, sum(quote.steps[0].seizure.received for quote in group))
        for group in groups
    )


def _skip(quote: Quote, reason: Reason, detail: str) -> Skip:
    position = quote.opportunity.position
    return Skip(
        position.market,
        position.protocol,
        position.borrower,
        reason,
        detail,
        quote.opportunity.strategy,
    )


def _unprofitable(quote: Quote, rates: Rates) -> Skip:
    return _skip(quote, Reason.UNPROFITABLE, explain_loss(quote, rates.of(quote)))


def _unencodable(quote: Quote, error: BatchError) -> Skip:
    return _skip(quote, Reason.GAS_CAP, f"the contract cannot take it: {error}")


def _misfit(quote: Quote) -> Skip:
    return _skip(quote, Reason.GAS_CAP, "it does not fit into one transaction alone")
