"""The sequence found, against every two calls of a grid, on curves that fall as they are sold on."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from keeper.planning import sequencing
from keeper.planning.fixed_spread import FixedSpread
from keeper.planning.sequencing import Move, best_sequence, edge_down, keeps_liquidatable
from keeper.ports import Terms
from keeper.types import Position, Token
from keeper.units import WAD, Address, Bps

TOKENS = [Token(Address(bytes([n]) * 20), name, 6) for n, name in enumerate("ABXY", 1)]
BORROWER = Address(b"\xbb" * 20)
GRID = 24


@dataclass(frozen=True)
class Pools:
    """A constant-product pool for each pair, in debt units; gas for every call."""

    depths: Mapping[tuple[str, str], int]
    prices: Mapping[Address, int]
    gas: int
    sold: tuple[tuple[str, str, int], ...] = ()

    def bound(self, position: Position, terms: Terms) -> int:
        seizure = terms.seize(self.most(position, terms))
        return self._worth(terms, seizure.received) - seizure.repaid + 1

    def best(self, position: Position, terms: Terms) -> int:
        most = self.most(position, terms)
        low, high = 0, most
        while high - low > 2:
            third = (high - low) // 3
            left, right = low + third, high - third
            if self.value(position, terms, left) < self.value(position, terms, right):
                low = left
            else:
                high = right
        return max((low, high, most), key=lambda repay: self.value(position, terms, repay))

    def most(self, position: Position, terms: Terms) -> int:
        return terms.legal_down(terms.maximum)

    def value(self, position: Position, terms: Terms, repay: int) -> int:
        seizure = terms.seize(repay)
        before = sum(amount for *pair, amount in self.sold if tuple(pair) == _names(terms))
        depth = self.depths[_names(terms)]
        return (
            self._out(terms, depth, before + seizure.received)
            - self._out(terms, depth, before)
            - seizure.repaid
            - self.gas
        )

    def after(self, position: Position, terms: Terms, repay: int) -> "Pools":
        sale = (*_names(terms), terms.seize(repay).received)
        return replace(self, sold=(*self.sold, sale))

    def _out(self, terms: Terms, depth: int, amount: int) -> int:
        worth = self._worth(terms, amount)
        return depth * worth // (depth + worth)

    def _worth(self, terms: Terms, amount: int) -> int:
        return amount * self.prices[terms.collateral.address] // self.prices[terms.debt.address]


def _names(terms: Terms) -> tuple[str, str]:
    return terms.collateral.symbol, terms.debt.symbol


def drawn(seed: int) -> tuple[Position, FixedSpread, Pools]:
    """A position just under water, with one or two collaterals and debts."""
    rng = random.Random(seed)
    a, b, x, y = TOKENS
    prices = {a.address: 2 * WAD, b.address: 3 * WAD, x.address: WAD, y.address: WAD}
    held = [a, b][: rng.choice([1, 2])]
    owed = [x, y][: rng.choice([1, 2])]
    rules = FixedSpread(prices, rng.choice([WAD // 2, WAD // 4, WAD]))
    supplied = [
        (token, rng.randint(10**8, 10**9), Bps(rng.choice([7_000, 8_000])), Bps(10_500))
        for token in held
    ]
    backed = sum(
        amount * prices[token.address] // WAD * threshold // 10_000
        for token, amount, threshold, _ in supplied
    )
    health = rng.uniform(0.9, 0.999)
    debts = [(token, int(backed / health / len(owed))) for token in owed]
    depths = {
        (one.symbol, other.symbol): int(10 ** rng.uniform(9, 12)) for one in held for other in owed
    }
    pools = Pools(depths, prices, rng.choice([0, 10**5, 10**6]))
    return rules.position(BORROWER, supplied, debts), rules, pools


def sizes(position: Position, terms: Terms, pools: Pools) -> Iterator[int]:
    most = pools.most(position, terms)
    yield from (most * k // GRID for k in range(1, GRID + 1) if most * k // GRID)


def every_two(position: Position, rules: FixedSpread, pools: Pools) -> int:
    """The best of one call and of any two on a grid, the last one also at its own best."""
    found = [0]
    for terms in rules.pairs(position):
        found.append(pools.value(position, terms, pools.best(position, terms)))
        for repay in sizes(position, terms, pools):
            left = rules.after(position, terms, repay)
            value, behind = pools.value(position, terms, repay), pools.after(position, terms, repay)
            found.extend(
                value + behind.value(left, more, behind.best(left, more))
                for more in rules.pairs(left)
            )
    return max(found)


@pytest.mark.parametrize("seed", range(16))
def test_no_two_calls_of_a_grid_earn_more(seed: int) -> None:
    position, rules, pools = drawn(seed)
    moves = best_sequence(position, rules, pools, 2)
    value = sum(move.value for move in moves)
    assert value >= every_two(position, rules, pools) * (1 - 1e-4) - 2
    check(position, rules, pools, moves)


def check(position: Position, rules: FixedSpread, pools: Pools, moves: Sequence[Move]) -> None:
    """Every call is legal on what those before left, and earns what was said."""
    for move in moves:
        assert move.position == position
        terms = next(pair for pair in rules.pairs(position) if _names(pair) == _names(move.terms))
        repay = move.repay
        assert terms.legal_down(repay) == repay > 0
        assert pools.value(position, terms, repay) == move.value
        position = rules.after(position, terms, repay)
        pools = pools.after(position, terms, repay)


@pytest.mark.parametrize("seed", range(100, 106))
def test_more_calls_never_earn_less(seed: int) -> None:
    position, rules, pools = drawn(seed)
    totals = [
        sum(move.value for move in best_sequence(position, rules, pools, calls))
        for calls in (1, 2, 3)
    ]
    assert totals == sorted(totals)


def test_some_positions_are_worth_two_calls() -> None:
    lengths = {len(best_sequence(*drawn(seed)[:2], drawn(seed)[2], 2)) for seed in range(8)}
    assert {1, 2} <= lengths


@dataclass
class Counted:
    """Pools that note every size sought, each once."""

    pools: Pools
    sought: list[Terms]
    known: dict[tuple[str, str], int] = field(default_factory=dict)

    def bound(self, position: Position, terms: Terms) -> int:
        return self.pools.bound(position, terms)

    def best(self, position: Position, terms: Terms) -> int:
        if _names(terms) not in self.known:
            self.sought.append(terms)
            self.known[_names(terms)] = self.pools.best(position, terms)
        return self.known[_names(terms)]

    def most(self, position: Position, terms: Terms) -> int:
        return self.pools.most(position, terms)

    def value(self, position: Position, terms: Terms, repay: int) -> int:
        return self.pools.value(position, terms, repay)

    def after(self, position: Position, terms: Terms, repay: int) -> "Counted":
        return Counted(self.pools.after(position, terms, repay), self.sought)


def many(seed: int, number: int) -> tuple[Position, FixedSpread, Pools]:
    """A position of so many collaterals and as many debts, in pools of very different depths."""
    rng = random.Random(seed)
    held, owed = (
        [Token(Address(bytes([kind, n]) * 10), f"{kind}-{n}", 6) for n in range(number)]
        for kind in (1, 2)
    )
    prices = {token.address: rng.randint(1, 5) * WAD for token in held + owed}
    rules = FixedSpread(prices, rng.choice([WAD // 2, WAD // 4]))
    supplied = [
        (token, rng.randint(10**8, 10**9), Bps(8_000), Bps(rng.choice([10_300, 10_500, 10_800])))
        for token in held
    ]
    backed = sum(amount * prices[token.address] // WAD for token, amount, _, _ in supplied) * 0.8
    shares = [rng.random() + 0.1 for _ in owed]
    debts = [
        (token, int(backed / 0.97 * share / sum(shares) * WAD / prices[token.address]))
        for token, share in zip(owed, shares, strict=True)
    ]
    depths = {(a.symbol, b.symbol): int(10 ** rng.uniform(9, 12)) for a in held for b in owed}
    return rules.position(BORROWER, supplied, debts), rules, Pools(depths, prices, 10**5)


@pytest.mark.parametrize(("number", "calls"), [(3, 2), (3, 3), (4, 2)])
def test_few_sizes_find_what_all_of_them_do(
    number: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        position, rules, pools = many(seed, number)
        few, every = Counted(pools, []), Counted(pools, [])
        found = best_sequence(position, rules, few, calls)
        check(position, rules, pools, found)
        with monkeypatch.context() as patched:
            for limit in ("_PAIRS", "_ALONE", "_PROMISES"):
                patched.setattr(sequencing, limit, 10**6)
            full = best_sequence(position, rules, every, calls)
        most = sum(move.value for move in full)
        assert len(full) > 1, "a case that one call ends tells nothing"
        assert sum(move.value for move in found) >= most * 99 // 100, seed
        assert len(few.sought) <= len(every.sought)


def test_a_position_of_many_pairs_is_sized_no_more_than_a_bounded_number_of_times() -> None:
    for calls, most in ((2, 200), (4, 600)):
        position, rules, pools = many(1, 10)
        assert len(rules.pairs(position)) == 100
        counted = Counted(pools, [])
        moves = best_sequence(position, rules, counted, calls)
        check(position, rules, pools, moves)
        alone = max(
            pools.value(position, t, pools.best(position, t)) for t in rules.pairs(position)
        )
        assert sum(move.value for move in moves) > alone
        assert len(counted.sought) <= most


@pytest.mark.parametrize("seed", range(12))
def test_the_edge_is_the_last_repay_that_leaves_it_liquidatable(seed: int) -> None:
    position, rules, _ = drawn(seed)
    for terms in rules.pairs(position):
        edge = edge_down(position, rules, terms, terms.maximum)
        assert edge == 0 or keeps_liquidatable(rules.after(position, terms, edge))
        if 0 < edge < terms.legal_down(terms.maximum):
            # a unit of collateral is worth several of debt: so near health goes to and fro
            beyond = edge + 50
            assert not keeps_liquidatable(rules.after(position, terms, beyond))


@pytest.mark.parametrize("seed", range(5))
def test_what_may_not_be_left_is_not_taken(seed: int) -> None:
    position, rules, pools = drawn(seed)
    assert best_sequence(position, rules, pools, 2, lambda _: False) == ()
