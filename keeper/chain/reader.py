"""Reads of one chain at a named block."""

import asyncio
from collections.abc import Sequence

from keeper.chain import parse
from keeper.chain.blocks import Blocks
from keeper.chain.multicall import MULTICALL3, decode_aggregate3, encode_aggregate3
from keeper.chain.ranges import LogRanges
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import Address, Hash, to_hex


class ChainReader:
    """Read accounts, calls and logs; satisfies `ports.Reader`.

    `calls_per_request` bounds one multicall; at some 100k gas a call the default stays below the
    50M gas most nodes allow one `eth_call`.
    """

    def __init__(
        self,
        rpc: Rpc,
        multicall: Address = MULTICALL3,
        *,
        calls_per_request: int = 400,
    ) -> None:
        self._rpc = rpc
        self._multicall = multicall
        self._calls_per_request = calls_per_request
        self._blocks = Blocks(rpc)
        self._ranges = LogRanges(rpc)

    async def head(self, number: int | None = None) -> Head:
        """Return a header by number, or the latest."""
        return await (self._blocks.latest() if number is None else self._blocks.by_number(number))

    async def call(self, call: Call, block: Hash | None = None) -> bytes:
        """Return what a call returns at a block's hash; raise `RpcError` when it reverts."""
        request = {"to": to_hex(call.target), "data": to_hex(call.data)}
        return _bytes(await self._rpc.request("eth_call", [request, _at(block)]))

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

    async def code(self, address: Address, block: Hash | None = None) -> bytes:
        """Return an account's code."""
        return _bytes(await self._rpc.request("eth_getCode", [to_hex(address), _at(block)]))

    async def storage(self, address: Address, slot: int, block: Hash | None = None) -> bytes:
        """Return one storage word."""
        params = [to_hex(address), hex(slot), _at(block)]
        return _bytes(await self._rpc.request("eth_getStorageAt", params)).rjust(32, b"\0")

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
    return error.code == 3 or any(word in error.message.lower() for word in words)


def _at(block: Hash | None) -> object:
    return "latest" if block is None else {"blockHash": to_hex(block)}


def _bytes(answer: object) -> bytes:
    if not isinstance(answer, str):
        raise TransientError("the node sent no data")
    try:
        return parse.blob(answer)
    except ValueError as error:
        raise TransientError("the node sent malformed data") from error
