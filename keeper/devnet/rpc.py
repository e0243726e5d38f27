"""Talk JSON-RPC to the local node over one keep-alive connection."""

import http.client
import json
from collections.abc import Sequence
from typing import Any

from keeper.errors import RpcError

Call = tuple[str, Sequence[Any]]


class Rpc:
    """Send JSON-RPC requests, one or a batch at a time. Synchronous; not for several threads."""

    def __init__(self, host: str, port: int, timeout: float = 600.0) -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=timeout)
        self._id = 0

    def __call__(self, method: str, *params: Any) -> Any:
        """Return the result of one request. Raises RpcError when the node answers with one."""
        reply = self._post(self._request(method, params))
        return _result(method, reply)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results in the order of `calls`. Raises RpcError on the first error.

        The node runs the entries of a batch concurrently: transactions need explicit nonces.
        """
        results: list[Any] = []
        for start in range(0, len(calls), 200):
            part = [self._request(*call) for call in calls[start : start + 200]]
            replies = {reply["id"]: reply for reply in self._post(part)}
            results.extend(_result(r["method"], replies[r["id"]]) for r in part)
        return results

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        self._id += 1
        return {"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(params)}

    def _post(self, body: Any) -> Any:
        payload = json.dumps(body).encode()
        try:
            return self._exchange(payload)
        except (http.client.RemoteDisconnected, BrokenPipeError):
            self._http.close()
            return self._exchange(payload)

    def _exchange(self, payload: bytes) -> Any:
        self._http.request("POST", "/", payload, {"Content-Type": "application/json"})
        return json.loads(self._http.getresponse().read())


def _result(method: str, reply: dict[str, Any]) -> Any:
    if "error" in reply:
        error = reply["error"]
        data = error.get("data")
        raw = bytes.fromhex(data[2:]) if isinstance(data, str) and data[:2] == "0x" else None
        raise RpcError(method, error.get("code", 0), error.get("message", ""), raw)
    return reply["result"]
