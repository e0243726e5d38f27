"""What our plans earn beside what others do and beside the best there is, on real contracts.

Every figure is realised: the transaction runs on the chain, what the contract then holds more is
counted, and its gas at the market's gas price is taken off. Each seed draws a market: how deep the
pools are, where their prices stand, how far the collateral falls, who is under water, what gas costs.

Others repay the most a call allows, all positions in one transaction, and keep it only when it pays:
over the first pool of the pair, or over the one that gives most for the whole amount. The best there
is comes from trying every combination in `tests/brute`, and the best candidates are run, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

from keeper.devnet import Devnet
from tests.bench.judge import Drawn, Judge
from tests.brute.search import Choice, GasCosts, best_choices
from tests.joint import SharedPool

MARKETS = 510
"""Markets in all, the scenes in turn."""
MOST = 3
"""Positions of one market at most."""
FLASH_PPM = 500
WORST = 5
"""How many of the markets in which most was left are printed."""


@dataclass(frozen=True)
class Outcome:
    """What one market brought, in dollars."""

    drawn: str
    ours: float
    first: float
    single: float
    best: float | None = None
    ours_twice: float | None = None
    twice: float | None = None
    gas_off: tuple[float, ...] = ()
    """By which share of what it used each plan's gas was estimated too high, or too low."""

    @property
    def optimum(self) -> float:
        """Return the best anyone reached with one call for each position."""
        assert self.best is not None
        return max(self.best, self.ours, 0.0)

    @property
    def optimum_twice(self) -> float:
        """Return the best anyone reached with two calls for each position."""
        assert self.twice is not None
        assert self.ours_twice is not None
        return max(self.twice, self.ours_twice, self.optimum)


@dataclass
class Tally:
    """All outcomes so far."""

    outcomes: list[Outcome] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return the sums the bench prints."""
        judged = [each for each in self.outcomes if each.best is not None]
        twice = [each for each in judged if each.twice is not None]
        ours = sum(each.ours for each in self.outcomes)
        first = sum(each.first for each in self.outcomes)
        single = sum(each.single for each in self.outcomes)
        gas_off = sorted(off for each in self.outcomes for off in each.gas_off)
        paying = [each for each in judged if each.optimum > 0]
        shares = sorted(max(each.ours, 0.0) / each.optimum for each in paying)
        return {
            "economics_markets": len(self.outcomes),
            "economics_markets_judged": len(judged),
            "economics_losing_plans": sum(each.ours < 0 for each in self.outcomes),
            "plan_gas_off_p5": gas_off[len(gas_off) // 20],
            "plan_gas_off_p50": median(gas_off),
            "plan_gas_off_p95": gas_off[len(gas_off) * 19 // 20],
            "share_of_optimum": sum(each.ours for each in judged)
            / sum(each.optimum for each in judged),
            "share_of_optimum_mean": fmean(shares),
            "share_of_optimum_p5": shares[len(shares) // 20],
            "share_of_optimum_least": shares[0],
            "gain_over_first_pool": ours / first - 1,
            "gain_over_best_pool": ours / single - 1,
            "share_of_optimum_two_calls": sum(each.ours_twice or 0.0 for each in twice)
            / sum(each.optimum_twice for each in twice),
            "gain_of_second_calls": sum(each.optimum_twice for each in twice)
            / sum(each.optimum for each in twice)
            - 1,
        }

    def losing(self) -> list[str]:
        """Return the markets in which our plans cost more than they brought."""
        return [
            f"{each.drawn}: {each.ours:,.2f} dollars" for each in self.outcomes if each.ours < 0
        ]

    def worst(self) -> list[str]:
        """Return the markets in which most was left."""
        judged = [each for each in self.outcomes if each.best is not None]
        judged.sort(key=lambda each: each.ours - each.optimum)
        return [
            f"{each.drawn}: ours {each.ours:,.2f}, best {each.best:,.2f} dollars"
            for each in judged[:WORST]
            if each.ours < each.optimum
        ]


def tally_markets(judge: Judge, markets: int = MARKETS, first: int = 0) -> Tally:
    """Draw markets, a seed each, and return what everybody realised in them."""
    tally = Tally()
    for number in range(first, first + markets):
        scene = judge.scenes[number % len(judge.scenes)]
        with judge.drawn(scene, number, MOST) as drawn:
            if drawn.choices:
                tally.outcomes.append(_outcome(judge, drawn))
    return tally


def _outcome(judge: Judge, drawn: Drawn) -> Outcome:
    unit = 10 ** drawn.scene.market.tokens[drawn.scene.debt].decimals
    healths = [each.opportunity.position.health / 1e18 for each in drawn.choices]
    name = (
        f"{drawn.scene.name} seed {drawn.seed}, {drawn.gas_price / 1e9:.1f} gwei, "
        f"health {', '.join(f'{health:.3f}' for health in healths)}"
    )
    made = judge.planned(drawn)
    ours, used = judge.run(drawn, [plan.calldata for plan in made])
    gas_off = tuple(plan.gas / gas - 1 for plan, gas in zip(made, used, strict=True))
    first, single = _others(judge, drawn)
    best = ours_twice = twice = None
    if drawn.scene.max_hops == 1:
        best = _best(judge, drawn, two_calls=False)
        if drawn.seed % 2:
            twice = _best(judge, drawn, two_calls=True) / unit
            plans = judge.planned(drawn, calls=2)
            ours_twice = judge.realised(drawn, [plan.calldata for plan in plans]) / unit
        best /= unit
    nets = ours / unit, first / unit, single / unit
    return Outcome(name, *nets, best, ours_twice, twice, gas_off)


def _others(judge: Judge, drawn: Drawn) -> tuple[float, float]:
    """Return what the largest repays earn over the pair's first pool, and over its best."""
    covers = [(debtor.cap(),) for debtor in drawn.debtors]
    curves = judge.curves(drawn)
    total = sum(
        done.received
        for debtor, (cover,) in zip(drawn.debtors, covers, strict=True)
        if (done := debtor.call(cover))
    )
    fees = [next(iter(curves)), max(curves, key=lambda fee: curves[fee].out(total))]
    found = {
        fee: max(judge.realised(drawn, [judge.batch(drawn, covers, [(fee, total)])]), 0.0)
        for fee in set(fees)
    }
    return found[fees[0]], found[fees[1]]


def _best(judge: Judge, drawn: Drawn, *, two_calls: bool) -> float:
    """Return what the best candidate of the search realises on the chain."""
    curves = judge.curves(drawn)
    gas = GasCosts(drawn.gas_unit)
    found: list[Choice] = best_choices(
        drawn.debtors, list(curves.values()), FLASH_PPM, gas, two_calls=two_calls
    )
    runs = (
        judge.batch(drawn, each.covers, list(zip(curves, each.parts, strict=True)))
        for each in found
        if any(each.covers)
    )
    return max((judge.realised(drawn, [run]) for run in runs), default=0.0)


def joint(net: Devnet) -> dict[str, float]:
    """Return what a hundred positions that share a pool earn together, and one by one at best."""
    before = net.snapshot()
    try:
        market = SharedPool(net)
        together = market.realised(market.together()[0])
        alone = {
            name: market.realised(market.one_by_one(crowd)[0])
            for name, crowd in market.orders().items()
        }
    finally:
        net.revert(before)
    for name, dollars in alone.items():
        print(f"a hundred positions one by one, {name}: {dollars:,.2f} dollars")
    best = max(alone.values())
    return {
        "joint_dollars": together,
        "joint_one_by_one_dollars": best,
        "gain_over_one_by_one": together / best - 1,
    }


def figures(net: Devnet, markets: int = MARKETS) -> Mapping[str, float]:
    """Judge markets; print where most was left."""
    judge = Judge(net)
    tally = tally_markets(judge, markets)
    print(f"seeds 0 to {markets - 1}; where most was left:", *tally.worst(), sep="\n  ")
    print("where ours lost:", *tally.losing(), sep="\n  ")
    judged = [each for each in tally.outcomes if each.best is not None]
    print(f"median market {median(each.optimum for each in judged):,.2f} dollars at best")
    return tally.figures() | joint(net)
