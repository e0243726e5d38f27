"""How much goes into one transaction: gas, capital, and the contract's bounds."""

from collections.abc import Iterable, Mapping, Sequence

from keeper.contracts import liquidator
from keeper.planning.costs import Rates
from keeper.planning.gas import group_gas_limit_of, item_gas, run_gas_limit
from keeper.planning.grouping import Group, GroupKey, cover_up, group_key
from keeper.planning.rules import PlanRules
from keeper.planning.size import batch_size, tokens_of
from keeper.types import FlashSource, Quote
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
        key, step = group_key(quote), quote.steps[0]
        loan = self._loans.get(quote.flash, 0) + cover_up(step)
        if loan > quote.flash.available:
            return False
        total, largest = self._gas.get(key, (0, 0))
        gas = item_gas(quote.opportunity.position, step)
        total, largest = total + gas, max(largest, gas)
        limits = self._limits | {key: group_gas_limit_of(total, largest, len(quote.route))}
        loans = self._loans | {quote.flash: loan}
        is_new = key not in self._gas
        tokens = self._tokens | tokens_of([quote]) if is_new else self._tokens
        hops = self._hops + len(quote.route) if is_new else self._hops
        if not self._fits(limits, loans, tokens, hops):
            return False
        self._gas[key] = total, largest
        self._limits, self._loans, self._tokens, self._hops = limits, loans, tokens, hops
        self._items += 1
        self._repaid += repaid
        return True

    def _fits(
        self,
        limits: Mapping[GroupKey, int],
        loans: Mapping[FlashSource, int],
        tokens: set[Address],
        hops: int,
    ) -> bool:
        bounds = self._bounds
        # Whoever lends may want a second token listed.
        listed = len(tokens) + len(loans) + 1
        size = batch_size(
            len(tokens), len(loans), len(limits), hops, self._items + 1, bounds["max_addresses"]
        )
        return (
            len(limits) <= bounds["max_groups"]
            and len(loans) <= bounds["max_funds"]
            and listed <= bounds["max_tokens"]
            and size <= bounds["max_batch"]
            and run_gas_limit(limits.values(), (source.kind for source in loans)) <= self._cap
        )


def split(
    quotes: Sequence[Quote], rules: PlanRules, rates: Rates, max_fee: int
) -> tuple[list[list[Quote]], list[Quote]]:
    """Put quotes, best first, into as few transactions as fit; return those that fit in none."""
    loads: list[tuple[Load, list[Quote]]] = []
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
    return [held for _, held in loads], misfits


def sum_loans(groups: Iterable[Group]) -> dict[FlashSource, int]:
    """Return what is borrowed of each source."""
    loans: dict[FlashSource, int] = {}
    for group in groups:
        for quote in group:
            loans[quote.flash] = loans.get(quote.flash, 0) + cover_up(quote.steps[0])
    return loans
