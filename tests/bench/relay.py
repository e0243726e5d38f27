"""The relay's stand-in in a process of its own: what a relay does is not the keeper's time."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Self

from keeper.chain.endpoint import connect
from tests.relay_stand_in import RelayStandIn


class RelayProcess:
    """Run the stand-in beside a node; `url` is where it listens once entered."""

    def __init__(self, node: str) -> None:
        self.url = ""
        self._node = node
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-m", "tests.bench.relay", self._node)
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        self.url = await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._running()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    async def build(self, block: int) -> int:
        """Put what is meant for a block into the pool; return how many the node took."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(f"{block}\n".encode())
        return int(await self._line())

    async def _line(self) -> str:
        process = self._running()
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("the relay ended")
        return line.decode().strip()

    def _running(self) -> Process:
        assert self._process is not None, "not entered"
        return self._process


async def _serve(node: str) -> None:
    """Tell where the stand-in listens, then build each block named on a line of its own."""
    async with connect(node, "relay") as rpc, RelayStandIn(rpc) as relay:
        print(relay.url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await relay.build(int(line)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
