"""A chain in memory that answers JSON-RPC, a feed of its heads, and a follower that records."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from eth_hash.auto import keccak

from keeper.chain import bloom, parse
from keeper.chain.heads import HeadQueue
from keeper.errors import InvariantError, RpcError, TransientError
from keeper.types import Head, Log, Watch
from keeper.units import Address

TOPIC = keccak(b"Watched()")
OTHER_TOPIC = keccak(b"Unwatched()")


def address(number: int) -> Address:
    """Return a distinct address."""
    return Address(keccak(number.to_bytes(32, "big"))[-20:])


class FakeChain:
    """Blocks with logs; forks are kept, so that orphaned blocks can still be asked for by hash.

    `answering` may replace or raise for a request before it is served.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.range_cap: int | None = None
        self.answering: Callable[[str, Sequence[Any]], object] | None = None
        self._salt = 0
        self._known: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        self._canonical: list[str] = []
        self.mine()

    @property
    def head(self) -> Head:
        """Return the tip."""
        return self.header(len(self._canonical) - 1)

    def header(self, number: int) -> Head:
        """Return a canonical header."""
        return parse.head(self._known[self._canonical[number]][0])

    def logs(self, number: int, watch: Watch) -> list[Log]:
        """Return a canonical block's logs that a watch asks for."""
        entries, timestamp = self._known[self._canonical[number]][1], self.header(number).timestamp
        return [
            log
            for log in parse.logs(entries, timestamp)
            if log.address in watch.addresses and log.topics[0] in watch.topics
        ]

    def mine(self, *emitters: Address, topic: bytes = TOPIC) -> Head:
        """Add a block in which each emitter logs once."""
        self._salt += 1
        number = len(self._canonical)
        name = "0x" + keccak(b"block" + self._salt.to_bytes(32, "big")).hex()
        bits = 0
        for emitter in emitters:
            bits |= bloom.mask(emitter) | bloom.mask(topic)
        header = {
            "number": hex(number),
            "hash": name,
            "parentHash": self._canonical[-1] if number else "0x" + "00" * 32,
            "timestamp": hex(1_700_000_000 + 12 * number),
            "baseFeePerGas": hex(10**9),
            "gasUsed": hex(21_000 * len(emitters)),
            "gasLimit": hex(60_000_000),
            "logsBloom": "0x" + bits.to_bytes(256, "big").hex(),
        }
        logs = [
            {
                "address": "0x" + emitter.hex(),
                "topics": ["0x" + topic.hex()],
                "data": "0x" + self._salt.to_bytes(32, "big").hex(),
                "blockNumber": hex(number),
                "blockHash": name,
                "logIndex": hex(index),
                "transactionHash": "0x" + keccak(f"{name}{index}".encode()).hex(),
            }
            for index, emitter in enumerate(emitters)
        ]
        self._known[name] = (header, logs)
        self._canonical.append(name)
        return self.head

    def roll_back(self, depth: int) -> None:
        """Orphan the last blocks; mining goes on from what is left."""
        del self._canonical[-depth:]

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Answer like a node."""
        self.requests[method] += 1
        await asyncio.sleep(0)
        if self.answering is not None:
            answer = self.answering(method, params)
            if answer is not None:
                return answer
        match method:
            case "eth_getBlockByNumber":
                number = len(self._canonical) - 1 if params[0] == "latest" else int(params[0], 16)
                if number >= len(self._canonical):
                    return None
                return self._known[self._canonical[number]][0]
            case "eth_getBlockByHash":
                return self._known.get(params[0], (None, []))[0]
            case "eth_getLogs":
                return self._get_logs(params[0])
            case _:
                raise RpcError(method, -32601, "method not found")

    def _get_logs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in query:
            if query["blockHash"] not in self._known:
                raise RpcError("eth_getLogs", -32000, "unknown block")
            blocks = [query["blockHash"]]
        else:
            first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
            if self.range_cap is not None and last - first + 1 > self.range_cap:
                raise RpcError("eth_getLogs", -32005, "block range is too large")
            blocks = self._canonical[first : last + 1]
        return [
            log
            for block in blocks
            for log in self._known[block][1]
            if log["address"] in query["address"] and log["topics"][0] in query["topics"][0]
        ]


class FakeFeed:
    """Announces what the test says, when it says so; counts its connections."""

    def __init__(self, limit: int = 1024) -> None:
        self.opened = 0
        self.refusals = 0
        self._limit = limit
        self._queue: HeadQueue | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HeadQueue]:
        if self.refusals:
            self.refusals -= 1
            raise TransientError("refused")
        self.opened += 1
        self._queue = HeadQueue(lambda head: head, self._limit)
        yield self._queue

    def announce(self, *heads: Head) -> None:
        """Notify of heads at once."""
        assert self._queue is not None
        for head in heads:
            self._queue.append(head)

    def drop(self) -> None:
        """End the connection."""
        assert self._queue is not None
        self._queue.end(TransientError("dropped"))


class RecordingFollower:
    """Keeps every folded block; widens its watch when told what a log discovers."""

    def __init__(self, start: Head, watch: Watch) -> None:
        self.blocks: list[tuple[Head, tuple[Log, ...]]] = [(start, ())]
        self.discoveries: dict[Address, Address] = {}
        self.folds = 0
        self.undos = 0
        self.changed = asyncio.Event()
        self._base = watch
        self._watches: list[Watch] = []

    @property
    def head(self) -> Head:
        return self.blocks[-1][0]

    def watch(self) -> Watch:
        return self._watches[-1] if self._watches else self._base

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        assert head.parent == self.head.hash, "a block was folded that does not follow"
        assert all(log.block_hash == head.hash for log in logs), "another block's log was folded"
        assert [log.index for log in logs] == sorted({log.index for log in logs})
        found = {self.discoveries[log.address] for log in logs if log.address in self.discoveries}
        watch = self.watch()
        self._watches.append(Watch(watch.addresses | found, watch.topics))
        self.blocks.append((head, tuple(logs)))
        self.folds += 1
        self.changed.set()

    def undo(self) -> None:
        if len(self.blocks) == 1:
            raise InvariantError("fake", "too deep")
        self.blocks.pop()
        self._watches.pop()
        self.undos += 1

    async def reach(self, head: Head, seconds: float = 10.0) -> None:
        """Wait until a block is the last folded one."""
        async with asyncio.timeout(seconds):
            while self.head.hash != head.hash:
                self.changed.clear()
                await self.changed.wait()
