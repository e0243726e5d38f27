"""Fifty seeded scenarios: after each one the book is the chain's, whatever went wrong meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.errors import ConfigError
from tests.chaos.killed import run_killed
from tests.chaos.plan import make_plan
from tests.chaos.scenario import play
from tests.chaos.world import World
from tests.forked import prepare


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    try:
        net = Devnet.start()
    except ConfigError as error:
        pytest.skip(f"no local chain: {error}")
    prepare()
    with net:
        yield World(net)


@pytest.mark.parametrize("seed", range(1, 51))
def test_a_scenario(world: World, tmp_path: Path, seed: int) -> None:
    plan = make_plan(seed)
    print(plan)
    outcome = asyncio.run(play(world, plan, tmp_path, run_killed))
    assert not outcome.problems, f"{outcome.trace}\nagain: make chaos SEED={seed} N=1"
    assert sum(outcome.faults.values()) or not plan.killed
    print(f"{outcome.seconds:.1f} s, injected {dict(outcome.faults)}")
