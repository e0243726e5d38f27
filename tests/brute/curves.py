"""What selling brings in a constant-product pair and in a pool of ticks, to the wei.

Written from Uniswap's own contracts (UniswapV2Library.getAmountOut, SwapMath.computeSwapStep), and
the other way round from the keeper: a pool is cut once into stretches of constant liquidity with the
input and output that take it to the end of each; a sale is a look-up and one last partial step.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PPM = 1_000_000
Q96 = 1 << 96
_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x09AA508B5B7A84E1C677DE54F3E99BC9,
    0x005D6AF8DEDB81196699C329225EE604,
    0x00002216E584F5FA1EA926041BEDFE98,
    0x00000000048A170391F7DC42444E8FA2,
)
"""2^128 / 1.0001^(2^k / 2), as TickMath.sol multiplies them."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Curve(Protocol):
    """A sale of one token for another."""

    def out(self, amount: int) -> int:
        """Return what a sale brings; 0 when the pool cannot take it all."""
        ...

    def outs(self, amounts: Floats) -> Floats:
        """Return about that for many amounts."""
        ...

    def kinks(self) -> Sequence[int]:
        """Return the amounts at which liquidity changes."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantProduct:
    """A pair with a fee in millionths."""

    reserve_in: int
    reserve_out: int
    fee: int = 3_000

    def out(self, amount: int) -> int:
        """Return what a sale brings."""
        taken = amount * (PPM - self.fee)
        return taken * self.reserve_out // (self.reserve_in * PPM + taken)

    def outs(self, amounts: Floats) -> Floats:
        """Return what sales bring; exact while every product stays below 2^53."""
        taken = amounts * (PPM - self.fee)
        return np.floor(taken * self.reserve_out / (float(self.reserve_in) * PPM + taken))

    def small_outs(self, amounts: Integers) -> Integers:
        """Return what sales bring, to the wei while every product stays below 2^63."""
        taken = amounts * (PPM - self.fee)
        return taken * self.reserve_out // (self.reserve_in * PPM + taken)

    def kinks(self) -> Sequence[int]:
        """Return nothing: it is smooth."""
        return ()


def root_price(tick: int) -> int:
    """Return the Q64.96 root price of a tick (TickMath.sol: getSqrtRatioAtTick)."""
    ratio = 1 << 128
    for bit, factor in enumerate(_FACTORS):
        if abs(tick) >> bit & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = (2**256 - 1) // ratio
    return -(-ratio >> 32)


class Ticked:
    """A Uniswap V3 pool from one state in one direction, for sales of `most` at most."""

    def __init__(
        self,
        root: int,
        tick: int,
        liquidity: int,
        net: Mapping[int, int],
        spacing: int,
        fee: int,
        *,
        token0: bool,
        most: int = 2**255,
    ) -> None:
        self._fee = fee
        self._token0 = token0
        self._ends: list[tuple[int, int, int]] = []
        self._inputs, self._outputs = [0], [0]
        for end, following in _stops(tick, net, spacing, token0=token0):
            target = root_price(end)
            spent, got = self._whole(root, target, liquidity)
            self._ends.append((root, target, liquidity))
            self._inputs.append(self._inputs[-1] + spent)
            self._outputs.append(self._outputs[-1] + got)
            root, liquidity = target, liquidity + following
            if liquidity == 0 or self._inputs[-1] > most:
                break
        self._starts = np.array([float(start) / Q96 for start, _, _ in self._ends])
        self._liquidity = np.array([float(held) for _, _, held in self._ends])
        self._before = np.array([float(amount) for amount in self._inputs])
        self._brought = np.array([float(amount) for amount in self._outputs])

    def out(self, amount: int) -> int:
        """Return what a sale brings; 0 when the pool runs out of liquidity."""
        if amount > self._inputs[-1]:
            return 0
        at = min(bisect_right(self._inputs, amount) - 1, len(self._ends) - 1)
        left = amount - self._inputs[at]
        root, target, liquidity = self._ends[at]
        taken = left * (PPM - self._fee) // PPM
        if taken == 0 or liquidity == 0:
            return self._outputs[at]
        if self._token0:
            wide = liquidity << 96
            reached = max(-(-wide * root // (wide + taken * root)), target)
            return self._outputs[at] + (liquidity * (root - reached) >> 96)
        reached = min(root + (taken << 96) // liquidity, target)
        return self._outputs[at] + (liquidity << 96) * (reached - root) // reached // root

    def outs(self, amounts: Floats) -> Floats:
        """Return about what sales bring."""
        at = np.searchsorted(self._before, amounts, side="right") - 1
        at = np.minimum(at, len(self._ends) - 1)
        taken = np.floor((amounts - self._before[at]) * ((PPM - self._fee) / PPM))
        root, liquidity = self._starts[at], self._liquidity[at]
        if self._token0:
            got = liquidity * root * taken * root / (liquidity + taken * root)
        else:
            got = liquidity * taken / (root * (liquidity * root + taken))
        return np.where(amounts > self._before[-1], 0.0, self._brought[at] + got)

    def kinks(self) -> Sequence[int]:
        """Return the amounts that take it to the end of each stretch where liquidity changes."""
        changes = [n for n, (one, two) in enumerate(pairwise(self._ends), 1) if one[2] != two[2]]
        return [self._inputs[n] for n in (*changes, len(self._ends))]

    def _whole(self, root: int, target: int, liquidity: int) -> tuple[int, int]:
        low, high = min(root, target), max(root, target)
        wide = liquidity << 96
        if self._token0:
            rounded = -(-wide * (high - low) // high)
            taken = -(-rounded // low)
            got = liquidity * (high - low) >> 96
        else:
            taken = -(-liquidity * (high - low) // Q96)
            got = wide * (high - low) // high // low
        return taken - (-taken * self._fee // (PPM - self._fee)), got


def _stops(
    tick: int, net: Mapping[int, int], spacing: int, *, token0: bool
) -> list[tuple[int, int]]:
    """Return the ticks a sale stops at and what liquidity changes by: also ends of bitmap words."""
    width = 256 * spacing
    known = sorted(net)
    if token0:
        below = {at for at in known if at <= tick}
        lowest = min(below, default=tick)
        words = range(tick // width * width, lowest - 1, -width)
        found = sorted({*below, *(at for at in words if at >= lowest)}, reverse=True)
        return [(at, -net.get(at, 0)) for at in found]
    above = {at for at in known if at > tick}
    highest = max(above, default=tick)
    last = (tick // spacing + 1) // 256 * width + width - spacing
    found = sorted({*above, *(at for at in range(last, highest + 1, width) if at > tick)})
    return [(at, net.get(at, 0)) for at in found]
