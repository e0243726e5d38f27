"""Kill the keeper at any moment, let the chain go on, and start it again on the same record."""

import asyncio
import multiprocessing
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from keeper.config import Settings
from keeper.units import Hash
from tests.chaos.child import follow
from tests.chaos.plan import Step
from tests.chaos.proxy import FaultProxy
from tests.chaos.rig import Seen
from tests.chaos.scenario import Play, write_settings
from tests.chaos.verdict import Chain, differences, state

PATIENCE = 20.0
_SNAPSHOT_SHARE = 0.4


class Child:
    """A keeper's process, and what it told so far."""

    def __init__(self, playing: Play, home: Path) -> None:
        net = playing.world.net
        self.seen: list[Seen] = []
        self._told: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._pipe, theirs = multiprocessing.Pipe()
        arguments = (home / "keeper.toml", net.ws_url, net.market.pool, playing.world.borrowers)
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=follow, args=(*arguments, theirs), daemon=True)

        self._process.start()
        theirs.close()

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._take)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await asyncio.to_thread(self._process.join)
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._process.close()

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)

    async def decide(self, block: Hash, seconds: float = PATIENCE) -> bool:
        """Wait for a decision on a head; False when none came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not any(seen.head.hash == block for seen in self.seen):
                    await self._more()
        return any(seen.head.hash == block for seen in self.seen)

    def tell(self, what: str) -> None:
        """Let the keeper do something, and do not wait for it."""
        self._pipe.send(what)

    async def ask(self, what: str, about: str) -> Any:
        """Ask the keeper and return what it tells."""
        self._told.pop(about, None)
        self._pipe.send(what)
        async with asyncio.timeout(PATIENCE):
            while about not in self._told:
                await self._more()
        return self._told[about]

    async def _more(self) -> None:
        if "failed" in self._told:
            raise AssertionError(f"the keeper ended: {self._told['failed']}")
        self._changed.clear()
        await self._changed.wait()

    def _take(self) -> None:
        try:
            while self._pipe.poll():
                kind, told = self._pipe.recv()
                if kind == "seen":
                    self.seen.append(told)
                else:
                    self._told[kind] = told
        except (EOFError, OSError):
            self._told.setdefault("failed", "its process is gone")
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._changed.set()


async def run_killed(playing: Play, _: Settings, home: Path) -> None:
    """Kill and start again a few times, then compare the last keeper with the chain."""
    plan, outcome, chain = playing.plan, playing.outcome, playing.chain
    rng = random.Random(plan.seed)
    async with FaultProxy(playing.world.net.rpc_url, plan.seed, playing.world.stillness) as proxy:
        url = proxy.ws_url if plan.shape[0] == "ws" else proxy.http_url
        write_settings(playing.world, home, url)
        for each in plan.rounds:
            async with Child(playing, home) as child:
                await _until_some_moment(child, playing, rng)
                child.kill()
            outcome.faults["kill"] += 1
            await proxy.until_connections(0)
            for step in each.steps:
                assert isinstance(step, Step)
                await playing.step(step, playing.lowest)
        async with Child(playing, home) as child:
            tip = await chain.reader.head()
            assert await child.decide(tip.hash), (
                f"no decision on the head {tip.number} of its start"
            )
            head = await playing.mine()
            assert await child.decide(head.hash), f"no decision on the head {head.number}"
            outcome.problems += await chain.unseen(child.seen)
            outcome.problems += await _compare(child, chain)
            outcome.counts["decisions"] += len(child.seen)
            await child.ask("end", "ended")
        await proxy.until_connections(0)
    outcome.faults.update(proxy.injected)


async def _until_some_moment(child: Child, playing: Play, rng: random.Random) -> None:
    """Return while the keeper starts, or some blocks later, in the middle of its work."""
    if rng.random() < 0.3:
        await child.decide((await playing.chain.reader.head()).hash, rng.uniform(0.0, 0.5))
        return
    assert await child.decide((await playing.chain.reader.head()).hash)
    for _ in range(rng.randint(1, 6)):
        kind, size = rng.choice([("blocks", rng.randint(1, 4)), ("reorg", rng.randint(1, 12))])
        await playing.step(Step(kind, size, rng.getrandbits(32), 0.0), playing.lowest)
        tip = await playing.chain.reader.head()
        await child.decide(tip.hash, rng.choice([0.0, 0.005, 0.03, PATIENCE]))
        if rng.random() < _SNAPSHOT_SHARE:
            child.tell("snapshot")


async def _compare(child: Child, chain: Chain) -> list[str]:
    head, drifts, told = await child.ask("state", "state")
    tip = await chain.reader.head()
    if head != tip:
        return [f"the book stands at block {head.number}, the chain at {tip.number}"]
    fresh = await chain.load()
    found = [*drifts, *differences(told, await state(fresh, chain, head))]
    accounts = await chain.accounts(head)
    return found + chain.unlike(told["positions"], accounts)
