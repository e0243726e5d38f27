"""A reader that remembers what it was told, so that another endpoint can be asked for the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set as AbstractSet
from typing import TypeVar

from keeper.ports import Reader
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import Address, Hash

T = TypeVar("T")


class Witness:
    """Read through another reader, and remember every question with its answer."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._heard: list[tuple[Callable[[Reader], Awaitable[object]], object]] = []
        self.values = 0

    async def is_confirmed(self, other: Reader) -> bool:
        """Ask another reader everything again; tell whether it gives the very same answers."""
        answers = await asyncio.gather(*(ask(other) for ask, _ in self._heard))
        return answers == [answer for _, answer in self._heard]

    async def head(self, number: int | None = None) -> Head:
        """Return a header by number, or the latest."""
        return await self._ask(lambda reader: reader.head(number))

    async def call(self, call: Call, block: Hash | None = None) -> bytes:
        """Return what a call returns at a block's hash."""
        return await self._ask(lambda reader: reader.call(call, block))

    async def multicall(self, calls: Sequence[Call], block: Hash | None = None) -> list[CallResult]:
        """Return one result per call, all at one block."""
        return await self._ask(lambda reader: reader.multicall(calls, block), len(calls))

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        """Return the matching logs of an inclusive range."""
        return await self._ask(lambda reader: reader.logs(watch, first, last))

    async def collect(
        self, stage: str, watch: Watch, first: int, last: int, key: Callable[[Log], bytes]
    ) -> AbstractSet[bytes]:
        """Return the distinct keys of all logs of a long inclusive range."""
        return await self._ask(lambda reader: reader.collect(stage, watch, first, last, key))

    async def forget(self) -> None:
        """Keep what scans found: a witness only reads."""

    async def sweep(
        self,
        stage: str,
        calls: Iterable[Call],
        total: int,
        block: Hash,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        """Make a long row of calls at one block and hand their results over in order."""
        row = list(calls)

        async def ask(reader: Reader) -> list[CallResult]:
            found: list[CallResult] = []
            await reader.sweep(stage, row, total, block, found.extend)
            return found

        take(await self._ask(ask, len(row)))

    async def code(self, address: Address, block: Hash | None = None) -> bytes:
        """Return an account's code."""
        return await self._ask(lambda reader: reader.code(address, block))

    async def storage(self, address: Address, slot: int, block: Hash | None = None) -> bytes:
        """Return one storage word."""
        return await self._ask(lambda reader: reader.storage(address, slot, block))

    async def _ask(self, ask: Callable[[Reader], Awaitable[T]], values: int = 1) -> T:
        answer = await ask(self._reader)
        self._heard.append((ask, answer))
        self.values += values
        return answer
