"""A plan whose offer fails is proven over pools alone, and what was proven already is not lost by it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from keeper.execution.prove import Prover
from keeper.execution.refusal import skip_for, skips_for
from keeper.execution.standby import Standby
from keeper.types import Plan, Reason, Skip, View
from keeper.units import Usd
from tests.plans import Plans, address, make_head, make_view

VIEW = make_view(make_head())
Answer = tuple[list[Plan], list[Skip]]


@dataclass
class Answers:
    """A prover that answers as it is told, one proof after another."""

    answers: list[Answer]
    asked: list[list[str]] = field(default_factory=list)

    async def prove(self, plans: Sequence[Plan], view: View) -> Answer:
        assert view is VIEW
        self.asked.append([plan.id for plan in plans])
        return self.answers.pop(0)


def offered(plan: Plan, sender: str) -> Plan:
    """Return a plan that sells by offers, to be sent by somebody."""
    quotes = tuple(replace(quote, fallback=quote.routes) for quote in plan.quotes)
    return replace(plan, quotes=quotes, sender=address(sender))


def pooled(plan: Plan, view: View) -> Plan:
    """Return a plan over pools alone, which gives up one quote more."""
    assert view is VIEW
    given_up = skip_for(plan.quotes[0], Reason.DUST, "too little alone")
    return replace(plan, id=f"{plan.id} pooled", sender=address("nobody"), skips=(given_up,))


def standby(prover: Answers, *, pays: bool = True) -> Standby[object]:
    without = pooled if pays else lambda plan, view: None
    return Standby(cast("Prover[object]", prover), without)


def three() -> tuple[Plan, Plan, Plan]:
    """Return two plans over pools, and one that has an offer."""
    plans = Plans()
    return plans.make(), plans.make(), offered(plans.make(), "a")


@pytest.mark.parametrize("reason", [Reason.SIMULATION_FAILED, Reason.UNPROFITABLE])
async def test_a_plan_whose_offer_fails_is_proven_over_pools_by_its_sender(reason: Reason) -> None:
    one, two, made = three()
    over_pools = pooled(made, VIEW)
    prover = Answers(
        [([one, two], skips_for([made], reason, "less")), ([one, two, over_pools], [])]
    )
    proven, skips = await standby(prover).prove([one, two, made], VIEW)
    assert proven == [one, two, over_pools]
    assert [skip.reason for skip in skips] == [Reason.DUST]
    assert prover.asked == [[one.id, two.id, made.id], [one.id, two.id, over_pools.id]]


async def test_pools_are_proven_for_the_sender_that_was_chosen() -> None:
    made = offered(Plans().make(), "a")
    seen: list[Plan] = []

    class Watched(Answers):
        async def prove(self, plans: Sequence[Plan], view: View) -> Answer:
            seen.extend(plans)
            return await super().prove(plans, view)

    failed = skips_for([made], Reason.SIMULATION_FAILED, "less")
    await standby(Watched([([], failed), ([], [])])).prove([made], VIEW)
    assert [plan.sender for plan in seen] == [address("a")] * 2


async def test_what_was_proven_stands_when_the_second_proof_is_not_simulated() -> None:
    one, two, made = three()
    first = [one, two], skips_for([made], Reason.SIMULATION_FAILED, "less")
    late = skips_for([one, two, made], Reason.TIMEOUT, "not simulated")
    prover = Answers([first, ([], late)])
    assert await standby(prover).prove([one, two, made], VIEW) == first
    assert len(prover.asked) == 2


async def test_what_was_proven_stands_when_pools_cost_others_more() -> None:
    one, two, made = three()
    first = [one, two], skips_for([made], Reason.SIMULATION_FAILED, "less")
    little = replace(made, net_usd=Usd(one.net_usd - 1))
    prover = Answers([first, ([two, little], skips_for([one], Reason.UNPROFITABLE, "behind"))])
    assert await standby(prover).prove([one, two, made], VIEW) == first


async def test_what_is_late_is_not_proven_twice() -> None:
    one, two, made = three()
    late = [one], skips_for([two, made], Reason.TIMEOUT, "no room")
    failing: Answer = [], skips_for([one, two, made], Reason.TIMEOUT, "not simulated")
    for answer in (late, failing):
        prover = Answers([answer])
        assert await standby(prover).prove([one, two, made], VIEW) == answer


async def test_nothing_is_proven_twice_for_who_has_no_offer_or_pays_with_none() -> None:
    one, two, made = three()
    failed = [two], skips_for([one], Reason.SIMULATION_FAILED, "healthy")
    assert await standby(Answers([failed])).prove([one, two], VIEW) == failed
    failed = [one, two], skips_for([made], Reason.SIMULATION_FAILED, "less")
    prover = Answers([failed])
    assert await standby(prover, pays=False).prove([one, two, made], VIEW) == failed
