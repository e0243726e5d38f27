"""Observers: one that fails harms neither the others nor the chain."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from keeper.metrics import ChainLabels, Metrics
from keeper.observers.meter import meter
from keeper.observers.observation import Event, Observation
from keeper.types import Included, ItemOutcome
from keeper.units import USD, Usd
from tests.plans import Plans, address, included


def test_a_failing_observer_is_told_of_and_the_others_go_on() -> None:
    faults: list[Exception] = []
    seen: list[Any] = []
    observation = Observation(lambda _: None, faults.append)

    def broken(_: object) -> None:
        raise KeyError("label")

    observation.add(broken)
    observation.add(seen.append)
    for name in ("plan.submitted", "plan.included"):
        observation.tell(Event("test", name, {}))
    observation.flush()
    assert [event.name for event in seen] == ["plan.submitted", "plan.included"]
    assert [type(fault) for fault in faults] == [KeyError, KeyError]


async def test_what_is_told_during_a_drain_is_shown_at_once() -> None:
    observation = Observation(lambda _: None, lambda _: None, capacity=1)
    seen: list[Any] = []
    observation.add(seen.append)

    async def drain() -> str:
        observation.tell(Event("test", "plan.cancelling", {}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [event.name for event in seen] == ["plan.cancelling"]
        observation.tell(Event("test", "plan.cancelled", {}))
        return "done"

    assert await observation.during(drain()) == "done"
    assert [event.name for event in seen] == ["plan.cancelling", "plan.cancelled"]


@pytest.fixture
def metrics() -> Metrics:
    """Return the metrics of one chain."""
    labels = ChainLabels(block_time=12, protocols=["aave-v3"])
    return Metrics(
        version="1", commit="", mode="dry", chains={"test": labels}, strategies=["profitability"]
    )


def test_dry_profit_is_that_of_the_positions_not_told_before(metrics: Metrics) -> None:
    plan = Plans().make(address("one"), address("two"))
    fields = {"plan": plan, "net_usd": Usd(40 * USD), "items": 1}
    meter(metrics, "test", {}, lambda: None)(Event("test", "plan.dry", fields))
    value = metrics.registry.get_sample_value("keeper_dry_net_usd_total", {"chain": "test"})
    assert value == 40


def test_one_borrower_in_two_markets_counts_only_where_it_was_liquidated(metrics: Metrics) -> None:
    one = address("one")
    plan = Plans().make(one, one)
    receipt: Included = included(plan)
    items = (receipt.items[0], ItemOutcome.of(plan.quotes[1], False, 0, "undone"))
    fields = {"plan": plan, "receipt": replace(receipt, items=items)}
    meter(metrics, "test", {}, lambda: None)(Event("test", "plan.included", fields))
    labels = {
        "chain": "test",
        "protocol": "aave-v3",
        "strategy": "profitability",
        "stage": "included",
    }
    assert metrics.registry.get_sample_value("keeper_funnel_total", labels) == 1
