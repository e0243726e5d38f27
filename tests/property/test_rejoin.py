"""Whatever happens while a part of the book is loaded anew, all of it ends as the chain is."""

import random

import pytest

from keeper.errors import TransientError
from tests.unit.test_rejoin import FAULT, Scene


@pytest.mark.parametrize("seed", range(40))
async def test_any_order_of_blocks_reorgs_and_faults_ends_in_the_truth(seed: int) -> None:
    chance = random.Random(seed)
    scene = Scene()
    for _ in range(20):
        scene.mine(1, 2, 3)
    await scene.follow()

    async def live() -> None:
        for _ in range(chance.randrange(5)):
            if chance.random() < 0.4:
                scene.chain.roll_back(depth := chance.randrange(1, 6))
                for _ in range(depth):
                    scene.mine(*chance.choices((1, 2, 3), k=chance.randrange(4)))
            scene.mine(*chance.choices((1, 2, 3), k=chance.randrange(4)))
            if chance.random() < 0.8:
                await scene.follow()

    scene.market.meanwhile = scene.venue.meanwhile = live
    for _ in range(30):
        await live()
        await scene.follow()
        if chance.random() < 0.3:
            part = chance.choice(["market/m", "venue/v"])
            scene.book.parts.stop(part, FAULT)
            ledger = scene.market if part == "market/m" else scene.venue
            ledger.held = [b"wrong"]
        for part in list(scene.book.parts.faults):
            try:
                await scene.rebuild(part)
            except TransientError:
                continue
            assert scene.book.trust(part)
        head = scene.book.head
        assert head is not None
        for part, ledger in (("market/m", scene.market), ("venue/v", scene.venue)):
            if part not in scene.book.parts.faults:
                assert ledger.held == ledger.true(head), seed
