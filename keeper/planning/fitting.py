"""How much goes into one transaction: gas, capital, and the contract's bounds."""

from collections.abc import Iterable, Sequence
from copy import copy

from keeper.contracts import liquidator
from keeper.planning.costs import Rates
from keeper.planning.gas import (
    FUND,
    called_gas,
    group_gas,
    group_gas_limit_of,
    item_gas,
    overhead_gas,
    run_gas_limit_of,
)
from keeper.planning.grouping import Group, GroupKey, cover_up, group_key
from keeper.planning.rules import PlanRules
from keeper.planning.size import batch_size, tokens_of
from keeper.types import FlashKind, FlashSource, Quote
from keeper.units import Address, Usd


class Load:
    """What one transaction holds so far."""

    def __init__(self, rules: PlanRules, max_fee: int) -> None:
        self._bounds = liquidator().bounds
        self._cap = rules.gas_cap_at(max_fee)
        self._largest_repay = rules.largest_repay
        self._repaid = 0
        self._most_items = min(rules.max_items, self._bounds["max_items"])
        self._gas: dict[GroupKey, tuple[int, int]] = {}
        self._limits: dict[GroupKey, int] = {}
        self._limit = 0
        self._loans: dict[FlashSource, int] = {}
        self._tokens: set[Address] = set()
        self._hops = 0
        self._items = 0

    def add(self, quote: Quote, repaid: Usd) -> bool:
        """Take a quote and return True, or change nothing when it does not fit."""
        if self._items >= self._most_items:
            return False
        if self._largest_repay is not None and self._repaid + repaid > self._largest_repay:
            return False
        key, step, source = group_key(quote), quote.steps[0], quote.flash
        held = self._loans.get(source)
        loan = (held or 0) + cover_up(step)
        if loan > source.available:
            return False
        total, largest = self._gas.get(key, (0, 0))
        gas = item_gas(quote.opportunity.position, step)
        total, largest = total + gas, max(largest, gas)
        of_group = called_gas(group_gas_limit_of(total, largest, len(quote.route)))
        limit = self._limit - self._limits.get(key, 0) + of_group
        is_new = key not in self._gas
        tokens = self._tokens | tokens_of([quote]) if is_new else self._tokens
        hops = self._hops + len(quote.route) if is_new else self._hops
        kinds = [each.kind for each in self._loans]
        if held is None:
            kinds.append(source.kind)
        if not self._fits(len(self._gas) + is_new, kinds, limit, len(tokens), hops):
            return False
        self._gas[key], self._limits[key] = (total, largest), of_group
        self._limit, self._tokens, self._hops = limit, tokens, hops
        self._loans[source] = loan
        self._items += 1
        self._repaid += repaid
        return True

    def copy(self) -> "Load":
        """Return one that holds the same."""
        other = copy(self)
        for name in ("_gas", "_limits", "_loans"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    @property
    def overhead(self) -> int:
        """Return the gas it takes beside its liquidations."""
        pools = {hop.pool for *_, route in self._gas for hop in route}
        sales = sum(group_gas(len(route)) for *_, route in self._gas)
        return overhead_gas(0, len(pools)) + sales + sum(FUND[each.kind] for each in self._loans)

    def _fits(
        self, groups: int, kinds: Sequence[FlashKind], limit: int, tokens: int, hops: int
    ) -> bool:
        bounds = self._bounds
        loans = len(kinds)
        # Whoever lends may want a second token listed.
        listed = tokens + loans + 1
        size = batch_size(tokens, loans, groups, hops, self._items + 1, bounds["max_addresses"])
        return (
            groups <= bounds["max_groups"]
            and loans <= bounds["max_funds"]
            and listed <= bounds["max_tokens"]
            and size <= bounds["max_batch"]
            and run_gas_limit_of(limit, kinds) <= self._cap
        )


Loaded = tuple[Load, list[Quote]]


def fill(
    quotes: Sequence[Quote], rules: PlanRules, rates: Rates, max_fee: int
) -> tuple[list[Loaded], list[Quote]]:
    """Put quotes, best first, into as few transactions as fit; return those that fit in none."""
    loads: list[Loaded] = []
    misfits = []
    for quote in quotes:
        repaid = rates.of(quote).usd_down(quote.repaid)
        for load, held in loads:
            if load.add(quote, repaid):
                held.append(quote)
                break
        else:
            load = Load(rules, max_fee)
            if load.add(quote, repaid):
                loads.append((load, [quote]))
            else:
                misfits.append(quote)
    return loads, misfits


def split(
    quotes: Sequence[Quote], rules: PlanRules, rates: Rates, max_fee: int
) -> tuple[list[list[Quote]], list[Quote]]:
    """Put quotes, best first, into transactions; return those that fit in none.

    Of the ways to do it that take no more gas than `fill`, the one whose transactions rest least on
    each other: with several lanes they can go beside each other.
    """
    loads, misfits = fill(quotes, rules, rates, max_fee)
    parts = apart(quotes) if len(loads) > 1 else []
    if len(parts) > 1:
        most = _overhead(loads)
        filled = [fill(part, rules, rates, max_fee)[0] for part in parts]
        for together in (False, True) if rules.lanes > 1 else (True,):
            found = _joined(filled, rates, together=together)
            if _overhead(found) <= most:
                found.sort(key=lambda each: -sum(quote.net_usd for quote in each[1]))
                return [held for _, held in found], misfits
    return [held for _, held in loads], misfits


def _joined(parts: Sequence[Sequence[Loaded]], rates: Rates, *, together: bool) -> list[Loaded]:
    """Return what parts are alone, those that need one transaction joined with others like them.

    With `together` also with what is left over of those that need several.
    """
    done = [each for part in parts for each in (part[:-1] if together else part) if len(part) > 1]
    rest = [part[-1] for part in parts if part and (together or len(part) == 1)]
    joined: list[Loaded] = []
    for load, held in sorted(rest, key=lambda each: -len(each[1])):
        for index, (other, others) in enumerate(joined):
            both = other.copy()
            if all(both.add(quote, rates.of(quote).usd_down(quote.repaid)) for quote in held):
                joined[index] = both, [*others, *held]
                break
        else:
            joined.append((load, held))
    return done + joined


def _overhead(loads: Iterable[Loaded]) -> int:
    return sum(load.overhead for load, _ in loads)


def apart(quotes: Iterable[Quote]) -> list[list[Quote]]:
    """Return the quotes by what they share, directly or through others: pools, or own capital.

    Who lends may lend to others as well, unless a sale goes through it: that changes what it has.
    """
    parts: list[tuple[set[Address], set[Address], list[int]]] = []
    held = list(quotes)
    for index, quote in enumerate(held):
        moved, lending = {hop.pool for hop in quote.route}, set[Address]()
        if quote.flash.kind is FlashKind.INVENTORY:
            moved.add(quote.flash.token)
        elif quote.flash.kind is FlashKind.UNISWAP_V3:
            lending.add(quote.flash.source)
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
    return [[held[index] for index in sorted(indexes)] for *_, indexes in parts]


def sum_loans(groups: Iterable[Group]) -> dict[FlashSource, int]:
    """Return what is borrowed of each source."""
    loans: dict[FlashSource, int] = {}
    for group in groups:
        for quote in group:
            loans[quote.flash] = loans.get(quote.flash, 0) + cover_up(quote.steps[0])
    return loans
