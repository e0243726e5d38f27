"""How much goes into one transaction: gas, capital, and the contract's bounds."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass

from keeper.contracts import liquidator
from keeper.planning.costs import Rates
from keeper.planning.gas import (
    FUND,
    called_gas,
    extra_gas,
    group_gas,
    group_gas_limit_of,
    item_gas,
    overhead_gas,
    run_gas_limit_of,
)
from keeper.planning.grouping import Group, GroupKey, PositionKey, cover_up, group_key
from keeper.planning.rules import PlanRules
from keeper.planning.size import ITEM, Extent, packed_size, tokens_of
from keeper.types import FlashKind, FlashSource, Hop, Quote, hops_of
from keeper.units import Address, Usd


@dataclass(frozen=True, slots=True)
class Item:
    """A quote with what it takes up; equal numbers of `group` and `loan` are shared.

    Without an `extent` the contract takes no group that holds it.
    """

    quote: Quote
    group: int
    loan: int
    gas: int
    borrowed: int
    repaid: Usd
    extent: Extent | None


class Load:
    """What one transaction holds so far."""

    def __init__(self, rules: PlanRules, max_fee: int) -> None:
        self._bounds = liquidator().bounds
        self._cap = rules.gas_cap_at(max_fee)
        self._largest_repay = rules.largest_repay
        self._repaid = 0
        self._most_items = min(rules.max_items, self._bounds["max_items"])
        self._gas: dict[int, tuple[int, int]] = {}
        self._limits: dict[int, int] = {}
        self._limit = 0
        self._hops: dict[int, tuple[Hop, ...]] = {}
        self._loans: dict[int, int] = {}
        self._kinds: tuple[FlashKind, ...] = ()
        self._tokens: set[Address] = set()
        self._named: frozenset[Address] = frozenset()
        self._debts: frozenset[Address] = frozenset()
        self._sizes: dict[int, int] = {}
        self._size = 0
        self._shared = 0
        self._items = 0

    def add(self, item: Item) -> bool:
        """Take an item and return True, or change nothing when it does not fit."""
        if self._items >= self._most_items or item.extent is None:
            return False
        if self._largest_repay is not None and self._repaid + item.repaid > self._largest_repay:
            return False
        quote, key, hops = item.quote, item.group, item.quote.hops
        held = self._loans.get(item.loan)
        loan = (held or 0) + item.borrowed
        if loan > quote.flash.available:
            return False
        shared = quote.steps[0].seizure.shared_gas
        total, largest = self._gas.get(key, (shared, 0))
        total, largest = total + item.gas + quote.sale_gas, max(largest, item.gas)
        of_group = called_gas(group_gas_limit_of(total, largest, len(hops), extra_gas(hops)))
        limit = self._limit - self._limits.get(key, 0) + of_group
        is_new = key not in self._gas
        tokens = self._tokens | tokens_of([quote]) if is_new else self._tokens
        named = self._named | item.extent.named if is_new else self._named
        debts = self._debts | {quote.debt.address}
        of_key = self._sizes.get(key, item.extent.bytes) + ITEM
        size = self._size - self._sizes.get(key, 0) + of_key
        kinds = self._kinds
        if held is None and quote.flash.kind is not FlashKind.NONE:
            kinds = (*kinds, quote.flash.kind)
        if of_key > self._bounds["max_group"]:
            return False
        groups = len(self._gas) + is_new
        if not self._fits(groups, kinds, limit, len(tokens), len(named), len(debts), size):
            return False
        self._gas[key], self._limits[key], self._hops[key] = (
            (total, largest),
            of_group,
            hops,
        )
        self._limit, self._tokens = limit, tokens
        self._named, self._debts = named, debts
        self._sizes[key], self._size = of_key, size
        self._loans[item.loan], self._kinds = loan, kinds
        self._items += 1
        self._shared += shared if is_new else 0
        self._repaid += item.repaid
        return True

    def copy(self) -> "Load":
        """Return one that holds the same."""
        other = copy(self)
        for name in ("_gas", "_limits", "_hops", "_loans", "_sizes"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    @property
    def overhead(self) -> int:
        """Return the gas it takes beside its liquidations."""
        sold = self._hops.values()
        pools = {hop.pool for hops in sold for hop in hops}
        sales = sum(group_gas(len(hops), extra_gas(hops)) for hops in sold)
        loans = sum(FUND[kind] for kind in self._kinds)
        return overhead_gas(0, len(pools)) + sales + self._shared + loans

    def _fits(
        self,
        groups: int,
        kinds: Sequence[FlashKind],
        limit: int,
        tokens: int,
        named: int,
        debts: int,
        size: int,
    ) -> bool:
        bounds = self._bounds
        loans = len(kinds)
        # Whoever lends may want a second token listed.
        listed = tokens + loans + 1
        # and is named beside it
        named += 2 * loans
        return (
            groups <= bounds["max_groups"]
            and loans <= bounds["max_funds"]
            and listed <= bounds["max_tokens"]
            and named <= bounds["max_addresses"]
            and packed_size(named, loans, debts, groups, size) <= bounds["max_batch"]
            and run_gas_limit_of(limit, kinds) <= self._cap
        )


Loaded = tuple[Load, list[Item]]
Shared = Address | PositionKey
Measure = Callable[[Quote], Extent | None]
"""Tells what the group of a quote takes up in a batch; None where the contract takes none such."""


def fill(
    quotes: Sequence[Quote], rules: PlanRules, rates: Rates, max_fee: int, measure: Measure
) -> tuple[list[list[Quote]], list[Quote]]:
    """Put quotes, best first, into as few transactions as fit; return those that fit in none."""
    loads, misfits = _fill(_weigh(quotes, rates, measure), rules, max_fee)
    return _quotes(loads), misfits


def split(
    quotes: Sequence[Quote], rules: PlanRules, rates: Rates, max_fee: int, measure: Measure
) -> tuple[list[list[Quote]], list[Quote]]:
    """Put quotes, best first, into transactions; return those that fit in none.

    Of the ways to do it that take no more gas than `fill`, the one whose transactions rest least on
    each other: with several lanes they can go beside each other.
    """
    items = _weigh(quotes, rates, measure)
    loads, misfits = _fill(items, rules, max_fee)
    parts = apart(quotes) if len(loads) > 1 else []
    if len(parts) > 1:
        most = _overhead(loads)
        filled = [_fill([items[index] for index in part], rules, max_fee)[0] for part in parts]
        for together in (False, True) if rules.lanes > 1 else (True,):
            found = _joined(filled, together=together)
            if _overhead(found) <= most:
                found.sort(key=lambda each: -sum(item.quote.net_usd for item in each[1]))
                return _quotes(found), misfits
    return _quotes(loads), misfits


def _weigh(quotes: Sequence[Quote], rates: Rates, measure: Measure) -> list[Item]:
    groups: dict[GroupKey, tuple[int, Extent | None]] = {}
    loans: dict[FlashSource, int] = {}
    items: list[Item] = []
    for quote in quotes:
        key = group_key(quote)
        if key not in groups:
            groups[key] = len(groups), measure(quote)
        group, extent = groups[key]
        items.append(
            Item(
                quote,
                group,
                loans.setdefault(quote.flash, len(loans)),
                item_gas(quote.opportunity.position, quote.steps[0]),
                cover_up(quote.steps[0]),
                rates.of(quote).usd_down(max(quote.repaid, 0)),
                extent,
            )
        )
    return items


def _fill(
    items: Iterable[Item], rules: PlanRules, max_fee: int
) -> tuple[list[Loaded], list[Quote]]:
    """Put each position's items, in order, into the first transaction that has room for all."""
    sequences: dict[PositionKey, list[Item]] = {}
    for item in items:
        sequences.setdefault(item.quote.opportunity.key, []).append(item)
    loads: list[Loaded] = []
    misfits: list[Quote] = []
    for sequence in sequences.values():
        for index, (load, held) in enumerate(loads):
            if (fuller := _with(load, sequence)) is not None:
                loads[index] = fuller, [*held, *sequence]
                break
        else:
            first = _with(Load(rules, max_fee), sequence)
            if first is not None:
                loads.append((first, sequence))
            else:
                misfits += [item.quote for item in sequence]
    return loads, misfits


def _with(load: Load, sequence: Sequence[Item]) -> Load | None:
    """Return the load with all items of a sequence, None when they do not fit together."""
    if len(sequence) == 1:
        return load if load.add(sequence[0]) else None
    fuller = load.copy()
    return fuller if all(fuller.add(item) for item in sequence) else None


def _quotes(loads: Iterable[Loaded]) -> list[list[Quote]]:
    return [[item.quote for item in held] for _, held in loads]


def _joined(parts: Sequence[Sequence[Loaded]], *, together: bool) -> list[Loaded]:
    """Return what parts are alone, those that need one transaction joined with others like them.

    With `together` also with what is left over of those that need several.
    """
    done = [each for part in parts for each in (part[:-1] if together else part) if len(part) > 1]
    rest = [part[-1] for part in parts if part and (together or len(part) == 1)]
    joined: list[Loaded] = []
    for load, held in sorted(rest, key=lambda each: -len(each[1])):
        for index, (other, others) in enumerate(joined):
            both = other.copy()
            if all(both.add(item) for item in held):
                joined[index] = both, [*others, *held]
                break
        else:
            joined.append((load, held))
    return done + joined


def _overhead(loads: Iterable[Loaded]) -> int:
    return sum(load.overhead for load, _ in loads)


def apart(quotes: Iterable[Quote]) -> list[list[int]]:
    """Return the quotes' indexes by what they share, directly or through others.

    Those are pools, those an offer stands in for as well, own capital, and a position.

    Who lends may lend to others as well, unless a sale goes through it: that changes what it has.
    """
    parts: list[tuple[set[Shared], set[Shared], list[int]]] = []
    for index, quote in enumerate(quotes):
        moved: set[Shared] = {hop.pool for hop in (*quote.hops, *hops_of(quote.fallback))}
        lending: set[Shared] = set()
        moved.add(quote.opportunity.key)
        if quote.flash.kind is FlashKind.INVENTORY:
            moved.add(quote.flash.token)
        lending |= quote.flash.shuts
        touched = [part for part in parts if moved & (part[0] | part[1]) or lending & part[0]]
        if len(touched) != 1:
            kept = [part for part in parts if part not in touched]
            indexes = [each for part in touched for each in part[2]]
            for part in touched:
                moved |= part[0]
                lending |= part[1]
            parts = [*kept, (moved, lending, [*indexes, index])]
            continue
        first = touched[0]
        first[0].update(moved)
        first[1].update(lending)
        first[2].append(index)
    return [sorted(indexes) for *_, indexes in parts]


def sum_loans(groups: Iterable[Group]) -> dict[FlashSource, int]:
    """Return what is borrowed of each source."""
    loans: dict[FlashSource, int] = {}
    for group in groups:
        for quote in group:
            loans[quote.flash] = loans.get(quote.flash, 0) + cover_up(quote.steps[0])
    return loans
