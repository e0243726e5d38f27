"""Wrong answers that a keeper can tell from true ones by a header, a hash or the question itself.

Not among them, because nothing in reach proves them false: logs left out of an answer for one block
asked by its hash (a bloom only excludes), part of a block's logs left out of a range, prices and
other state made up in an `eth_call`.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Answer = dict[str, Any]
Ask = Callable[..., Awaitable[Any]]

_HEADERS = ("eth_getBlockByNumber", "eth_getBlockByHash")


class Inapplicable(Exception):  # noqa: N818 - no error: the next answer may fit
    """Say that a kind of wrong answer does not fit this request."""


async def other_header(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give the parent of the block asked for by number or hash."""
    _require(asked["method"] in _HEADERS and asked["params"][0] != "latest" and result)
    return await ask("eth_getBlockByHash", result["parentHash"], False)


async def forged_header(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give the block asked for under a hash no block has."""
    _require(asked["method"] in _HEADERS and result)
    return {**result, "hash": _some_hash(rng)}


async def malformed_header(
    rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask
) -> Any:
    """Leave out what every header has, or give it in no number."""
    _require(asked["method"] in _HEADERS and result)
    key = rng.choice(["number", "hash", "parentHash", "timestamp", "gasUsed"])
    broken = {**result, key: rng.choice([None, "", "0xzz", 7])}
    if rng.random() < 0.5:
        del broken[key]
    return broken


async def foreign_log(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Move one log of an answer to a block that does not exist."""
    _require(asked["method"] == "eth_getLogs" and result)
    at = rng.randrange(len(result))
    return [*result[:at], {**result[at], "blockHash": _some_hash(rng)}, *result[at + 1 :]]


async def outside_log(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Add a log from a block that was not asked for."""
    _require(asked["method"] == "eth_getLogs" and result)
    far = {
        "blockHash": _some_hash(rng),
        "blockNumber": hex(int(result[0]["blockNumber"], 16) + 10**6),
    }
    return [*result, {**result[0], **far}]


async def repeated_log(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give one log of an answer twice."""
    _require(asked["method"] == "eth_getLogs" and result)
    return [*result, rng.choice(result)]


async def unasked_log(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Add a log of the right block that the filter excludes."""
    _require(asked["method"] == "eth_getLogs" and result)
    return [
        *result,
        {**result[-1], "address": "0x" + rng.randbytes(20).hex(), "logIndex": "0xffff"},
    ]


async def shuffled_logs(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give the logs in no order."""
    _require(asked["method"] == "eth_getLogs" and result and len(result) > 1)
    return rng.sample(result, len(result))


async def malformed_log(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Break one field of one log."""
    _require(asked["method"] == "eth_getLogs" and result)
    at = rng.randrange(len(result))
    key = rng.choice(["topics", "data", "blockHash", "logIndex", "address", "blockNumber"])
    broken = {**result[at], key: rng.choice([None, "0xzz", 7])}
    return [*result[:at], broken, *result[at + 1 :]]


async def empty_range(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Find nothing in a range of blocks, without an error: an index that lags."""
    _require(asked["method"] == "eth_getLogs" and "blockHash" not in asked["params"][0])
    return []


async def cut_call(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give the first part of what a call returns."""
    _require(asked["method"] == "eth_call" and isinstance(result, str) and len(result) > 66)
    return result[: 2 + 2 * rng.randrange(1, len(result) // 2 - 1)]


async def nothing(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give null."""
    return None


async def other_type(rng: random.Random, asked: Mapping[str, Any], result: Any, ask: Ask) -> Any:
    """Give JSON of another type."""
    return 7 if isinstance(result, str) else rng.choice(["0x", "none", 7, True])


WRONG: dict[str, Callable[[random.Random, Mapping[str, Any], Any, Ask], Awaitable[Any]]] = {
    each.__name__: each
    for each in (
        other_header,
        forged_header,
        malformed_header,
        foreign_log,
        outside_log,
        repeated_log,
        unasked_log,
        shuffled_logs,
        malformed_log,
        empty_range,
        cut_call,
        nothing,
        other_type,
    )
}


def _require(fits: object) -> None:
    if not fits:
        raise Inapplicable


def _some_hash(rng: random.Random) -> str:
    return "0x" + rng.randbytes(32).hex()
