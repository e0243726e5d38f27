"""Logs of many blocks in ranges that fit the provider: halved when refused, grown when not."""

from keeper.chain import bloom
from keeper.chain.blocks import fetch_logs
from keeper.chain.jsonrpc import SlowError
from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import Log, Watch

_METHOD_NOT_FOUND = -32601
_FORGET_AFTER = 32
_SLOW_CUT = 8  # a time-out costs seconds: find a span that fits in few steps


class LogRanges:
    """Ask for logs by number; the span that fits is remembered from one call to the next.

    Providers word their limits in too many ways to list, so any refusal of more than one block
    is met with half the span; what one block alone refuses is raised.
    """

    def __init__(self, rpc: Rpc, *, span: int = 2_000, most: int = 100_000) -> None:
        self._rpc = rpc
        self._span = span
        self._most = most
        self._refused = most + 1
        self._accepted = 0

    @property
    def span(self) -> int:
        """Return how many blocks the next request asks for at most."""
        return self._span

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        """Return the matching logs of an inclusive range in chain order."""
        found: list[Log] = []
        if bloom.matches_nothing(watch):
            return found
        while first <= last:
            end = min(first + self._span - 1, last)
            size = end - first + 1
            where = {"fromBlock": hex(first), "toBlock": hex(end)}
            try:
                logs = await fetch_logs(self._rpc, watch, where)
            except RpcError as error:
                if size == 1 or error.code == _METHOD_NOT_FOUND:
                    raise
                self._shrink(size, size // 2)
                continue
            except SlowError:
                if size == 1:
                    raise
                self._shrink(size, size // _SLOW_CUT)
                continue
            if any(not first <= log.block_number <= end for log in logs):
                raise TransientError("the node sent logs from outside the range asked for")
            found += logs
            if size == self._span:
                self._grow()
            first = end + 1
        return found

    def _shrink(self, refused: int, span: int) -> None:
        self._refused = refused
        self._span = max(span, 1)
        self._accepted = 0

    def _grow(self) -> None:
        self._accepted += 1
        if self._accepted % _FORGET_AFTER == 0:
            self._refused = min(self._refused * 2, self._most + 1)
        self._span = max(self._span, min(self._span * 2, self._refused - 1, self._most))
