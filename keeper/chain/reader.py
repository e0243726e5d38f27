"""Reads of one chain at a named block."""

import asyncio
from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from functools import partial
from typing import Any

from keeper.chain import parse
from keeper.chain.answers import Kind, kind_of_error
from keeper.chain.blocks import Blocks
from keeper.chain.history import History
from keeper.chain.multicall import MULTICALL3, decode_aggregate3, encode_aggregate3
from keeper.chain.ranges import LogRanges
from keeper.chain.remembered import Remembered, Unreported
from keeper.chain.sweep import Sweep
from keeper.errors import ConfigError, RpcError, StateGoneError, TransientError
from keeper.ports import Checkpoint, Progress, Rpc
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import Address, Hash, to_hex

_GONE = frozenset({Kind.UNKNOWN_BLOCK, Kind.DROPPED})


class ChainReader:
    """Read accounts, calls and logs; satisfies `ports.Reader`.

    A read at a block the node does not hold (any more) raises `StateGoneError`.

    `calls_per_request` bounds one multicall; at some 100k gas a call the default stays below the
    50M gas most nodes allow one `eth_call`. `checkpoint` keeps what a long history gave, in memory
    unless told otherwise; `progress` is told of it.
    """

    def __init__(
        self,
        rpc: Rpc,
        multicall: Address = MULTICALL3,
        *,
        calls_per_request: int = 400,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._rpc = rpc
        self._multicall = multicall
        self._calls_per_request = calls_per_request
        self._blocks = Blocks(rpc)
        self._ranges = LogRanges(rpc)
        progress = progress or Unreported()
        self._checkpoint = checkpoint or Remembered()
        self._history = History(rpc, self._ranges, self._checkpoint, progress)
        self._sweep = Sweep(progress, size=calls_per_request)

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Ask the node anything else; satisfies `ports.Rpc`."""
        return await self._rpc.request(method, params)

    async def head(self, number: int | None = None) -> Head:
        """Return a header by number, or the latest."""
        return await (self._blocks.latest() if number is None else self._blocks.by_number(number))

    async def call(self, call: Call, block: Hash | None = None) -> bytes:
        """Return what a call returns at a block's hash; raise `RpcError` when it reverts."""
        request = {"to": to_hex(call.target), "data": to_hex(call.data)}
        return _bytes(await self._at_block("eth_call", [request], block))

    async def multicall(self, calls: Sequence[Call], block: Hash | None = None) -> list[CallResult]:
        """Return one result per call, all at one block, through Multicall3 in as few requests as fit.

        A request the node refuses is halved until it fits. Raises `ConfigError` without Multicall3.
        """
        if not calls:
            return []
        size = self._calls_per_request
        if len(calls) <= size:
            return await self._aggregate(calls, block)
        if block is None:
            block = (await self.head()).hash
        chunks = [calls[at : at + size] for at in range(0, len(calls), size)]
        answers = await asyncio.gather(*(self._aggregate(chunk, block) for chunk in chunks))
        return [result for answer in answers for result in answer]

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        """Return the matching logs of an inclusive range in chain order, in adaptive ranges."""
        return await self._ranges.logs(watch, first, last)

    async def collect(
        self, stage: str, watch: Watch, first: int, last: int, key: Callable[[Log], bytes]
    ) -> AbstractSet[bytes]:
        """Return the distinct keys of all logs of a long inclusive range, resumable."""
        return await self._history.collect(stage, watch, first, last, key)

    async def forget(self) -> None:
        """Forget what `collect` kept for a second start."""
        await self._checkpoint.clear()

    async def sweep(
        self,
        stage: str,
        calls: Iterable[Call],
        total: int,
        block: Hash,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        """Make a long row of calls at one block and hand their results over in order."""
        ask = partial(self._aggregate, block=block)
        await self._sweep.run(stage, ask, calls, total, take)

    async def code(self, address: Address, block: Hash | None = None) -> bytes:
        """Return an account's code."""
        return _bytes(await self._at_block("eth_getCode", [to_hex(address)], block))

    async def storage(self, address: Address, slot: int, block: Hash | None = None) -> bytes:
        """Return one storage word."""
        params = [to_hex(address), hex(slot)]
        return _bytes(await self._at_block("eth_getStorageAt", params, block)).rjust(32, b"\0")

    async def _at_block(self, method: str, params: Sequence[object], block: Hash | None) -> Any:
        """Ask at a block's hash; raise `StateGoneError` when the node does not hold its state."""
        try:
            return await self._rpc.request(method, [*params, _at(block)])
        except RpcError as error:
            if block is None or kind_of_error(error) not in _GONE:
                raise
            raise StateGoneError(
                f"the node does not hold the state of block {to_hex(block)} ({error.message})"
            ) from error

    async def _aggregate(self, calls: Sequence[Call], block: Hash | None) -> list[CallResult]:
        try:
            answer = await self.call(Call(self._multicall, encode_aggregate3(calls)), block)
        except RpcError as error:
            if len(calls) == 1 or not _is_too_much(error):
                raise
            if block is None:
                block = (await self.head()).hash
            half = len(calls) // 2
            first = await self._aggregate(calls[:half], block)
            return first + await self._aggregate(calls[half:], block)
        if not answer:
            raise ConfigError(
                f"no Multicall3 at {to_hex(self._multicall)}", "set the chain's multicall address"
            )
        try:
            results = decode_aggregate3(answer)
        except ValueError as error:
            raise TransientError(str(error)) from error
        if len(results) != len(calls):
            raise TransientError(f"{len(calls)} calls were answered with {len(results)} results")
        return results


def _is_too_much(error: RpcError) -> bool:
    words = ("gas", "size", "large", "long", "exceed", "limit", "timeout", "revert")
    return error.code in {3, 413} or any(word in error.message.lower() for word in words)


def _at(block: Hash | None) -> object:
    return "latest" if block is None else {"blockHash": to_hex(block)}


def _bytes(answer: object) -> bytes:
    if not isinstance(answer, str):
        raise TransientError("the node sent no data")
    try:
        return parse.blob(answer)
    except ValueError as error:
        raise TransientError("the node sent malformed data") from error
