"""The best that could be done, by trying: grids, kinks, legal jumps, and steps down to one wei."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.brute.curves import Curve, Floats
from tests.brute.debtor import Debtor

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Best:
    """The best cover found and what it earns before gas."""

    cover: int
    profit: int


def premium_up(amount: int, ppm: int) -> int:
    """Return a flash loan's premium."""
    return -(-amount * ppm // 1_000_000)


def split(curves: Sequence[Curve], amount: int) -> tuple[int, ...]:
    """Return how much of an amount goes to each of at most two pools for the most."""
    if len(curves) == 1:
        return (amount,)
    one, two = curves

    def brought(first: int) -> int:
        rest = amount - first
        got, more = one.out(first), two.out(rest)
        return -1 if (first and not got) or (rest and not more) else got + more

    # What is brought is concave: golden section, as far as the flat top can tell sizes apart.
    low, high = 0, amount
    left, right = amount - int(amount * GOLDEN), int(amount * GOLDEN)
    at_left, at_right = brought(left), brought(right)
    while high - low > max(8, amount >> 32):
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + int((high - low) * GOLDEN)
            at_right = brought(right)
        else:
            high, right, at_right = right, left, at_left
            left = high - int((high - low) * GOLDEN)
            at_left = brought(left)
    ends = {0, amount, *range(low, high + 1, max((high - low) // 8, 1))}
    first = max(sorted(ends), key=brought)
    return first, amount - first


def sell(curves: Sequence[Curve], amount: int) -> int:
    """Return what an amount brings over at most two pools, split for the most."""
    parts = split(curves, amount)
    return sum(curve.out(part) for curve, part in zip(curves, parts, strict=True) if part)


def sells(curves: Sequence[Curve], amounts: Floats) -> Floats:
    """Return about that for many amounts."""
    if len(curves) == 1:
        return curves[0].outs(amounts)
    one, two = curves
    low, high = np.zeros_like(amounts), amounts.copy()
    best = np.maximum(one.outs(amounts), two.outs(amounts))
    for _ in range(60):
        width = (high - low) * GOLDEN
        left, right = high - width, low + width
        at_left = one.outs(left) + two.outs(amounts - left)
        at_right = one.outs(right) + two.outs(amounts - right)
        worse = at_left < at_right
        low, high = np.where(worse, left, low), np.where(worse, high, right)
        best = np.maximum(best, np.maximum(at_left, at_right))
    return best


def best_cover(
    debtor: Debtor,
    curves: Sequence[Curve],
    ppm: int,
    *,
    largest: int | None = None,
    points: int = 10_000,
    steps: bool = True,
) -> Best:
    """Return the most profitable legal cover of one position: a grid, kinks, jumps, then steps.

    Without `steps` it is the best of the grid, kinks and jumps themselves.
    """
    most = debtor.cap() if largest is None else min(largest, debtor.cap())
    covers = {most, *(cover for cover in debtor.jumps() if cover <= most)}
    ratio = debtor.call(most) or debtor.call(max(most // 2, 1))
    if ratio is not None:
        for curve in curves:
            for kink in curve.kinks():
                near = kink * ratio.repaid // max(ratio.received, 1)
                covers |= {cover for cover in (near - 1, near, near + 1) if 0 < cover <= most}
    special = sorted(covers)
    grid = np.floor(np.linspace(1.0, float(most), min(points, most)))
    tried = np.concatenate([grid, np.array(special, dtype=np.float64)])
    repaid, received, legal = debtor.calls(tried)
    worth = np.where(legal, sells(curves, received) - repaid * (1 + ppm / 1e6), -np.inf)

    def earned(cover: int) -> int | None:
        done = debtor.call(cover) if 0 < cover <= most else None
        if done is None:
            return None
        brought = sell(curves, done.received)
        return brought - done.repaid - premium_up(done.repaid, ppm) if brought else None

    found = Best(0, 0)
    for index in np.argsort(worth)[::-1][:4]:
        gap = max(most // points, 1) if steps else 0
        at = int(tried[index]) if index < len(grid) else special[index - len(grid)]
        found = max(found, _climb(at, gap, earned), key=lambda each: each.profit)
    return found


def _climb(cover: int, gap: int, earned: Callable[[int], int | None]) -> Best:
    """Walk uphill in steps that halve down to one wei."""
    value = earned(cover)
    if value is None:
        return Best(0, 0)
    while gap:
        for step in (gap, -gap):
            there = earned(cover + step)
            if there is not None and there > value:
                cover, value = cover + step, there
                break
        else:
            gap //= 2
    return Best(cover, value)


@dataclass(frozen=True, slots=True)
class GasCosts:
    """Gas of what a transaction holds, and what one unit of gas costs in the debt token."""

    price: float
    base: int = 425_000
    item: int = 123_000
    pool: int = 72_000
    deficit: int = 75_000

    def of(self, items: int, pools: int) -> float:
        """Return what so many liquidations and pools cost."""
        return self.price * (self.base + self.item * items + self.pool * (pools - 1))


@dataclass(frozen=True, slots=True)
class Choice:
    """What each position is asked for (no cover: left alone) and how the sale is split."""

    covers: tuple[tuple[int, ...], ...]
    parts: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to take a position: covers in order, repaid and received in all, extra gas."""

    covers: tuple[int, ...]
    repaid: int
    received: int
    deficit: bool


def entry(debtor: Debtor, covers: tuple[int, ...]) -> Entry | None:
    """Return what calls one after another come to; None when one of them reverts."""
    repaid = received = 0
    for cover in covers:
        done = debtor.call(cover)
        if done is None:
            return None
        repaid, received, debtor = repaid + done.repaid, received + done.received, done.after
    return Entry(covers, repaid, received, debtor.balance == 0 and not debtor.other_value)


def menu(debtor: Debtor, points: int, *, two_calls: bool) -> list[Entry]:
    """Return the ways to take one position on a grid with its legal jumps."""
    cap = debtor.cap()
    ways: list[tuple[int, ...]] = [
        (cover,) for cover in {*(cap * n // points for n in range(1, points + 1))}
    ]
    ways += [(cover,) for cover in debtor.jumps()]
    if two_calls and (first := debtor.first_of_two()):
        after = debtor.call(first)
        assert after is not None
        rest = after.after.cap()
        ways += [(first, rest * n // points) for n in range(1, points + 1)]
        ways += [(first, cover) for cover in after.after.jumps()]
    found = {way: entry(debtor, way) for way in ways}
    return [each for each in found.values() if each is not None]


def best_choices(
    debtors: Sequence[Debtor],
    curves: Sequence[Curve],
    ppm: int,
    gas: GasCosts,
    *,
    two_calls: bool = False,
    points: int = 40,
    kept: int = 3,
) -> list[Choice]:
    """Return the best of the ways to take at most three positions, of different make, best first.

    All positions hold one pair. Every combination of grids is tried for every set of pools; the best
    of each make (who is taken, by how many calls, over which pools) are refined and compared.
    """
    menus = [[None, *menu(debtor, points, two_calls=two_calls)] for debtor in debtors]
    found: dict[tuple[object, ...], tuple[float, tuple[int, ...], tuple[int, ...]]] = {}
    repaid, received, burnt, calls, makes = _combined(menus)
    for pools in _subsets(len(curves)):
        used = [curves[n] for n in pools]
        most = float(received.max())
        table = np.concatenate([[0.0], np.geomspace(max(most * 1e-6, 1), most, 4_000)])
        brought = np.interp(received, table, sells(used, table))
        cost = gas.price * (gas.base + gas.pool * (len(pools) - 1))
        worth = brought - repaid * (1 + ppm / 1e6) - cost
        worth -= gas.price * (gas.item * calls + gas.deficit * burnt)
        for make in np.unique(makes):
            here = np.flatnonzero(makes == make)
            index = int(here[np.argmax(worth[here])])
            if calls[index]:
                at = np.unravel_index(index, [len(each) for each in menus])
                found[int(make), pools] = float(worth[index]), pools, tuple(int(n) for n in at)
    best = sorted(found.values(), key=lambda each: -each[0])[:kept]
    refined = [
        _refined(debtors, [menus[k][n] for k, n in enumerate(at)], curves, pools, ppm, gas, points)
        for _, pools, at in best
    ]
    return sorted(refined, key=lambda each: -each.value)


def _combined(
    menus: Sequence[Sequence[Entry | None]],
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return repaid, received, deficits, calls and the make of every combination of entries."""
    totals = [np.zeros(1) for _ in range(5)]
    for ways in menus:
        rows = (
            [float(way.repaid) if way else 0.0 for way in ways],
            [float(way.received) if way else 0.0 for way in ways],
            [float(way.deficit) if way else 0.0 for way in ways],
            [float(len(way.covers)) if way else 0.0 for way in ways],
        )
        for n, row in enumerate(rows):
            totals[n] = np.add.outer(totals[n], np.array(row)).ravel()
        totals[4] = np.add.outer(totals[4] * 3, np.array(rows[3])).ravel()
    return totals[0], totals[1], totals[2], totals[3], totals[4]


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    for chosen in product((False, True), repeat=count):
        if any(chosen):
            yield tuple(n for n, taken in enumerate(chosen) if taken)


def _refined(
    debtors: Sequence[Debtor],
    entries: Sequence[Entry | None],
    curves: Sequence[Curve],
    pools: Sequence[int],
    ppm: int,
    gas: GasCosts,
    points: int,
) -> Choice:
    """Step each position's last cover uphill, in turn, until no step of a millionth helps."""
    used = [curves[n] for n in pools]
    held = list(entries)

    def value(ways: Sequence[Entry | None]) -> float:
        taken = [way for way in ways if way is not None]
        brought = sell(used, sum(way.received for way in taken))
        paid = sum(way.repaid for way in taken)
        cost = gas.of(sum(len(way.covers) for way in taken), len(pools))
        cost += gas.price * gas.deficit * sum(way.deficit for way in taken)
        return brought - paid - premium_up(paid, ppm) - cost if brought else -np.inf

    best = value(held)
    share = 1 / points
    while share > 1e-6:
        moved = False
        for k, way in enumerate(held):
            if way is None:
                continue
            step = max(int(debtors[k].cap() * share), 1)
            for change in (step, -step):
                changed = (*way.covers[:-1], way.covers[-1] + change)
                tried = [*held]
                tried[k] = entry(debtors[k], changed) if changed[-1] > 0 else None
                if tried[k] is not None and (there := value(tried)) > best:
                    held, best, moved = tried, there, True
                    break
        if not moved:
            share /= 4
    parts = [0] * len(curves)
    total = sum(way.received for way in held if way)
    for n, part in zip(pools, split(used, total), strict=True):
        parts[n] = part
    covers = tuple(way.covers if way else () for way in held)
    return Choice(covers, tuple(parts), float(best))
