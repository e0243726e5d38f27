"""The state of one pool and an exact-input swap through it."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import NamedTuple

from keeper.units import Address
from keeper.venues.uniswap_v3.swap_math import PIPS, cross, price_down, price_up
from keeper.venues.uniswap_v3.tick_math import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)

MAX_INPUT = 2**255 - 1
_ANY = 2**63 - 1
_LOWEST = MIN_SQRT_RATIO + 1
_HIGHEST = MAX_SQRT_RATIO - 1


class Point(NamedTuple):
    """Where a pool stands: Q64.96 root price (0 before `initialize`), tick, liquidity in range."""

    price: int
    tick: int
    liquidity: int


UNINITIALISED = Point(0, 0, 0)


class Filled(NamedTuple):
    """What a swap did; `left` is input the pool could not take, `tick` None inside a tick."""

    out: int
    left: int
    price: int
    tick: int | None
    liquidity: int

    def point(self) -> Point:
        """Return where the pool stands afterwards; most trials never ask for the tick."""
        tick = tick_at_sqrt_ratio(self.price) if self.tick is None else self.tick
        return Point(self.price, tick, self.liquidity)


class Rung(NamedTuple):
    """A swap to where liquidity or rounding may change: input with fee, output, the point after it."""

    spent: int
    out: int
    after: Point
    is_last: bool


@dataclass(slots=True)
class Pool:
    """One pool; `ticks` maps an initialised tick's number in spacings to (gross, net) liquidity."""

    address: Address
    token0: Address
    token1: Address
    fee: int
    spacing: int
    at: Point = UNINITIALISED
    balance0: int = 0
    balance1: int = 0
    ticks: dict[int, tuple[int, int]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def add_liquidity(self, tick: int, gross: int, net: int) -> None:
        """Change one tick's liquidity (Tick.sol: update); a tick without any is uninitialised."""
        number = tick // self.spacing
        held = self.ticks.get(number)
        if held is None:
            self.ticks[number] = (gross, net)
            insort(self.order, number)
        elif held[0] + gross == 0:
            del self.ticks[number]
            del self.order[bisect_left(self.order, number)]
        else:
            self.ticks[number] = (held[0] + gross, held[1] + net)

    def word(self, position: int) -> int:
        """Return a word of the tick bitmap as the contract holds it (TickBitmap.sol)."""
        first = position << 8
        low = bisect_left(self.order, first)
        high = bisect_left(self.order, first + 256)
        return sum(1 << (number - first) for number in self.order[low:high])

    def sell(self, at: Point, amount: int, *, token0: bool, steps: int = _ANY) -> Filled:
        """Swap exact input from a point (UniswapV3Pool.sol: swap, no price limit).

        It stops after `steps` ticks and bitmap words, as if the pool had no more to give.
        """
        if at.price == 0 or not 0 < amount <= MAX_INPUT:
            return Filled(0, amount, *at)
        left, out = amount, 0
        while left and steps:
            steps -= 1
            rung = self.rung(at, token0=token0)
            if rung is None:
                break
            price, tick, liquidity = at
            if left < rung.spent:
                reached, got = self.within(at, left, token0=token0)
                # Rounding can lead to the end of a range that the amount falls short of by one.
                if reached > rung.after.price if token0 else reached < rung.after.price:
                    at_tick = tick if reached == price else None
                    return Filled(out + got, 0, reached, at_tick, liquidity)
            left = max(left - rung.spent, 0)
            out += rung.out
            at = rung.after
            if rung.is_last:
                return Filled(out, left, at.price, None, liquidity)
        return Filled(out, left, *at)

    def within(self, at: Point, amount: int, *, token0: bool) -> tuple[int, int]:
        """Return the price reached within one range, and the output."""
        price, _, liquidity = at
        less_fee = amount * (PIPS - self.fee) // PIPS
        if token0:
            reached = price_down(price, liquidity, less_fee)
            return reached, liquidity * (price - reached) >> 96
        reached = price_up(price, liquidity, less_fee)
        return reached, (liquidity << 96) * (reached - price) // reached // price

    def rung(self, at: Point, *, token0: bool) -> Rung | None:
        """Return the swap from a point to the next tick or bitmap word; None where none is left.

        Empty words change nothing but the price; with liquidity each rounds on its own.
        """
        price, tick, liquidity = at
        spacing, order = self.spacing, self.order
        here = tick // spacing
        if token0:
            place, number, end, limit = bisect_right(order, here) - 1, here >> 8 << 8, -1, _LOWEST
        else:
            here += 1
            place, number = bisect_left(order, here), (here >> 8 << 8) + 255
            end, limit = len(order), _HIGHEST
        if price == limit or (liquidity == 0 and place == end):
            return None
        known = place != end and (
            liquidity == 0 or (order[place] >= number if token0 else order[place] <= number)
        )
        if known:
            number = order[place]
        following = min(max(number * spacing, MIN_TICK), MAX_TICK)
        aim = sqrt_ratio_at_tick(following)
        target = max(aim, limit) if token0 else min(aim, limit)
        spent, out = cross(price, target, liquidity, self.fee)
        if target != aim:
            return Rung(spent, out, Point(target, tick, liquidity), is_last=True)
        if known:
            net = self.ticks[number][1]
            liquidity += -net if token0 else net
        return Rung(spent, out, Point(aim, following - token0, liquidity), is_last=False)
