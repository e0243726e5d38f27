"""Which liquidations share a sale, and how a batch of them is priced in the order it runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from keeper.fees import DataFee
from keeper.planning.costs import Rates
from keeper.planning.gas import FUND, TURN, extra_gas, group_gas, item_gas, run_gas, shared_gas
from keeper.planning.routing import Routes, Sales
from keeper.planning.size import run_size
from keeper.ports import Terms
from keeper.types import FlashSource, Quote, Seizure, Step
from keeper.units import Address, mul_div_up

Group = list[Quote]
"""Quotes of one stage, market, collateral, debt, routes and way, in the order they run."""

GroupKey = tuple[int, str, Address, Address, Routes, int]

PositionKey = tuple[str, Address]

CallKey = tuple[str, Address, int]
"""A position, and how many calls on it stand before: `Quote.key`."""

_LATE_SHARE = 100_000
_GAS = 10**6
"""Gas that margins are measured in: one unit of it may cost less than the smallest of a token."""
_ROUNDS = 8


def group_key(quote: Quote) -> GroupKey:
    """Return what quotes of one group have in common."""
    terms = quote.steps[0].terms
    market, way = quote.opportunity.position.market, getattr(terms, "way", 0)
    return quote.stage, market, terms.collateral.address, terms.debt.address, quote.routes, way


def group_quotes(quotes: Sequence[Quote]) -> list[Group]:
    """Put quotes into groups by stage, those of the highest net first; a group's order is kept.

    Tokens that have a turn of their own stand in its order (`take_turns`).
    """
    turns = take_turns(quotes)
    groups: dict[GroupKey, Group] = {}
    for quote in quotes:
        groups.setdefault(group_key(quote), []).append(quote)
    return sorted(
        groups.values(),
        key=lambda group: (
            group[0].stage,
            _turn(group[0], turns),
            -sum(quote.net_usd for quote in group),
        ),
    )


def take_turns(quotes: Iterable[Quote]) -> frozenset[Address]:
    """Return which of several debt tokens are lent for a premium.

    Where all their items fail on the chain nobody pays it: they run behind the others, one token after
    another by address, and are undone alone.
    """
    found = list(quotes)
    tokens = {quote.debt.address for quote in found}
    costly = {quote.debt.address for quote in found if quote.flash.fee_ppm or quote.flash.fee_wad}
    return frozenset(costly) if len(tokens) > 1 else frozenset()


def turns_of(groups: Sequence[Group]) -> frozenset[Address]:
    """Return the tokens that can have a turn of their own: none where that changes what was priced.

    That is where groups change places that share a position or a pool.
    """
    turns = take_turns(quote for group in groups for quote in group)
    places = [_turn(group[0], turns) for group in groups]
    if places != sorted(places):
        touched = [_touched(group) for group in groups]
        for index, place in enumerate(places):
            for later in range(index + 1, len(places)):
                if places[later] < place and touched[later] & touched[index]:
                    return frozenset()
    return turns


def _turn(quote: Quote, turns: frozenset[Address]) -> bytes:
    return quote.debt.address if quote.debt.address in turns else b""


def _touched(group: Group) -> set[Address | PositionKey]:
    found: set[Address | PositionKey] = {hop.pool for hop in group[0].hops}
    return found | {quote.opportunity.key for quote in group}


def best_first(quotes: Iterable[Quote]) -> list[Quote]:
    """Return quotes by what their position nets in all, its calls in the order they run."""
    found = list(quotes)
    nets: dict[PositionKey, int] = {}
    for quote in found:
        key = quote.opportunity.key
        nets[key] = nets.get(key, 0) + quote.net_usd
    return sorted(found, key=lambda quote: (-nets[quote.opportunity.key], quote.part))


def orphans(quotes: Iterable[Quote]) -> list[Quote]:
    """Return the quotes of sequences that are not whole any more.

    Calls on one position are judged together: the first alone may pay too little, or leave less
    health than it found.
    """
    found = list(quotes)
    held = Counter(quote.opportunity.key for quote in found if quote.parts > 1)
    return [
        quote for quote in found if quote.parts > 1 and held[quote.opportunity.key] < quote.parts
    ]


def cover_up(step: Step) -> int:
    """Return the amount to send for a step (`cover_up_repay`)."""
    return cover_up_repay(step.terms, step.repay, step.seizure)


def word_up(step: Step) -> int:
    """Return the amount the call of a step names: what is sent for it, unless the terms say otherwise."""
    word = _word_of(step.terms)
    return cover_up(step) if word is None else word(step.repay)


def cover_up_repay(terms: Terms, repay: int, known: Seizure | None = None) -> int:
    """Return the amount to send for a repay: a little more for the largest legal one.

    The protocol pulls no more than is owed; a block later that has grown, and a close that falls
    short of it by a wei would leave dust and revert. Where it takes no more than it may, nothing is added,
    and where it pays for the call nothing is sent. A call that names other words than an amount, as
    shares, pulls what they are worth by then, whatever its size. `known` is what the repay seizes, if
    that was computed before.
    """
    if repay < terms.maximum and _word_of(terms) is None:
        return repay
    seizure = terms.seize(repay) if known is None else known
    if seizure.repaid <= 0:
        return 0
    if seizure.is_exact:
        return repay
    return repay + repay // _LATE_SHARE + 1


def _word_of(terms: Terms) -> Callable[[int], int] | None:
    """Return `Worded.word` of terms that have it: asking a protocol takes longer than a seizure."""
    word: Callable[[int], int] | None = getattr(terms, "word", None)
    return word


def price_groups(
    groups: Sequence[Group],
    sales: Sales,
    rates: Rates,
    gas_price: int,
    data_fee: DataFee | None = None,
    able: Mapping[CallKey, int] | None = None,
) -> list[Group]:
    """Price every quote exactly: sales in order, one per group, overheads shared (`share_gas`).

    Within a group a quote's proceeds are what its collateral adds to the sale of those before it.
    """
    used = share_gas(groups, able)
    data = 0
    if data_fee is not None and used:
        whole = data_fee.wei_up(run_size(groups), sum(used))
        data = mul_div_up(whole, 1, len(used))
    gases = iter(used)
    priced = []
    for group in groups:
        routes = group[0].routes
        total = sum(quote.steps[0].seizure.received for quote in group)
        moving = mul_div_up(sales.extra_gas(routes, total), 1, len(group))
        done, sold, brought = [], 0, 0
        for quote in group:
            out = sales.quote_split(routes, sold + quote.steps[0].seizure.received)
            proceeds = max(out - brought, 0)
            if out:
                sold, brought = sold + quote.steps[0].seizure.received, out
            gas = next(gases) + moving
            done.append(price_quote(quote, proceeds, gas, rates, gas_price, data, moving))
        if sold:
            sales.apply_split(routes, sold)
        priced.append(done)
    return priced


def moving_gas(group: Group) -> int:
    """Return the gas a group takes beyond items and swaps: its sale's, as priced, and its one call's."""
    return extra_gas(group[0].hops) + sum(quote.sale_gas for quote in group) + shared_gas(group)


def share_gas(groups: Sequence[Group], able: Mapping[CallKey, int] | None = None) -> list[int]:
    """Return each quote's gas in order: its own, and shares of its group's, its loan's and the run's.

    Shares are even, or by what each is `able` to carry in gas beyond its own: then all that pay for
    themselves pay together exactly when what they earn is enough for what they share.
    """
    everyone = [quote for group in groups for quote in group]
    used = [item_gas(quote.opportunity.position, quote.steps[0]) for quote in everyone]
    left = [1 if able is None else able[quote.key] for quote in everyone]

    def carry(total: int, places: Sequence[int]) -> None:
        bearing = [max(left[place], 0) for place in places]
        whole = sum(bearing)
        for place, share in zip(places, bearing, strict=True):
            part = mul_div_up(total, share, whole) if whole else mul_div_up(total, 1, len(places))
            used[place] += part
            if able is not None:
                left[place] -= part

    first = 0
    for group in groups:
        hops = group[0].hops
        once = group_gas(len(hops), extra_gas(hops) + shared_gas(group))
        carry(once, range(first, first + len(group)))
        first += len(group)
    loans: dict[FlashSource, list[int]] = {}
    for place, quote in enumerate(everyone):
        loans.setdefault(quote.flash, []).append(place)
    turns = take_turns(everyone)
    for source, places in loans.items():
        carry(FUND[source.kind] + (TURN if source.token in turns else 0), places)
    if everyone:
        carry(run_gas(everyone), range(len(everyone)))
    return used


def price_quote(
    quote: Quote,
    proceeds: int,
    gas: int,
    rates: Rates,
    gas_price: int,
    data_wei: int = 0,
    sale_gas: int = 0,
) -> Quote:
    """Return a quote with other proceeds, gas and data fee, and all that follows from them."""
    rate = rates.of(quote)
    data_fee = rate.wei_up(data_wei)
    gas_cost = rate.gas_up(gas, gas_price) + data_fee
    net = proceeds - quote.repaid - quote.premium - gas_cost
    return Quote(
        opportunity=quote.opportunity,
        steps=quote.steps,
        routes=quote.routes,
        flash=quote.flash,
        debt=quote.debt,
        gas=gas,
        proceeds=proceeds,
        repaid=quote.repaid,
        premium=quote.premium,
        gas_cost=gas_cost,
        net=net,
        net_usd=rate.usd_down(net),
        minimum_profit=quote.minimum_profit,
        gross_usd=rate.usd_down(proceeds - quote.repaid),
        data_fee=data_fee,
        part=quote.part,
        stage=quote.stage,
        sale_gas=sale_gas,
        fallback=quote.fallback,
        parts=quote.parts,
    )


def prune_groups(
    quotes: Sequence[Quote],
    begin: Callable[[], Sales],
    rates: Rates,
    gas_price: int,
    tips: Mapping[CallKey, int],
    data_fee: DataFee | None = None,
) -> tuple[list[Group], list[Quote]]:
    """Price quotes and drop the worst quarter of each group's short ones until none is short.

    Where one is short at even shares of the overhead, those that earn more carry more of it.
    `tips` are in each quote's debt token and come out of its net. Dropping one leaves the others a
    better price and a larger share of the overhead, so all are priced again each time. What follows
    a dropped call on the same position goes with it.
    """

    def margin(quote: Quote) -> int:
        return quote.net - tips.get(quote.key, 0) - quote.minimum_profit

    def ability(quote: Quote) -> int:
        """Return how much gas a quote can pay beyond its own and its sale's."""
        own = item_gas(quote.opportunity.position, quote.steps[0]) + quote.sale_gas
        unit = max(rates.of(quote).gas_up(_GAS, gas_price), 1)
        return margin(quote) * _GAS // unit + quote.gas - own

    groups, dropped = group_quotes(quotes), list[Quote]()
    for round_number in range(len(quotes) + 1):
        groups = price_groups(groups, begin(), rates, gas_price, data_fee)
        short = [[quote for quote in group if margin(quote) < 0] for group in groups]
        if not any(short):
            break
        able = {quote.key: ability(quote) for group in groups for quote in group}
        groups = price_groups(groups, begin(), rates, gas_price, data_fee, able)
        short = [[quote for quote in group if margin(quote) < 0] for group in groups]
        if not any(short):
            break
        if round_number < _ROUNDS:
            short = [
                sorted(some, key=lambda quote: able[quote.key])[: -(-len(some) // 4)]
                for some in short
            ]
        gone = {id(quote) for some in short for quote in some}
        left = [quote for group in groups for quote in group if id(quote) not in gone]
        lost = orphans(left)
        gone |= {id(quote) for quote in lost}
        dropped += [*(quote for some in short for quote in some), *lost]
        groups = [[quote for quote in group if id(quote) not in gone] for group in groups]
        groups = [group for group in groups if group]
    return groups, dropped
