"""Another branch of the chain, as a node that stands on it would tell of it.

From its first block on, every block holds the logs and the state of its true predecessor: other
hashes, other contents, and consistent in itself, as if the whole chain were one block late.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from eth_hash.auto import keccak

Ask = Callable[..., Awaitable[Any]]

_NO_BLOOM = "0x" + "00" * 256
_UNKNOWN = {"code": -32000, "message": "unknown block"}


class Branch:
    """Rewrite what a node tells of blocks from `first` on; `ask` asks the true node."""

    def __init__(self, ask: Ask, first: int, salt: bytes) -> None:
        self._ask = ask
        self._first = first
        self._salt = salt
        self._true: dict[str, str] = {}

    async def answer(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request, None where the branch tells what the node tells."""
        method, params = asked["method"], asked["params"]
        match method:
            case "eth_getBlockByNumber" | "eth_getBlockByHash":
                told = {"result": await self._block(method, params[0])}
            case "eth_getLogs":
                told = await self._logs(params[0])
            case _ if params and isinstance(params[-1], dict) and "blockHash" in params[-1]:
                told = await self._state(method, params)
            case _:
                return None
        return {"jsonrpc": "2.0", "id": asked["id"], **told}

    async def announcement(self, text: str) -> str:
        """Return a head's notification as the branch would send it."""
        message = orjson.loads(text)
        params = message["params"]
        params["result"] = await self._header(params["result"])
        return orjson.dumps(message).decode()

    async def _block(self, method: str, which: str) -> Any:
        if method == "eth_getBlockByHash":
            true = self._true.get(which)
            header = await self._ask(method, true or which, False)
            if header is None or (true is None and int(header["number"], 16) >= self._first):
                return None
        else:
            header = await self._ask(method, which, False)
        return None if header is None else await self._header(header)

    async def _header(self, header: dict[str, Any]) -> dict[str, Any]:
        number = int(header["number"], 16)
        if number < self._first:
            return header
        parent, bloom = header["parentHash"], _NO_BLOOM
        if number > self._first:
            before = await self._ask("eth_getBlockByHash", parent, False)
            bloom = _NO_BLOOM if before is None else before["logsBloom"]
            parent = self._forged(parent)
        return {
            **header,
            "hash": self._forged(header["hash"]),
            "parentHash": parent,
            "logsBloom": bloom,
        }

    async def _logs(self, query: dict[str, Any]) -> dict[str, Any]:
        if "blockHash" not in query:
            return {"result": await self._range(query)}
        block = query["blockHash"]
        header = await self._ask("eth_getBlockByHash", self._true.get(block, block), False)
        if header is None:
            return {"error": _UNKNOWN}
        number = int(header["number"], 16)
        if number < self._first:
            return {"result": await self._ask("eth_getLogs", query)}
        if block not in self._true:
            return {"error": _UNKNOWN}
        if number == self._first:
            return {"result": []}
        logs = await self._ask("eth_getLogs", {**query, "blockHash": header["parentHash"]})
        here = {"blockHash": block, "blockNumber": hex(number)}
        return {"result": [{**log, **here} for log in logs]}

    async def _range(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        tip = int(await self._ask("eth_blockNumber"), 16)
        true = {"fromBlock": hex(min(first, self._first)), "toBlock": hex(min(last, tip))}
        found = []
        for log in await self._ask("eth_getLogs", {**query, **true}) or []:
            number = int(log["blockNumber"], 16)
            if number < self._first:
                found += [log] * (number >= first)
            elif first <= number + 1 <= min(last, tip):
                header = await self._ask("eth_getBlockByNumber", hex(number + 1), False)
                here = {"blockHash": self._forged(header["hash"]), "blockNumber": hex(number + 1)}
                found.append({**log, **here})
        return found

    async def _state(self, method: str, params: list[Any]) -> dict[str, Any]:
        block = params[-1]["blockHash"]
        header = await self._ask("eth_getBlockByHash", self._true.get(block, block), False)
        forged = block in self._true
        if header is None or (not forged and int(header["number"], 16) >= self._first):
            return {"error": _UNKNOWN}
        at = header["parentHash"] if forged else block
        return {"result": await self._ask(method, *params[:-1], {"blockHash": at})}

    def _forged(self, true: str) -> str:
        forged = "0x" + keccak(self._salt + bytes.fromhex(true[2:])).hex()
        self._true[forged] = true
        return forged
