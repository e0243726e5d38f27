"""Whether our sizes are the best there are, told by the chain: each is run beside all that is near it.

A case is one position of a market drawn from a seed (`tests/bench/judge`), and one or two pools of its
pair. What runs under a snapshot, in the block that was planned for: our size and split; the best of the
brute force's grid, kinks and legal jumps; their neighbours from one wei to a thousandth away; the covers
on both sides of where the law changes. Each brings what the brute force's model says, to the wei, or
nothing where that says it is illegal or loses.
Gas is free here, so that sizes alone are compared; `economics` judges what is left after gas.

A size is short when the chain paid another one more by a billionth and by more than rounding moves: what
is seized is rounded to the nearest unit of collateral, and so is the fee that the protocol keeps of it,
so that what neighbouring sizes bring is a sawtooth as high as one unit costs, or two where there is a fee.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

from keeper.devnet import Devnet
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import FlashKind, Quote
from keeper.units import WAD, Address, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from tests.bench.judge import Drawn, Judge
from tests.brute.curves import Ticked
from tests.brute.debtor import Debtor
from tests.brute.search import best_cover, premium_up, split

CASES = 1_000
MOST = 12
"""Positions of one market at most: each is a case of its own."""
FLASH_PPM = 500
BALANCE = "balanceOf(address)"
NEAR = (1_000_000_000, 1_000_000, 1_000)
"""Neighbours are a wei away, and so many parts of the size."""


@dataclass(frozen=True)
class Sale:
    """What is asked for and repaid from a loan of as much, and how the collateral is sold, by fee."""

    cover: int
    parts: Mapping[int, int]


@dataclass(frozen=True)
class Case:
    """One position of a drawn market as the next block finds it, and the pools its sale may use."""

    drawn: Drawn
    index: int
    debtor: Debtor
    curves: Mapping[int, Ticked]

    @property
    def name(self) -> str:
        """Return what draws it again."""
        scene = self.drawn.scene.name
        fees = " and ".join(str(fee) for fee in self.curves)
        return f"{scene} seed {self.drawn.seed}, position {self.index}, pools of {fees}"

    def sale(self, cover: int) -> Sale:
        """Return a cover with the brute force's own best split."""
        done = self.debtor.call(cover)
        received = done.received if done is not None else 1
        parts = split(list(self.curves.values()), received)
        return Sale(cover, dict(zip(self.curves, parts, strict=True)))

    def expected(self, sale: Sale) -> int:
        """Return what a sale brings by the brute force's model; 0 where it reverts or loses."""
        done = self.debtor.call(sale.cover)
        if done is None:
            return 0
        used = [(fee, part) for fee, part in sale.parts.items() if part]
        total = left = sum(part for _, part in used)
        assert total == done.received
        brought = 0
        for fee, part in used:
            # the contract is told a share of what is left, in 1e18ths, and rounds down
            sold = left * (part * WAD // left) // WAD if (fee, part) != used[-1] else left
            got = self.curves[fee].out(sold)
            if not got:
                return 0
            brought, left = brought + got, left - sold
        return max(brought - done.repaid - premium_up(sale.cover, FLASH_PPM), 0)


@dataclass(frozen=True)
class Verdict:
    """What the chain paid for our size and for the best of the others, in debt-token wei."""

    name: str
    ours: int
    best: int
    cover: int
    best_cover: int
    rounding: int
    runs: int
    refused: int
    different: tuple[str, ...]

    @property
    def short(self) -> bool:
        """Say whether our size earned less than it could."""
        return self.ours < min(self.best * (1 - 1e-9), self.best - self.rounding)


@dataclass
class Tally:
    """All verdicts so far."""

    verdicts: list[Verdict] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return the sums the bench prints."""
        paying = [each for each in self.verdicts if each.best > 0]
        return {
            "sizing_on_chain_cases": len(self.verdicts),
            "sizing_on_chain_paying": len(paying),
            "sizing_on_chain_runs": sum(each.runs for each in self.verdicts),
            "sizing_on_chain_runs_refused": sum(each.refused for each in self.verdicts),
            "sizing_on_chain_runs_not_as_modelled": sum(
                len(each.different) for each in self.verdicts
            ),
            "sizing_on_chain_short": sum(each.short for each in self.verdicts),
            "sizing_on_chain_best_by_rounding_alone": sum(
                not each.short and each.ours < each.best * (1 - 1e-9) for each in paying
            ),
            "sizing_on_chain_share_least": min(each.ours / each.best for each in paying),
        }

    def faults(self) -> list[str]:
        """Return what is wrong, a line each."""
        lines = [line for each in self.verdicts for line in each.different]
        return lines + [
            f"{each.name}: ours {each.cover} earned {each.ours}, {each.best_cover} earned {each.best}"
            for each in self.verdicts
            if each.short
        ]


def cases(judge: Judge, first: int = 0, most: int = MOST) -> Generator[Case, None, None]:
    """Draw markets without end, a seed each, and yield their positions while each market stands."""
    number = first
    while True:
        scene = judge.scenes[number % len(judge.scenes)]
        with judge.drawn(scene, number, most) as drawn:
            rng = random.Random(f"pools of {number}")
            debtors = _in_next_block(judge, drawn)
            for index, debtor in enumerate(debtors):
                curves = judge.curves(replace(drawn, debtors=(debtor,)))
                fees = sorted(rng.sample(sorted(curves), min(len(curves), rng.choice([1, 2]))))
                yield Case(drawn, index, debtor, {fee: curves[fee] for fee in fees})
        number += 1


def judged(judge: Judge, case: Case) -> Verdict:
    """Run our size, the brute force's best and their neighbours, and return what the chain paid."""
    quote = _quote(judge, case)
    best = best_cover(case.debtor, list(case.curves.values()), FLASH_PPM, steps=False)
    mine = _sale(case, quote) if quote is not None else None
    around = {best.cover, *([mine.cover] if mine is not None else [])}
    covers = {cover + step for cover in around for step in _steps(cover)} | around
    covers |= set(_borders(case.debtor)) | {case.debtor.cap()}
    others = [case.sale(cover) for cover in sorted(covers) if 0 < cover <= case.debtor.cap()]
    paid = [(each, _paid(judge, case, each)) for each in others]
    ours = 0 if mine is None else _paid(judge, case, mine)
    runs = paid if mine is None else [*paid, (mine, ours)]
    different = tuple(
        f"{case.name}: {each.cover} brought {got}, not {wanted}"
        for each, got in runs
        if got != (wanted := case.expected(each))
    )
    sale, most = max(paid, key=lambda each: each[1])
    done = case.debtor.call(sale.cover)
    unit = -(-done.repaid // done.received) if done is not None else 0
    rounding = 2 * unit if case.debtor.fee else unit
    cover = 0 if mine is None else mine.cover
    refused = sum(got == 0 for _, got in runs)
    return Verdict(
        case.name, ours, most, cover, sale.cover, rounding, len(runs), refused, different
    )


def tally_cases(judge: Judge, count: int, first: int = 0, most: int = MOST) -> Tally:
    """Judge so many cases from a seed on."""
    tally = Tally()
    with closing(cases(judge, first, most)) as drawn:
        tally.verdicts += (judged(judge, case) for case in islice(drawn, count))
    return tally


def figures(net: Devnet, count: int = CASES) -> dict[str, float]:
    """Judge cases; print every one that is short or not as modelled."""
    tally = tally_cases(Judge(net), count)
    print("short, or not as modelled:", *(tally.faults() or ["none"]), sep="\n  ")
    return tally.figures()


def _steps(cover: int) -> Sequence[int]:
    return [sign * max(cover // part, 1) for part in NEAR for sign in (-1, 1)] + [-1, 1]


def _borders(debtor: Debtor) -> Iterator[int]:
    """Yield the covers on both sides of where what is legal changes."""
    near = sorted(set(debtor.jumps()))
    for one, two in pairwise(near):
        if two == one + 1 and (debtor.call(one) is None) != (debtor.call(two) is None):
            yield from (one, two)


def _in_next_block(judge: Judge, drawn: Drawn) -> list[Debtor]:
    """Return the borrowers with the interest that the next block will have added."""
    tokens = drawn.scene.market.tokens
    held, owed = (
        judge.net.chain.call_many(
            [(token, BALANCE, [who]) for who in drawn.borrowers], ["uint256"], "pending"
        )
        for token in (tokens[drawn.scene.collateral].a_token, tokens[drawn.scene.debt].v_token)
    )
    return [
        replace(debtor, balance=balance, owed=debt)
        for debtor, balance, debt in zip(drawn.debtors, held, owed, strict=True)
    ]


def _quote(judge: Judge, case: Case) -> Quote | None:
    """Return the planner's choice where gas is free and only the case's pools are known."""
    scene, view = case.drawn.scene, case.drawn.view
    tokens = [Address(scene.market.tokens[name].address) for name in (scene.collateral, scene.debt)]
    venue = UniswapV3("uniswap", Address(judge.net.uniswap.factory), tokens)
    pair = set(tokens)
    venue.adopt(
        [
            pool
            for pool in scene.venue.pools.values()
            if {pool.token0, pool.token1} == pair and pool.fee in case.curves
        ]
    )
    rules = PlanRules(
        "devnet",
        judge.stage.address,
        Wei(0),
        max_hops=1,
        toxic_parts=True,
        deviation=None,
        least_depth=None,
        lends=lambda source: source.kind is FlashKind.AAVE,
    )
    market = scene.following.market
    planner = Planner(rules, {venue.name: venue}, {market.market: market}, lambda: "plan")
    free = replace(view, next_block=replace(view.next_block, base_fee=Wei(0)))
    quotes, _ = planner.quote(free, [case.drawn.choices[case.index]])
    if not quotes:
        return None
    (quote,) = quotes
    assert quote.flash.fee_ppm == FLASH_PPM
    return quote


def _sale(case: Case, quote: Quote) -> Sale:
    """Return a quote's size and split, its seizure being what the model has."""
    (step,) = quote.steps
    done = case.debtor.call(step.repay)
    assert done is not None, f"{case.name}: {step.repay} is illegal"
    fees = {pool.address: pool.fee for pool in case.drawn.scene.venue.pools.values()}
    parts: dict[int, int] = dict.fromkeys(case.curves, 0)
    left = done.received
    for portion in quote.routes:
        (hop,) = portion.route
        part = left if portion is quote.routes[-1] else done.received * portion.share // WAD
        parts[fees[hop.pool]] += part
        left -= part
    return Sale(step.repay, parts)


def _paid(judge: Judge, case: Case, sale: Sale) -> int:
    """Return what the contract holds more after a sale ran; undone."""
    covers = [(sale.cover,) if n == case.index else () for n in range(len(case.drawn.debtors))]
    run = judge.batch(case.drawn, covers, list(sale.parts.items()), late=False)
    return judge.gained(case.drawn, run)
