"""A node's answers, kept while a tape is written and given again when it is gone through."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc
from keeper.tape.records import Asked


class TappedRpc:
    """Pass requests on, and hand each with its answer to `keep` while `is_kept`."""

    def __init__(self, rpc: Rpc, keep: Callable[[Asked], None]) -> None:
        self._rpc = rpc
        self._keep = keep
        self.is_kept = False

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; raise `RpcError` for an error answer, `TransientError` for none."""
        is_kept = self.is_kept
        try:
            answer = await self._rpc.request(method, params)
        except RpcError as error:
            if is_kept:
                self._keep(Asked(method, list(params), None, (error.code, error.message)))
            raise
        if is_kept:
            self._keep(Asked(method, list(params), msgspec.to_builtins(answer)))
        return answer


class TapedRpc:
    """Answer what was asked when the tape was written, in the same order, and nothing else."""

    def __init__(self) -> None:
        self._answers: dict[bytes, deque[Asked]] = {}

    def add(self, asked: Asked) -> None:
        """Know one more answer."""
        self._answers.setdefault(_key(asked.method, asked.params), deque()).append(asked)

    def forget(self) -> None:
        """Know nothing any more: another block has come."""
        self._answers.clear()

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the answer on the tape; raise `TransientError` when there is none."""
        found = self._answers.get(_key(method, params))
        if not found:
            raise TransientError(f"the tape holds no answer to {method}")
        # what is asked once more after all answers were given gets the last one
        asked = found.popleft() if len(found) > 1 else found[0]
        if asked.error is not None:
            raise RpcError(method, *asked.error)
        return asked.answer


def _key(method: str, params: Sequence[object]) -> bytes:
    return orjson.dumps([method, list(params)], option=orjson.OPT_SORT_KEYS)
