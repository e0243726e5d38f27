"""Where the collateral of a pair is sold: the routes that share a sale, as one curve.

What a sale brings is exact. Which routes share it follows from equal marginal prices, and together
they bring more than the gas of those beyond the cheapest. Measured curves last as long as nobody else
sells through their pools: one sale is one outlet's, whatever the number of positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keeper.planning.curves import Curve, Filling, polish
from keeper.planning.gas import COLD_POOL, COLD_TOKEN, SWAP, extra_gas
from keeper.planning.routing import Ranked, Route, Sales
from keeper.planning.shares import portions
from keeper.types import Portion
from keeper.units import Address

Rank = Callable[[int, frozenset[Address]], list[Ranked]]
"""Routes that can fill an amount, best first, none through these pools."""

MOST_ROUTES = 4
"""Routes of one sale: four of three hops are as many actions as a group may have."""
_KEPT = 3
"""Routes compared for every amount; the rest wait until a split may pay."""
_HALVINGS = 20
MARGIN = 1.0005
"""How far the price of a probe may lie under that of its first unit."""
_PARTS = (2, 4, 7, 10)
"""Amounts, in halvings of the whole, at which a route beside others is looked for."""


class Deal(NamedTuple):
    """What an amount brings and over which routes; `net` is less the gas of further routes."""

    net: int
    out: int
    parts: tuple[tuple[Route, int], ...]


_NOTHING = Deal(0, 0, ())


@dataclass(slots=True)
class _Way:
    route: Route
    pools: frozenset[Address]
    gas: int
    curve: Curve | None = None


class Outlet:
    """The sale of one pair's collateral; `per_gas` is what one gas costs in the debt token.

    `stand` returns the pools a route meets: trial sales with everybody else's made.
    """

    def __init__(
        self, rank: Rank, stand: Callable[["Outlet", Route], Sales], amount: int, per_gas: float
    ) -> None:
        self._rank = rank
        self._stand = stand
        self._per_gas = per_gas
        self._ways: list[_Way] = []
        self._is_wide = False
        self._deals: dict[int, Deal] = {}
        self._prices: dict[int, float] = {}
        self._split: tuple[int, list[_Way]] = (0, [])
        self._fillings: dict[tuple[Route, ...], Filling] = {}
        self._spot: float | None = None
        self._shut: frozenset[Address] = frozenset()
        self.amount = amount
        self.total = 0
        self.placed: tuple[tuple[Route, int], ...] = ()
        """The sale as others find it: what each route sold when the total last changed."""
        self._find()

    @property
    def is_open(self) -> bool:
        """Whether any route connects the pair."""
        return bool(self._ways)

    @property
    def first(self) -> Route:
        """Return the route that was best when they were ranked."""
        return self._ways[0].route

    def spot(self) -> float:
        """Return at least what the first unit of collateral can bring."""
        if self._spot is None:
            self._spot = MARGIN * max(self._price(way) for way in self._ways[:_KEPT])
        return self._spot

    def price(self) -> float:
        """Return what one more unit brings behind all that is sold."""
        total = self.total
        if not total or not self._ways[0].route:
            return self.spot() / MARGIN
        known = self._prices.get(total)
        if known is None:
            known = self._prices[total] = self._next_price(self.deal(total), total)
        return known

    def last_price(self) -> float:
        """Return the least a unit sold brings; 0 where the pools cannot fill the sale."""
        deal = self.deal(self.total)
        if not self.total or not self._ways[0].route:
            return self.spot() / MARGIN
        return min((self._after(route, part) for route, part in deal.parts), default=0.0)

    def _next_price(self, deal: Deal, total: int) -> float:
        if not deal.out:
            # The pools cannot even fill what is sold.
            return 0.0
        prices = {route: self._after(route, part) for route, part in deal.parts}
        rest = [self._price(way) for way in self._ways if way.route not in prices]
        return max([*prices.values(), *(price for price in rest if price * total > deal.out)])

    def sell(self, total: int) -> frozenset[Address]:
        """Sell so much in all; return the pools in which that changes something."""
        if total == self.total:
            return frozenset()
        self.total = total
        return self.balance()

    def balance(self) -> frozenset[Address]:
        """Divide the sale as prices stand now; return the pools in which that changes something."""
        before, self.placed = self.placed, self.deal(self.total).parts
        if before == self.placed:
            return frozenset()
        return frozenset(hop.pool for route, _ in (*before, *self.placed) for hop in route)

    def shut(self, pools: frozenset[Address]) -> None:
        """Leave out routes through pools that lend, and rank again where none is left."""
        self._shut = pools
        left = [way for way in self._ways if not way.pools & pools]
        if len(left) == len(self._ways):
            return
        self._ways = left
        self._forget()
        if not left:
            self._find()

    def touch(self, pools: frozenset[Address]) -> None:
        """Measure anew what goes through pools that others sell through now."""
        touched = [way for way in self._ways if way.pools & pools]
        for way in touched:
            way.curve = None
        if touched:
            self._forget()

    @property
    def fills(self) -> bool:
        """Whether the pools can fill all that is sold."""
        return not self.total or self.deal(self.total).out > 0

    @property
    def least_gas(self) -> int:
        """Return the gas of the cheapest route, which no `Deal.net` counts."""
        return min((way.gas for way in self._ways), default=0)

    def sale(self, amount: int | None = None) -> tuple[Portion, ...]:
        """Return the routes of the whole sale with their shares, or those of another amount."""
        deal = self.deal(self.total if amount is None else amount)
        parts = [(route, part) for route, part in deal.parts if route and part]
        if len(parts) > 1:
            curves = [self._curve(self._way(route)) for route, _ in parts]
            polished = polish(curves, [part for _, part in parts])
            parts = [(route, part) for (route, _), part in zip(parts, polished, strict=True)]
        return portions(parts) if parts else ()

    def deal(self, amount: int) -> Deal:
        """Return the best sale of an amount, all that is sold of the pair counted."""
        known = self._deals.get(amount)
        if known is None:
            known = self._deals[amount] = self._best(amount) if amount else _NOTHING
        return known

    def reach(self, cost: float, most: int) -> int:
        """Return about the amount, at most `most`, whose last unit brings `cost`."""
        best = max(self._ways[:_KEPT], key=lambda way: self._curve(way).reach(cost, most))
        sold = self._curve(best).reach(cost, most)
        if sold >= most:
            return most
        brought = self._curve(best).out(sold)
        if not self._may_split(sold, brought):
            return sold
        self._widen(most)
        taken = best.pools
        for way in self._by_price():
            if way.pools & taken or way is best or self._price(way) <= cost:
                continue
            curve = self._curve(way)
            part = curve.reach(cost, most)
            if curve.out(part) - cost * part > way.gas * self._per_gas:
                taken |= way.pools
                sold += part
        return min(sold, most)

    def _best(self, amount: int) -> Deal:
        first, chosen = self._split
        if chosen and first * 7 // 8 <= amount <= first * 5 // 4:
            # What a split saves changes little, and grows with the amount.
            deal, worst = self._over(chosen, amount)
            if deal.out and worst is None:
                return deal
        alone = self._alone(amount)
        if not self._may_split(amount, alone.out):
            return alone
        if not self._is_wide:
            self._widen(amount)
            alone = self._alone(amount)
        deal, chosen = self._split_of(amount, alone)
        if deal.net - self._moving(deal) <= alone.net - self._moving(alone):
            return alone
        self._split = (amount, chosen)
        return deal

    def _moving(self, deal: Deal) -> int:
        """Return what it costs to move pools as far as a sale does, beyond a swap that hardly does."""
        gas = sum(
            self._stand(self, route).extra_gas((Portion(route),), part)
            for route, part in deal.parts
        )
        return math.ceil(gas * self._per_gas)

    def _alone(self, amount: int) -> Deal:
        """Return the best sale along one route."""
        best = _NOTHING
        ways = self._ways if self._is_wide else self._ways[:_KEPT]
        for way in ways:
            if best.out and self._price(way) * MARGIN * amount <= best.net:
                continue
            out = self._curve(way).out(amount)
            if out:
                net = out - self._gas_up([way])
                best = max(best, Deal(net, out, ((way.route, amount),)), key=_net)
        return best

    def _may_split(self, amount: int, out: int) -> bool:
        """Say whether slippage costs more than one more pool's gas."""
        if not self._ways or not self._ways[0].route:
            return False
        lost = self.spot() * amount - out
        return lost > (SWAP + COLD_POOL) * self._per_gas

    def _split_of(self, amount: int, alone: Deal) -> tuple[Deal, list[_Way]]:
        """Return the best sale along several routes that meet in no pool, and those."""
        chosen = [way for way in self._ways if alone.parts and way.route is alone.parts[0][0]]
        taken = frozenset(pool for way in chosen for pool in way.pools)
        for way in self._by_price():
            if len(chosen) < MOST_ROUTES and not way.pools & taken:
                chosen.append(way)
                taken |= way.pools
        best, of = _NOTHING, list[_Way]()
        while len(chosen) > 1:
            deal, worst = self._over(chosen, amount)
            if deal.net > best.net:
                best, of = deal, [*chosen]
            if worst is None:
                break
            chosen.remove(worst)
        return best, of

    def _over(self, chosen: Sequence[_Way], amount: int) -> tuple[Deal, _Way | None]:
        """Return the sale over these routes, and the one that by itself does not bring what it costs.

        That one may be worth its gas all the same: a deep pool gains next to nothing at the price all
        share, and keeps that price up.
        """
        curves = [self._curve(way) for way in chosen]
        parts, root = self._filling(chosen, curves).divide(amount)
        if not parts:
            return _NOTHING, None
        outs = [curve.out(part) for curve, part in zip(curves, parts, strict=True)]
        if not all(outs):
            # A pool that ends takes no more than that, however good its price was up to there.
            for curve, out in zip(curves, outs, strict=True):
                if not out:
                    curve.find_end()
            parts, root = self._filling(chosen, curves).divide(amount)
            if not parts:
                return _NOTHING, None
            outs = [curve.out(part) for curve, part in zip(curves, parts, strict=True)]
        price = 1 / (root * root)
        gains = [
            out - price * part - way.gas * self._per_gas
            for way, out, part in zip(chosen, outs, parts, strict=True)
        ]
        worst = min(range(len(gains)), key=gains.__getitem__)
        if not all(outs):
            return _NOTHING, chosen[worst]
        out = sum(outs)
        routes = tuple((way.route, part) for way, part in zip(chosen, parts, strict=True))
        deal = Deal(out - self._gas_up(chosen), out, routes)
        return deal, chosen[worst] if gains[worst] <= 0 else None

    def _filling(self, chosen: Sequence[_Way], curves: Sequence[Curve]) -> Filling:
        key = tuple(way.route for way in chosen)
        if key not in self._fillings:
            self._fillings[key] = Filling(curves)
        return self._fillings[key]

    def _gas_up(self, ways: Sequence[_Way]) -> int:
        """Return what the hops cost beyond those of the cheapest single route."""
        least = min(way.gas for way in self._ways)
        return math.ceil((sum(way.gas for way in ways) - least) * self._per_gas)

    def _by_price(self) -> list[_Way]:
        return sorted(self._ways, key=self._price, reverse=True)

    def _price(self, way: _Way) -> float:
        # A sale rounds down, by most of its worth where the token bought is coarse.
        first = max(self.amount >> 12, 1)
        return (self._curve(way).out(first) + 1) / first

    def _curve(self, way: _Way) -> Curve:
        if way.curve is None:
            sales, route = self._stand(self, way.route), way.route
            way.curve = Curve(lambda amount: sales.quote(route, amount))
        return way.curve

    def _way(self, route: Route) -> _Way:
        return next(way for way in self._ways if way.route is route)

    def _after(self, route: Route, part: int) -> float:
        root = self._curve(self._way(route)).root(part)
        return 0.0 if root == math.inf else 1 / (root * root)

    def _find(self) -> None:
        amount = self.amount
        for _ in range(_HALVINGS):
            ranked = self._rank(amount, self._shut)
            if ranked:
                self._ways = [_make_way(entry.route) for entry in ranked]
                self.amount = amount
                return
            if amount <= 1:
                return
            amount //= 2

    def _widen(self, amount: int) -> None:
        """Look, once, for routes beside the best: what its pools shut out, and what is shallow."""
        if self._is_wide:
            return
        self._is_wide = True
        known = {way.route for way in self._ways}
        taken = self._shut | self._ways[0].pools
        for halvings in _PARTS:
            found = self._rank(max(amount >> halvings, 1), taken)
            if not found:
                continue
            route = found[0].route
            taken |= {hop.pool for hop in route}
            if route not in known:
                known.add(route)
                self._ways.append(_make_way(route))
        self._spot = None

    def _forget(self) -> None:
        self._deals.clear()
        self._prices.clear()
        self._fillings.clear()
        self._split = (0, [])
        self._spot = None


def _net(deal: Deal) -> int:
    return deal.net


def _make_way(route: Route) -> _Way:
    between = COLD_TOKEN * max(len(route) - 1, 0)
    gas = (SWAP + COLD_POOL) * len(route) + between + extra_gas(route)
    return _Way(route, frozenset(hop.pool for hop in route), gas)


class Behind:
    """An outlet's proceeds for one more position, behind what is sold there already."""

    def __init__(self, outlet: Outlet, total: int) -> None:
        self._outlet = outlet
        self._total = total
        self._before = outlet.deal(total).net

    def out(self, amount: int) -> int:
        """Return what an amount adds, less the gas of routes it opens."""
        deal = self._outlet.deal(self._total + amount)
        return max(deal.net - self._before, 0) if deal.out else 0

    def reach(self, cost: float, most: int) -> int:
        """Return about the amount, at most `most`, whose last unit brings `cost`."""
        return max(self._outlet.reach(cost, self._total + most) - self._total, 0)
