"""Several calls on one position in one transaction: each on the state the one before leaves.

The two-step strategy of Qin et al. (arXiv 2106.06389) generalised: calls before the last are taken
as far as the position stays liquidatable, each cap is the one the rules give on the state it meets,
and pairs of several collaterals and debts may follow each other. A call counts its own gas, so a
sequence is chosen only where it earns more than the best call alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from keeper.ports import Terms
from keeper.types import Position
from keeper.units import WAD, Address

_KEPT = 3
"""How many states are followed from one call to the next."""
_PAIRS = 12
"""Pairs that are looked at behind each other."""
_ALONE = 32
"""Pairs that are tried alone to choose those, where there are more: a size is dear."""
_PROMISES = 96
"""Sizes that are sought to choose the states to follow; all of two collaterals and debts."""
_GOLDEN = 0.6180339887498949
_REFINEMENTS = 12


class Rules(Protocol):
    """What the protocol allows on a position, at one block."""

    def pairs(self, position: Position) -> Sequence[Terms]:
        """Return the pairs open to liquidation, none when the position is healthy."""
        ...

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return exactly what a legal call leaves."""
        ...


class Trade(Protocol):
    """What calls earn on the state of pools and reserves that earlier calls left.

    Values are in one unit for all debts, after flash premium and the gas of the call itself.
    """

    def bound(self, position: Position, terms: Terms) -> int:
        """Return at least what a call can earn, without a search; negative when no call pays."""
        ...

    def best(self, position: Position, terms: Terms) -> int:
        """Return the repay that earns most as the last call; 0 when none can be made."""
        ...

    def most(self, position: Position, terms: Terms) -> int:
        """Return the largest legal repay that can be funded and sold; 0 when there is none."""
        ...

    def value(self, position: Position, terms: Terms, repay: int) -> int:
        """Return what a call earns; negative when it costs more than it brings."""
        ...

    def after(self, position: Position, terms: Terms, repay: int) -> Self:
        """Return the trade behind a call."""
        ...


class Move(NamedTuple):
    """One call of a sequence: the position it meets, what it repays and earns."""

    position: Position
    terms: Terms
    repay: int
    value: int


class _State(NamedTuple):
    position: Position
    trade: Trade
    moves: tuple[Move, ...]
    value: int


def best_sequence(
    position: Position,
    rules: Rules,
    trade: Trade,
    calls: int,
    allowed: Callable[[Position], bool] = lambda _: True,
) -> tuple[Move, ...]:
    """Return the calls, `calls` at most, that together earn most; empty when none can be made.

    `allowed` judges the position a whole sequence would leave. Every call but the last leaves the
    position liquidatable; sizes between are searched where the sum of what calls earn can turn, so
    it is a search of few points and no proof, but never worse than the best single call of the pairs
    looked at: of many, those that promise most alone.
    """
    rules = _narrowed(position, rules, trade)
    best: _State | None = None
    states = [_State(position, trade, (), 0)]
    for left in reversed(range(calls)):
        best = _end(states, rules, best, allowed)
        if not left:
            break
        states = _kept([moved for state in states for moved in _moved(state, rules)], rules)
    if best is None:
        return ()
    return _refine(best, position, rules, trade, allowed).moves


def keeps_liquidatable(position: Position) -> bool:
    """Tell whether anything is left that a further call could take."""
    return position.health < WAD and bool(position.debt) and bool(position.collateral)


def edge_down(position: Position, rules: Rules, terms: Terms, most: int) -> int:
    """Return the largest legal repay up to `most` that leaves the position liquidatable, or 0.

    Largest to 48 binary digits: what a call takes off the shortfall is linear in its repay but for
    rounding, so a secant finds the place and a few steps around it bracket it.
    """
    top = terms.legal_down(most)
    if top <= 0:
        return 0

    def slack(repay: int) -> int:
        legal = terms.legal_down(repay)
        left = rules.after(position, terms, legal) if legal > 0 else position
        return left.debt_value * (WAD - left.health) if left.debt and left.collateral else -1

    end = slack(top)
    if end > 0:
        return top
    start = slack(0)
    low, high, width = 0, top, max(top >> 48, 1)
    guess = min(max(top * start // max(start - end, 1), 1), top - 1)
    step = width
    if guess > 0 and slack(guess) > 0:
        low = guess
        while low + step < high and slack(low + step) > 0:
            low, step = low + step, step * 8
        high = min(high, low + step)
    elif guess > 0:
        high = guess
        while high - step > low and slack(high - step) <= 0:
            high, step = high - step, step * 8
        low = max(low, high - step)
    while high - low > width:
        middle = (low + high) // 2
        low, high = (middle, high) if slack(middle) > 0 else (low, middle)
    return terms.legal_down(low)


def _moved(state: _State, rules: Rules) -> Iterator[_State]:
    """Yield what calls that are not the last can leave of a state."""
    position, trade = state.position, state.trade
    for terms in rules.pairs(position):
        edge = edge_down(position, rules, terms, trade.most(position, terms))
        if edge <= 0:
            continue
        sizes = {edge, _unlocking(position, rules, terms, edge)}
        wanted = terms.legal_down(min(trade.best(position, terms), edge))
        if wanted > 0 and keeps_liquidatable(rules.after(position, terms, wanted)):
            sizes.add(wanted)
        for repay in sorted(sizes):
            if moved := _take(state, rules, terms, repay):
                yield moved


class _Narrowed:
    """The rules on some pairs alone."""

    def __init__(self, rules: Rules, pairs: Iterable[Terms]) -> None:
        self._rules = rules
        self._pairs = {(terms.collateral.address, terms.debt.address) for terms in pairs}

    def pairs(self, position: Position) -> Sequence[Terms]:
        """Return those of the pairs that are open."""
        return [
            terms
            for terms in self._rules.pairs(position)
            if (terms.collateral.address, terms.debt.address) in self._pairs
        ]

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return exactly what a legal call leaves."""
        return self._rules.after(position, terms, repay)


def _narrowed(position: Position, rules: Rules, trade: Trade) -> Rules:
    """Return the rules on the pairs that earn most alone, those of tokens that none has yet first."""
    if len(rules.pairs(position)) <= _PAIRS:
        return rules
    alone = [
        (trade.value(position, terms, repay), terms)
        for _, terms in _ranked(position, trade, rules)[:_ALONE]
        if (repay := trade.best(position, terms)) > 0
    ]
    alone.sort(key=lambda each: -each[0])
    met: set[Address] = set()
    first: list[Terms] = []
    others: list[Terms] = []
    for _, terms in alone:
        ends = {terms.collateral.address, terms.debt.address}
        (others if ends <= met else first).append(terms)
        met |= ends
    return _Narrowed(rules, [*first, *others][:_PAIRS])


def _ranked(position: Position, trade: Trade, rules: Rules) -> list[tuple[int, Terms]]:
    """Return the open pairs with at least what each can earn, best first; what costs may be left."""
    bounds = [(max(trade.bound(position, terms), 0), terms) for terms in rules.pairs(position)]
    return sorted(bounds, key=lambda each: -each[0])


def _end(
    states: Sequence[_State],
    rules: Rules,
    best: _State | None,
    allowed: Callable[[Position], bool],
) -> _State | None:
    """Return where the last call ends that makes most of a sequence, or what was best without it."""
    tried = [
        (state.value + bound, state, terms)
        for state in states
        for bound, terms in _ranked(state.position, state.trade, rules)
    ]
    for most, state, terms in sorted(tried, key=lambda each: -each[0]):
        if best is not None and most <= best.value:
            break
        end = _take(state, rules, terms, state.trade.best(state.position, terms))
        if end and (best is None or end.value > best.value) and allowed(end.position):
            best = end
    return best


def _kept(states: list[_State], rules: Rules) -> list[_State]:
    """Return the states from which the next call promises most.

    They are looked at by what their calls could earn at best, until no other can promise as much.
    """
    if len(states) <= _KEPT:
        return states
    ranked = [
        (state, index, _ranked(state.position, state.trade, rules))
        for index, state in enumerate(states)
    ]
    ranked.sort(key=lambda each: -(each[0].value + (each[2][0][0] if each[2] else 0)))
    left = _PROMISES
    promises: list[tuple[int, int]] = []
    for state, index, pairs in ranked:
        most = state.value + (pairs[0][0] if pairs else 0)
        if len(promises) >= _KEPT and (left <= 0 or most < -promises[_KEPT - 1][0]):
            break
        following: int | None = None
        for bound, terms in pairs:
            if following is not None and bound <= following:
                break
            left -= 1
            repay = state.trade.best(state.position, terms)
            if repay > 0:
                value = state.trade.value(state.position, terms, repay)
                following = value if following is None else max(following, value)
        promises.append((-(state.value + (following or 0)), index))
        promises.sort()
    return [states[index] for _, index in promises[:_KEPT]]


def _take(state: _State, rules: Rules, terms: Terms, repay: int) -> _State | None:
    if repay <= 0:
        return None
    position, trade = state.position, state.trade
    value = trade.value(position, terms, repay)
    return _State(
        rules.after(position, terms, repay),
        trade.after(position, terms, repay),
        (*state.moves, Move(position, terms, repay, value)),
        state.value + value,
    )


def _unlocking(position: Position, rules: Rules, terms: Terms, edge: int) -> int:
    """Return the least repay up to `edge` behind which the pair can be closed whole, else `edge`.

    A close factor falls away where a leg or the health is small enough.
    """

    def is_open(repay: int) -> bool:
        left = rules.after(position, terms, repay)
        owed = next((leg.amount for leg in left.debt if leg.token == terms.debt), 0)
        return any(
            pair.maximum >= owed or _takes_all(left, pair)
            for pair in rules.pairs(left)
            if pair.debt == terms.debt and pair.collateral == terms.collateral
        )

    if not is_open(edge):
        return edge
    low, high = 0, edge
    while high - low > max(edge >> 20, 1):
        middle = terms.legal_down((low + high) // 2)
        if middle <= low:
            low = (low + high) // 2
        elif is_open(middle):
            high = middle
        else:
            low = middle
    return high


def _takes_all(position: Position, terms: Terms) -> bool:
    held = next((leg.amount for leg in position.collateral if leg.token == terms.collateral), 0)
    seizure = terms.seize(terms.maximum)
    return seizure.received + seizure.protocol_fee >= held


def _refine(
    best: _State,
    position: Position,
    rules: Rules,
    trade: Trade,
    allowed: Callable[[Position], bool],
) -> _State:
    """Return a sequence with the sizes of its earlier calls moved to where the sum is highest.

    Two calls on one pair sell on one curve: there only the sum of their sizes matters.
    """
    start = _State(position, trade, (), 0)
    for index, move in enumerate(best.moves[:-1]):
        if all(_is_same_pair(move.terms, later.terms) for later in best.moves[index + 1 :]):
            continue
        low, high = 0, move.repay
        for _ in range(_REFINEMENTS):
            part = int((high - low) * _GOLDEN)
            totals = []
            for repay in (high - part, low + part):
                repays = [each.repay for each in best.moves[:-1]]
                repays[index] = repay
                found = _replay(start, rules, best.moves, repays)
                totals.append(-math.inf if found is None else found.value)
                if found is not None and found.value > best.value and allowed(found.position):
                    best = found
            if totals[0] > totals[1]:
                high = low + part
            else:
                low = high - part
    return best


def _replay(
    state: _State, rules: Rules, moves: Sequence[Move], repays: Sequence[int]
) -> _State | None:
    """Return where the same pairs lead with other sizes, the last one chosen anew."""
    for index, move in enumerate(moves):
        terms = next(
            (pair for pair in rules.pairs(state.position) if _is_same_pair(pair, move.terms)),
            None,
        )
        if terms is None:
            return None
        if index < len(repays):
            repay = terms.legal_down(min(repays[index], state.trade.most(state.position, terms)))
        else:
            repay = state.trade.best(state.position, terms)
        moved = _take(state, rules, terms, repay)
        if moved is None:
            return None
        state = moved
    return state


def _is_same_pair(terms: Terms, other: Terms) -> bool:
    return terms.debt == other.debt and terms.collateral == other.collateral
