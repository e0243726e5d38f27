"""The state of one pool and an exact-input swap through it."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import NamedTuple

from keeper.units import Address
from keeper.venues.uniswap_v3.swap_math import PIPS, price_down, step_down, step_up
from keeper.venues.uniswap_v3.tick_math import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)

_MAX_INPUT = 2**255 - 1
_ANY = 2**63 - 1


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
        if at.price == 0 or not 0 < amount <= _MAX_INPUT:
            return Filled(0, amount, *at)
        sell = self._sell_token0 if token0 else self._sell_token1
        return sell(at, amount, steps)

    def _sell_token0(self, at: Point, left: int, steps: int) -> Filled:
        price, tick, liquidity = at
        spacing, order, fee = self.spacing, self.order, self.fee
        out = 0
        limit = MIN_SQRT_RATIO + 1
        while left and price != limit and steps:
            steps -= 1
            here = tick // spacing
            position = bisect_right(order, here) - 1
            if liquidity == 0 and position < 0:
                break
            number = here >> 8 << 8
            # Empty words change nothing but the price; with liquidity each rounds on its own.
            known = position >= 0 and (order[position] >= number or liquidity == 0)
            if known:
                number = order[position]
            following = max(number * spacing, MIN_TICK)
            aim = sqrt_ratio_at_tick(following)
            target = max(aim, limit)
            start = price
            if liquidity:
                reached = price_down(price, liquidity, left * (PIPS - fee) // PIPS)
                # Input that does not reach the target is less than what reaching it takes.
                if reached > target:
                    out += liquidity * (price - reached) >> 96
                    return Filled(out, 0, reached, tick if reached == price else None, liquidity)
            price, spent, got = step_down(price, target, liquidity, left, fee)
            left -= spent
            out += got
            if price == aim:
                if known:
                    liquidity -= self.ticks[number][1]
                tick = following - 1
            elif price != start:
                return Filled(out, left, price, None, liquidity)
        return Filled(out, left, price, tick, liquidity)

    def _sell_token1(self, at: Point, left: int, steps: int) -> Filled:
        price, tick, liquidity = at
        spacing, order, fee = self.spacing, self.order, self.fee
        out = 0
        limit = MAX_SQRT_RATIO - 1
        while left and price != limit and steps:
            steps -= 1
            here = tick // spacing + 1
            position = bisect_left(order, here)
            if liquidity == 0 and position == len(order):
                break
            number = (here >> 8 << 8) + 255
            known = position < len(order) and (order[position] <= number or liquidity == 0)
            if known:
                number = order[position]
            following = min(number * spacing, MAX_TICK)
            aim = sqrt_ratio_at_tick(following)
            target = min(aim, limit)
            start = price
            if liquidity:
                reached = price + ((left * (PIPS - fee) // PIPS) << 96) // liquidity
                if reached < target:
                    out += (liquidity << 96) * (reached - price) // reached // price
                    return Filled(out, 0, reached, tick if reached == price else None, liquidity)
            price, spent, got = step_up(price, target, liquidity, left, fee)
            left -= spent
            out += got
            if price == aim:
                if known:
                    liquidity += self.ticks[number][1]
                tick = following
            elif price != start:
                return Filled(out, left, price, None, liquidity)
        return Filled(out, left, price, tick, liquidity)
