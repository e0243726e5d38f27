"""A server that stands in for an aggregator: it speaks the documented format, and sells on V2 pairs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from keeper.devnet import Devnet
from keeper.devnet.rpc import Rpc
from keeper.units import Address
from tests.exchanges.uniswap_v2 import FAR_FUTURE, SELL, deploy_exchange

SELECTOR = keccak(text=SELL)[:4]
QUOTE = keccak(text="getAmountsOut(uint256,address[])")[:4]
KEY_HEADER = "x-stand-in-key"
URL = (
    "http://127.0.0.1:{port}/swap?chainId={{chain_id}}&sellToken={{sell}}&buyToken={{buy}}"
    "&sellAmount={{amount}}&taker={{taker}}&slippageBps={{slippage_bps}}"
)


class AggregatorStandIn:
    """Answer quotes for a real Uniswap V2 pair of its own; `mode` says how it misbehaves."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        # It answers beside the test's thread, on a connection of its own.
        host, port = net.rpc_url.removeprefix("http://").split(":")
        self._rpc = Rpc(host, int(port))
        self.exchange = deploy_exchange(net)
        self.exchange.open("WETH", "USDC", 5 * 10**6)
        self.mode = ""
        self.asked: list[dict[str, str]] = []
        self.keys: list[str] = []
        self.url = ""
        self.release = asyncio.Event()

    @property
    def router(self) -> Address:
        return self.exchange.router

    def drain(self) -> None:
        """Have somebody sell so much to the pair that no earlier offer holds any more."""
        amount = 2_000 * 10**18
        self.net.give("WETH", self.net.users[2].address, amount)
        self.exchange.approve("WETH", self.net.users[2].address)
        path = [self.net.tokens[each].address for each in ("WETH", "USDC")]
        to = self.net.users[2].address
        self.net.send(to, self.router, SELL, [amount, 0, path, to, FAR_FUTURE])

    def close(self) -> None:
        """Let go of the node."""
        self._rpc.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["AggregatorStandIn"]:
        """Serve on a free port."""
        app = web.Application()
        app.router.add_get("/swap", self._swap)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server: Any = site._server
        self.url = URL.format(port=server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            self.release.set()
            await runner.cleanup()
            self.close()

    async def _swap(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        self.asked.append(query)
        self.keys.append(request.headers.get(KEY_HEADER, ""))
        if self.mode == "late":
            await self.release.wait()
        if self.mode == "down":
            return web.Response(status=503, text="try later")
        if self.mode == "moved":
            raise web.HTTPFound("/elsewhere")
        if self.mode == "garbage":
            return web.Response(text="<html>")
        if self.mode == "endless":
            return web.Response(body=b" " * (1 << 18))
        if self.mode == "array":
            return web.json_response([1, 2])
        return web.json_response(self._offer(query))

    def _offer(self, query: dict[str, str]) -> dict[str, Any]:
        sold, bought = (bytes.fromhex(query[name][2:]) for name in ("sellToken", "buyToken"))
        taker, amount = bytes.fromhex(query["taker"][2:]), int(query["sellAmount"])
        asked = [amount, [sold, bought]]
        question = QUOTE + encode(["uint256", "address[]"], asked)
        request = {"to": "0x" + self.router.hex(), "data": "0x" + question.hex()}
        out = int(self._rpc("eth_call", request, "latest")[-64:], 16)
        least = out * (10_000 - int(query["slippageBps"])) // 10_000
        taken = amount // 2 if self.mode == "half" else amount
        to = self.net.users[1].address if self.mode == "thief" else taker
        types = ["uint256", "uint256", "address[]", "address", "uint256"]
        data = SELECTOR + encode(types, [taken, 0, [sold, bought], to, FAR_FUTURE])
        answer = {
            "sellAmount": str(amount),
            "buyAmount": str(out),
            "minBuyAmount": str(least),
            "transaction": {
                "to": "0x" + self.router.hex(),
                "data": "0x" + data.hex(),
                "value": "0",
            },
        }
        transaction: Any = answer["transaction"]
        match self.mode:
            case "liar":
                answer["minBuyAmount"] = str(out * 2)
            case "target":
                transaction["to"] = "0x" + sold.hex()
            case "selector":
                transaction["data"] = "0x095ea7b3" + data[4:].hex()
            case "value":
                transaction["value"] = "0x1"
            case "amount":
                answer["sellAmount"] = str(amount + 1)
            case "nothing":
                answer["minBuyAmount"] = "0"
            case "decimals":
                answer["minBuyAmount"] = "12.5"
            case "fieldless":
                del transaction["data"]
            case "huge":
                transaction["data"] += "00" * 5000
        return answer
