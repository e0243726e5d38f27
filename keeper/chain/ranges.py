"""Logs of many blocks in ranges that fit the provider: halved when refused, grown when not."""

from collections.abc import AsyncIterator

from keeper.chain import bloom
from keeper.chain.answers import Kind, kind_of_error
from keeper.chain.blocks import fetch_logs, in_order
from keeper.chain.jsonrpc import SlowError
from keeper.chain.span import Span
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import Log, Watch

_METHOD_NOT_FOUND = -32601
_SLOW_CUT = 8
"""Parts a range is cut into that took too long: a time-out costs seconds."""


class LogRanges:
    """Ask for logs by number; the span that fits is remembered from one call to the next."""

    def __init__(self, rpc: Rpc, *, span: int = 2_000, most: int = 100_000) -> None:
        self._rpc = rpc
        self._span = Span(span, most)

    @property
    def span(self) -> int:
        """Return how many blocks the next request should ask for at most."""
        return self._span.blocks

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        """Return the matching logs of an inclusive range in chain order.

        What one block alone refuses is raised; `ConfigError` when the node has dropped the logs.
        """
        found: list[Log] = []
        async for answers in self.answers(watch, first, last):
            found += in_order(answers)
        return found

    async def answers(self, watch: Watch, first: int, last: int) -> AsyncIterator[list[list[Log]]]:
        """Yield what `logs` returns part by part, the logs of each request by themselves."""
        if bloom.matches_nothing(watch):
            return
        while first <= last:
            end = min(first + self.span - 1, last)
            answers = await self._ask(watch, first, end)
            if answers is not None:
                yield answers
                first = end + 1

    async def part(self, watch: Watch, first: int, last: int) -> list[Log] | None:
        """Return the logs of one range asked for at once; None when it has to be cut first."""
        answers = await self._ask(watch, first, last)
        return None if answers is None else in_order(answers)

    async def _ask(self, watch: Watch, first: int, last: int) -> list[list[Log]] | None:
        size = last - first + 1
        where = {"fromBlock": hex(first), "toBlock": hex(last)}
        try:
            answers = await fetch_logs(self._rpc, watch, where)
        except RpcError as error:
            if kind_of_error(error) is Kind.DROPPED:
                raise ConfigError(
                    f"the node does not hold the logs of block {first} any more ({error.message})",
                    "use a node with the full history, or set first_block to the pool's first block",
                ) from None
            if size == 1 or error.code == _METHOD_NOT_FOUND:
                raise
            self._span.refuse(size)
            return None
        except SlowError:
            if size == 1:
                raise
            self._span.refuse(size, _SLOW_CUT)
            return None
        if any(not first <= log.block_number <= last for logs in answers for log in logs):
            raise TransientError("the node sent logs from outside the range asked for")
        self._span.accept(size)
        return answers
