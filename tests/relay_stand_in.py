"""A stand-in for a builder's relay: the documented wire format, over a real local node.

No relay can be had on one machine. This one checks what a real one checks (the signature over the
body, the shape of each request), holds what it was given, and puts it into the node's pool when
the test builds a block, so that the chain alone decides what happens.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from coincurve import PublicKey
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from keeper.errors import RpcError
from keeper.ports import Rpc


class RelayStandIn:
    """Hold bundles and private transactions until `build`.

    `refusing`, `silent` and `limiting` answer like a relay that is down; `ignoring` takes
    everything and never includes it; `gone` is another site; `naming` is told instead of a transaction's own hash;
    `holding` answers nothing to the bundle for one block, `refused` takes none for some;
    `unsigned` takes requests without a signature, `authorization` asks for that header.
    """

    def __init__(self, node: Rpc) -> None:
        self.unsigned = False
        self.chain_id = 31337
        self.authorization = ""
        self.taken: Counter[str] = Counter()
        self.senders: set[str] = set()
        self.refusing = ""
        self.silent = False
        self.limiting = False
        self.ignoring = False
        self.gone = False
        self.naming = ""
        self.holding = 0
        self.refused: set[int] = set()
        self._node = node
        self._bundles: dict[tuple[str, int], list[str]] = {}
        self._private: dict[str, tuple[str, int]] = {}
        self._shared: dict[str, tuple[list[dict[str, Any]], int, int]] = {}
        self.pending: dict[str, str] = {}
        """What a hash in a shared bundle stands for."""
        self.privacy: dict[str, Any] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_sendBundle": self._send_bundle,
            "mev_sendBundle": self._send_shared,
            "eth_cancelBundle": self._cancel_bundle,
            "eth_sendPrivateTransaction": self._send_private,
            "eth_sendPrivateRawTransaction": self._send_raw,
            "eth_cancelPrivateTransaction": self._cancel_private,
        }
        app = web.Application()
        app.router.add_post("/{path:.*}", self._serve)
        self._server = TestServer(app)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._server.close()

    @property
    def url(self) -> str:
        """Return where it listens."""
        return str(self._server.make_url("/"))

    @property
    def held(self) -> int:
        """Return how many transactions and bundles it holds."""
        return len(self._bundles) + len(self._private) + len(self._shared)

    async def build(self, block: int) -> int:
        """Put what is meant for a block into the pool; return how many the node took."""
        due = [txs for (_, number), txs in self._bundles.items() if number == block]
        due += [
            [each.get("tx") or self.pending[each["hash"]] for each in body]
            for body, first, last in self._shared.values()
            if first <= block <= last
            and all("tx" in each or each["hash"] in self.pending for each in body)
        ]
        self._shared = {name: held for name, held in self._shared.items() if held[2] > block}
        due += [[tx] for tx, last in self._private.values() if block <= last]
        self._bundles = {key: txs for key, txs in self._bundles.items() if key[1] > block}
        placed = 0
        for raw in [] if self.ignoring else [tx for txs in due for tx in txs]:
            try:
                await self._node.request("eth_sendRawTransaction", [raw])
            except RpcError:
                continue  # a builder leaves out what cannot be included
            placed += 1
        return placed

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.silent:
            await self._stopping.wait()
        if self.gone:
            return web.Response(status=404, text="not here")
        if self.limiting:
            return web.Response(status=429, headers={"Retry-After": "1"})
        asked = orjson.loads(body)
        if not isinstance(asked, dict):
            return _error(None, -32600, "batches are not served")
        number, method = asked.get("id"), asked.get("method")
        if request.headers.get("Authorization", "") != self.authorization:
            return web.Response(status=401)
        header = request.headers.get("X-Flashbots-Signature", "")
        who = _signer(header, body)
        if who is None and (header or not self.unsigned):
            return web.json_response({"error": "invalid flashbots signature"}, status=403)
        if who is not None:
            self.senders.add(who)
        if self.refusing:
            return _error(number, -32000, self.refusing)
        if method == "eth_chainId":
            return web.json_response({"jsonrpc": "2.0", "id": number, "result": hex(self.chain_id)})
        if method not in self._methods:
            return _error(number, -32601, f"the method {method} does not exist")
        if method == "eth_sendBundle" and asked["params"][0]["blockNumber"] == hex(self.holding):
            await self._stopping.wait()
        try:
            result = self._methods[method](*asked["params"])
        except (KeyError, TypeError, ValueError) as error:
            return _error(number, -32602, f"invalid params: {error}")
        self.taken[method] += 1
        return web.json_response({"jsonrpc": "2.0", "id": number, "result": result})

    def _send_bundle(self, wish: dict[str, Any]) -> dict[str, str]:
        known = {
            "txs",
            "blockNumber",
            "minTimestamp",
            "maxTimestamp",
            "revertingTxHashes",
            "replacementUuid",
            "builders",
        }
        _only(wish, known)
        txs = [_raw(tx) for tx in wish["txs"]]
        if not 1 <= len(txs) <= 100:
            raise ValueError("a bundle holds 1 to 100 transactions")
        if (block := _quantity(wish["blockNumber"])) in self.refused:
            raise ValueError(f"nothing for block {block}")
        digest = keccak(b"".join(keccak(bytes.fromhex(tx[2:])) for tx in txs)).hex()
        name = wish.get("replacementUuid") or digest
        self._bundles[name, block] = txs
        return {"bundleHash": "0x" + digest}

    def _send_shared(self, wish: dict[str, Any]) -> dict[str, str]:
        _only(wish, {"version", "inclusion", "body", "validity", "privacy", "metadata"})
        if wish["version"] != "v0.1":
            raise ValueError("version is v0.1")
        _only(wish["inclusion"], {"block", "maxBlock"})
        first = _quantity(wish["inclusion"]["block"])
        last = _quantity(wish["inclusion"].get("maxBlock", hex(first)))
        if not first <= last <= first + 30:
            raise ValueError("a bundle is for 1 to 30 blocks")
        for each in wish["body"]:
            if set(each) == {"hash"}:
                if len(bytes.fromhex(each["hash"].removeprefix("0x"))) != 32:
                    raise ValueError("a hash has 32 bytes")
            elif set(each) == {"tx", "canRevert"} and isinstance(each["canRevert"], bool):
                _raw(each["tx"])
            else:
                raise ValueError("a part of the body is a hash, or a tx and canRevert")
        if not wish["body"] or "tx" not in wish["body"][-1]:
            raise ValueError("the last part is the searcher's own")
        privacy = wish.get("privacy", {})
        _only(privacy, {"hints", "builders"})
        known = {"calldata", "contract_address", "logs", "function_selector", "hash", "tx_hash"}
        if unknown := set(privacy.get("hints", ())) - known - {"full"}:
            raise ValueError(f"unknown hint {min(unknown)}")
        self.privacy = privacy
        digest = "0x" + keccak(orjson.dumps(wish["body"])).hex()
        self._shared[digest] = wish["body"], first, last
        return {"bundleHash": digest}

    def _cancel_bundle(self, wish: dict[str, Any]) -> None:
        _only(wish, {"replacementUuid"})
        name = wish["replacementUuid"]
        self._bundles = {key: txs for key, txs in self._bundles.items() if key[0] != name}

    def _send_private(self, wish: dict[str, Any]) -> str:
        _only(wish, {"tx", "maxBlockNumber", "preferences"})
        last = _quantity(wish["maxBlockNumber"]) if "maxBlockNumber" in wish else 2**63
        return self._keep(_raw(wish["tx"]), last)

    def _send_raw(self, tx: str, preferences: object = None) -> str:
        del preferences
        return self._keep(_raw(tx), 2**63)

    def _cancel_private(self, wish: dict[str, Any]) -> bool:
        _only(wish, {"txHash"})
        return self._private.pop(wish["txHash"], None) is not None

    def _keep(self, tx: str, last: int) -> str:
        name = "0x" + keccak(bytes.fromhex(tx[2:])).hex()
        self._private[name] = tx, last
        return self.naming or name


def _signer(header: str, body: bytes) -> str | None:
    """Return whose signature the header is, None when it is not one of this body."""
    address, _, signature = header.partition(":")
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        text = b"0x" + keccak(body).hex().encode()
        digest = keccak(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)
        compact = raw[:64] + bytes([raw[64] - 27])
        public = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except (ValueError, IndexError):
        return None
    found = to_checksum_address(keccak(public.format(compressed=False)[1:])[12:])
    return found if found == address else None


def _only(wish: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(wish) - known):
        raise ValueError(f"unknown field {unknown[0]}")


def _quantity(text: str) -> int:
    if not text.startswith("0x"):
        raise ValueError(f"{text} is no quantity")
    return int(text, 16)


def _raw(text: str) -> str:
    bytes.fromhex(text.removeprefix("0x"))
    if not text.startswith("0x"):
        raise ValueError("a transaction is 0x-prefixed")
    return text


def _error(number: object, code: int, text: str) -> web.Response:
    error = {"code": code, "message": text}
    return web.json_response({"jsonrpc": "2.0", "id": number, "error": error})
