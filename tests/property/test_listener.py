"""Whatever a feed, a node and a chain do, what is folded ends at the canonical chain."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, strategies as st

from keeper.errors import TransientError
from tests.fake_chain import OTHER_TOPIC, TOPIC, address
from tests.unit.test_chain_listener import Setup, running


@given(seed=st.integers(0, 2**32 - 1))
def test_any_mix_of_faults_ends_at_the_canonical_chain(seed: int) -> None:
    asyncio.run(scenario(random.Random(seed)))


async def scenario(rng: random.Random) -> None:
    setup = Setup(limit=rng.choice([2, 1024]))
    setup.follower.discoveries = {address(2): address(3), address(3): address(4)}
    setup.chain.range_cap = rng.choice([None, 1, 5])

    def flaky(method: str, params: Sequence[Any]) -> object:
        if rng.random() < 0.01:
            raise TransientError("no answer")
        return None

    setup.chain.answering = flaky
    async with running(setup):
        for _ in range(rng.randrange(5, 25)):
            depth = min(rng.randrange(1, 10), setup.chain.head.number)
            if rng.random() < 0.3 and depth:
                setup.chain.roll_back(depth)
            topic = rng.choice([TOPIC, TOPIC, OTHER_TOPIC])
            emitters = [address(rng.randrange(6)) for _ in range(rng.randrange(4))]
            for _ in range(rng.choice([1, 1, 2, 30])):
                setup.chain.mine(*emitters, topic=topic)
            seen = [setup.chain.header(n) for n in range(setup.chain.head.number + 1)][-4:]
            rng.shuffle(seen)
            with contextlib.suppress(TransientError):
                setup.feed.announce(*seen[: rng.randrange(1, 5)])
            if rng.random() < 0.2:
                setup.feed.drop()
            await asyncio.sleep(0)
        # The last block is seen by whoever reconnects, or announced.
        setup.chain.mine(address(1))
        for _ in range(50):
            with contextlib.suppress(TransientError):
                setup.feed.announce(setup.chain.head)
                break
            await asyncio.sleep(0.002)
        await setup.follower.reach(setup.chain.head)
    setup.assert_exact()
