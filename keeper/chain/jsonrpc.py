"""JSON-RPC 2.0 messages: which method may be repeated, and what an answer means."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from keeper.chain import entries
from keeper.errors import RpcError, TransientError

_REPEATABLE = re.compile(
    r"eth_(get(?!Filter)|call|chainId|blockNumber|simulateV1|estimateGas|feeHistory|gasPrice"
    r"|maxPriorityFeePerGas|blobBaseFee|createAccessList|syncing|accounts)"
    r"|net_|web3_|txpool_|debug_trace|trace_"
)
_LIMITED = re.compile(
    r"rate.?limit|rate (is )?exceeded|too many (requests|concurrent)|requests? per second"
    r"|(/|per )second (request )?limit|request (count|limit) (is )?(exceeded|reached)|compute units"
    r"|capacity|throughput|quota",
    re.IGNORECASE,
)
_LIMIT_CODES = frozenset({429, -32007, -32029, -32097})
_LIMIT_EXCEEDED = -32005
"""EIP-1474; `eth_getLogs` is answered so when a range is too long, which is no rate."""
_AGAIN = re.compile(
    r"(?:try|retry)(?: again)?(?: in| after):? *(\d+(?:\.\d+)?) *(ms|milliseconds?|m|min|minutes?)?(?![a-z])",
    re.IGNORECASE,
)
_SECONDS = {"ms": 0.001, "mi": 60.0, "m": 60.0}


class LimitedError(TransientError):
    """Report that the node asked us to slow down, for `wait` seconds when it said so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class SlowError(TransientError):
    """Report that no answer came in time: the node is gone, or was asked too much at once."""


def is_repeatable(method: str) -> bool:
    """Tell whether asking twice does the same as asking once; false for whatever is unknown."""
    return _REPEATABLE.match(method) is not None


def message(number: int, method: str, params: Sequence[object]) -> bytes:
    """Return one request as JSON."""
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
    return orjson.dumps(body)


def decode(text: bytes | str, *, is_logs: bool = False) -> Mapping[str, Any]:
    """Parse one message; raise `TransientError` when it is no JSON object.

    With `is_logs` the result may be a list of `Entry`: where it is one, that takes half the time.
    """
    if is_logs and (found := entries.answer(text)) is not None:
        return found
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise TransientError("the node sent no JSON") from error
    if not isinstance(parsed, dict):
        raise TransientError("the node sent no JSON-RPC object")
    return parsed


def result(
    method: str, answer: Mapping[str, Any], redact: Callable[[str], str] = lambda text: text
) -> Any:
    """Return an answer's result; raise `RpcError` for an error, `LimitedError` for a rate limit.

    `redact` takes secrets out of the node's text: some quote the key they were given.
    """
    error = answer.get("error")
    if error is None:
        if "result" not in answer:
            raise TransientError(f"{method}: the answer holds neither result nor error")
        return answer["result"]
    if not isinstance(error, dict):
        raise RpcError(method, -32603, redact(str(error)))
    code = error.get("code")
    code = code if isinstance(code, int) else -32603
    text = redact(str(error.get("message", "")))
    if code in _LIMIT_CODES or (code != 3 and _LIMITED.search(text)) or _is_rate(method, code):
        raise LimitedError(f"{method}: {text} (code {code})", _wait(text, error.get("data")))
    raise RpcError(method, code, text, revert_data(error.get("data")))


def _is_rate(method: str, code: int) -> bool:
    return code == _LIMIT_EXCEEDED and method != "eth_getLogs"


def _wait(text: str, data: object) -> float | None:
    """Find the seconds to wait in a rate limit's text, or in the data Infura sends with it."""
    rate = data.get("rate", data) if isinstance(data, dict) else None
    told = rate.get("backoff_seconds") if isinstance(rate, dict) else None
    if isinstance(told, int | float) and not isinstance(told, bool):
        return float(told)
    if (found := _AGAIN.search(text)) is None:
        return None
    number, unit = float(found[1]), (found[2] or "").lower()
    if unit.startswith("milli"):
        unit = "ms"
    return number * _SECONDS.get(unit[:2], 1.0)


def revert_data(data: object) -> bytes | None:
    """Find revert bytes in an error's `data`: plain hex, nested, or after a word (Nethermind)."""
    if isinstance(data, dict):
        return revert_data(data.get("data", data.get("result")))
    if not isinstance(data, str):
        return None
    _, prefix, digits = data.partition("0x")
    if not prefix:
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None
