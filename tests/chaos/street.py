"""A relay beside a test that is not asynchronous: it runs in a thread of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from keeper.chain.endpoint import connect
from keeper.devnet import Devnet
from tests.relay_stand_in import RelayStandIn

_SECONDS = 10.0


class Street:
    """One relay, and a builder who puts what it holds into the pool before a block."""

    def __init__(self, relay: RelayStandIn, net: Devnet, loop: asyncio.AbstractEventLoop) -> None:
        self.url = relay.url
        self._relay = relay
        self._net = net
        self._loop = loop

    def build(self) -> None:
        """Let the builder try for the block to come, unless it is to ignore everything."""
        number = self._net.chain.block_number() + 1
        asyncio.run_coroutine_threadsafe(self._relay.build(number), self._loop).result(_SECONDS)

    def ignore(self) -> None:
        """Let nothing of what the relay holds be included."""
        self._relay.ignoring = True


@contextmanager
def relaying(net: Devnet) -> Iterator[Street]:
    """Run a relay before a node."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[RelayStandIn, asyncio.Event, asyncio.Task[None]]:
        ready, over = asyncio.Event(), asyncio.Event()
        made: list[RelayStandIn] = []

        async def serve() -> None:
            async with connect(net.rpc_url, "builder") as node, RelayStandIn(node) as relay:
                made.append(relay)
                ready.set()
                await over.wait()

        serving = asyncio.create_task(serve())
        await ready.wait()
        return made[0], over, serving

    async def end(over: asyncio.Event, serving: asyncio.Task[None]) -> None:
        over.set()
        await serving

    relay, over, serving = asyncio.run_coroutine_threadsafe(start(), loop).result(_SECONDS)
    try:
        yield Street(relay, net, loop)
    finally:
        asyncio.run_coroutine_threadsafe(end(over, serving), loop).result(_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_SECONDS)
        loop.close()
