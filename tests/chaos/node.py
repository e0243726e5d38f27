"""A bare node whose blocks hold logs of contracts that do nothing but log."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keeper.chain import parse
from keeper.chain.blocks import Blocks
from keeper.chain.endpoint import Endpoint, connect
from keeper.devnet.anvil import Anvil
from keeper.devnet.toolchain import find_anvil, install_packages
from keeper.types import Head, Log, Watch
from keeper.units import Address, to_hex
from tests.fake_chain import TOPIC, address

EMITTERS = [address(number) for number in range(4)]
WATCH = Watch(frozenset(EMITTERS[:3]), frozenset({TOPIC}))

# PUSH32 topic, PUSH1 0, PUSH1 0, LOG1, STOP
_EMIT = "0x7f" + TOPIC.hex() + "60006000a100"


@contextmanager
def started_anvil() -> Iterator[str]:
    """Run a node that mines only when told, and give its HTTP URL. Raises ConfigError."""
    binary = find_anvil(install_packages(lambda _: None))
    anvil = Anvil(binary, ["--no-mining", "--timestamp", "1700000000"], "127.0.0.1", 0)
    try:
        yield f"http://{anvil.host}:{anvil.port}"
    finally:
        anvil.stop()


class Node:
    """Mine and reorganise; read the chain past the proxy."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.endpoint: Endpoint = connect(url, "direct", timeout=30)
        self._blocks = Blocks(self.endpoint)
        self._sender = ""

    async def prepare(self) -> None:
        """Put the emitters on the chain."""
        for emitter in EMITTERS:
            await self._ask("anvil_setCode", to_hex(emitter), _EMIT)
        self._sender = (await self._ask("eth_accounts"))[0]

    async def mine(self, *emitters: Address) -> Head:
        """Make one block in which each emitter logs, in no promised order."""
        for emitter in emitters:
            await self._ask("eth_sendTransaction", self._touch(emitter))
        await self._ask("evm_mine")
        return await self._blocks.latest()

    async def mine_many(self, pattern: Sequence[Sequence[Address]]) -> Head:
        """Make one block for each row of emitters."""
        for emitters in pattern:
            await self.mine(*emitters)
        return await self._blocks.latest()

    async def reorg(self, depth: int, pattern: Sequence[Sequence[Address]]) -> Head:
        """Replace the last blocks by as many others, row by row with these emitters."""
        placed = [
            [self._touch(emitter), offset] for offset, row in enumerate(pattern) for emitter in row
        ]
        await self._ask("anvil_reorg", depth, placed)
        return await self._blocks.latest()

    async def canonical(self, start: Head) -> list[tuple[Head, tuple[Log, ...]]]:
        """Return the chain after `start` with the watched logs, read block by block, unfiltered."""
        last = (await self._blocks.latest()).number
        numbers = range(start.number + 1, last + 1)
        return await asyncio.gather(*(self._block(number) for number in numbers))

    async def latest(self) -> Head:
        """Return the tip."""
        return await self._blocks.latest()

    async def _block(self, number: int) -> tuple[Head, tuple[Log, ...]]:
        head = await self._blocks.by_number(number)
        answer = await self._ask("eth_getLogs", {"blockHash": to_hex(head.hash)})
        logs = parse.logs(answer, head.timestamp)
        ours = [
            each
            for each in logs
            if each.address in WATCH.addresses and each.topics[0] in WATCH.topics
        ]
        return head, tuple(ours)

    def _touch(self, emitter: Address) -> dict[str, str]:
        return {"from": self._sender, "to": to_hex(emitter), "gas": hex(100_000)}

    async def _ask(self, method: str, *params: Any) -> Any:
        return await self.endpoint.request(method, params)
