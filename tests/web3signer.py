"""A stand-in for web3signer in `eth1` mode: its documented wire format, and faults on demand.

Requests are HTTP POST of one JSON-RPC object to `/`; `eth_signTransaction` takes one object whose
numbers are hex strings, ignores keys it does not know (the chain id is its own setting) and answers
with the signed bytes; its errors are the ones its sources name.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from eth_utils.address import to_checksum_address


class StandInSigner:
    """Serve one key; `alter` changes a transaction before it is signed, `delay` slows every answer."""

    def __init__(self, key: bytes, chain_id: int, password: str | None = None) -> None:
        # Importing it takes seconds: not while tests are collected, nor while a signer waits.
        from eth_account import Account

        self._library = Account
        self.key = key
        self.chain_id = chain_id
        self.alter: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda asked: asked
        self.answer: Callable[[str], str] = lambda raw: raw
        self.delay = 0.0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 200
        self._password = password
        app = web.Application()
        app.router.add_post("/", self._on_post)
        self._server = TestServer(app)

    @property
    def address(self) -> str:
        """Return the account's address in lower case, as web3signer tells it."""
        return str(self._library.from_key(self.key).address).lower()

    @property
    def host(self) -> str:
        """Return host and port."""
        return f"{self._server.host}:{self._server.port}"

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.close()

    async def _on_post(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.requests.append(asked)
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.delay)
        if self.status != 200:
            return web.Response(status=self.status)
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        match asked["method"]:
            case "eth_accounts":
                body["result"] = [self.address]
            case "eth_signTransaction":
                body |= self._sign(asked["params"])
            case _:
                body["error"] = {"code": -32601, "message": "Method not found"}
        return web.json_response(body)

    def _sign(self, params: list[dict[str, Any]]) -> dict[str, Any]:
        if len(params) != 1 or "nonce" not in params[0]:
            return {"error": {"code": -32602, "message": "Invalid params"}}
        asked = params[0]
        if asked["from"] != self.address:
            text = "No unlocked account matches the Sender"
            return {"error": {"code": -32000, "message": text}}
        names = ("nonce", "gas", "value", "maxFeePerGas", "maxPriorityFeePerGas")
        transaction = {name: int(asked[name], 16) for name in names}
        to = {"to": to_checksum_address(asked["to"])} if "to" in asked else {}
        whole = {**transaction, **to, "data": asked["data"], "chainId": self.chain_id, "type": 2}
        signed = self._library.sign_transaction(dict(self.alter(whole)), self.key)
        return {"result": self.answer("0x" + bytes(signed.raw_transaction).hex())}
