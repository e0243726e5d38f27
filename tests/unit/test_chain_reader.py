"""Reads at a block's hash: chunked, halved when refused, ranges adapted to the provider."""

from collections.abc import Sequence
from typing import Any

import pytest
from eth_abi.abi import decode, encode

from keeper.chain.jsonrpc import SlowError
from keeper.chain.ranges import LogRanges
from keeper.chain.reader import ChainReader
from keeper.errors import ConfigError, RpcError, StateGoneError, TransientError
from keeper.types import Call, CallResult, Watch
from keeper.units import Address, Hash
from tests.fake_chain import OTHER_TOPIC, TOPIC, FakeChain, address

BLOCK = Hash(b"\x11" * 32)
WATCH = Watch(frozenset({address(1), address(2)}), frozenset({TOPIC}))


class MulticallNode:
    """Answers each call with its own calldata, fails those that begin with 0xff."""

    def __init__(self, most: int = 10_000) -> None:
        self.sizes: list[int] = []
        self.blocks: list[object] = []
        self._most = most

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        if method == "eth_getBlockByNumber":
            return await FakeChain().request(method, params)
        calldata = bytes.fromhex(params[0]["data"][10:])
        calls = decode(["(address,bool,bytes)[]"], calldata)[0]
        self.sizes.append(len(calls))
        self.blocks.append(params[1])
        if len(calls) > self._most:
            raise RpcError(method, -32000, "out of gas")
        results = [(not data.startswith(b"\xff"), data) for _, _, data in calls]
        return "0x" + encode(["(bool,bytes)[]"], [results]).hex()


def calls(count: int) -> list[Call]:
    return [Call(Address(bytes(20)), i.to_bytes(4, "big")) for i in range(count)]


async def test_results_come_in_the_order_of_the_calls_over_all_chunks() -> None:
    node = MulticallNode()
    reader = ChainReader(node, calls_per_request=30)
    results = await reader.multicall(calls(100), BLOCK)
    assert [int.from_bytes(each.data, "big") for each in results] == list(range(100))
    assert sorted(node.sizes) == [10, 30, 30, 30]
    assert node.blocks == [{"blockHash": "0x" + "11" * 32}] * 4


async def test_chunks_without_a_block_are_all_read_at_one_hash() -> None:
    node = MulticallNode()
    await ChainReader(node, calls_per_request=30).multicall(calls(100))
    assert len(node.blocks) == 4
    assert all(block == node.blocks[0] and block != "latest" for block in node.blocks)


async def test_a_refused_multicall_is_halved_until_it_fits() -> None:
    node = MulticallNode(most=20)
    results = await ChainReader(node).multicall(calls(100), BLOCK)
    assert [int.from_bytes(each.data, "big") for each in results] == list(range(100))


async def test_a_failed_call_fails_alone() -> None:
    batch = [*calls(2), Call(Address(bytes(20)), b"\xff\xee")]
    results = await ChainReader(MulticallNode()).multicall(batch, BLOCK)
    assert [each.ok for each in results] == [True, True, False]
    assert results[2] == CallResult(ok=False, data=b"\xff\xee")


async def test_an_address_without_multicall_is_the_operators_error() -> None:
    class Nothing:
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            return "0x"

    with pytest.raises(ConfigError, match="no Multicall3"):
        await ChainReader(Nothing()).multicall(calls(1), BLOCK)


@pytest.mark.parametrize(
    ("error", "is_gone"),
    [
        (RpcError("eth_call", -32000, "missing trie node ab"), True),
        (RpcError("eth_call", -32001, "0x" + "11" * 32 + " could not be found"), True),
        (RpcError("eth_call", -32002, "No state available for block 17 (0x1111)"), True),
        (RpcError("eth_call", -32000, "state at block #17 is pruned"), True),
        (RpcError("eth_call", 3, "execution reverted: state at block #17 is pruned"), False),
        (RpcError("eth_call", -32000, "out of gas"), False),
    ],
)
async def test_a_state_the_node_does_not_hold_is_told_from_a_call_that_fails(
    error: RpcError, is_gone: bool
) -> None:
    class Without:
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            raise error

    with pytest.raises(StateGoneError if is_gone else RpcError):
        await ChainReader(Without()).call(calls(1)[0], BLOCK)
    with pytest.raises(RpcError):
        await ChainReader(Without()).call(calls(1)[0])


async def test_a_missing_block_is_an_error() -> None:
    with pytest.raises(TransientError, match="does not know block"):
        await ChainReader(FakeChain()).head(99)


def grown(blocks: int) -> FakeChain:
    chain = FakeChain()
    for number in range(blocks):
        chain.mine(*[address(1 + number % 3)] * (number % 4))
        chain.mine(address(1), topic=OTHER_TOPIC)
    return chain


@pytest.mark.parametrize("cap", [None, 1, 7, 100])
async def test_every_log_is_found_once_and_in_order_under_any_cap(cap: int | None) -> None:
    chain = grown(100)
    chain.range_cap = cap
    last = chain.head.number
    expected = [log.at(0) for number in range(last + 1) for log in chain.logs(number, WATCH)]
    assert len(expected) > 50
    assert await LogRanges(chain, span=64).logs(WATCH, 0, last) == expected


async def test_the_span_halves_when_refused_and_grows_back() -> None:
    chain = grown(500)
    chain.range_cap = 20
    ranges = LogRanges(chain, span=160)
    await ranges.logs(WATCH, 0, 400)
    assert 10 <= ranges.span <= 20
    refusals = chain.requests["eth_getLogs"]
    assert refusals <= 400 // 10 + 8
    chain.range_cap = None
    for _ in range(20):
        await ranges.logs(WATCH, 0, 1000)
    assert ranges.span > 20


async def test_a_slow_range_is_cut() -> None:
    chain = grown(20)

    def slow(method: str, params: Sequence[Any]) -> object:
        query = params[0]
        if int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= 10:
            raise SlowError("no answer")
        return None

    chain.answering = slow
    logs = await LogRanges(chain, span=1000).logs(WATCH, 0, 40)
    assert logs == [log.at(0) for number in range(41) for log in chain.logs(number, WATCH)]


async def test_what_one_block_refuses_is_raised() -> None:
    chain = grown(4)
    chain.range_cap = 0
    with pytest.raises(RpcError, match="too large"):
        await LogRanges(chain).logs(WATCH, 0, 8)


async def test_an_unknown_method_is_asked_once() -> None:
    chain = grown(4)

    def refuse(method: str, params: Sequence[Any]) -> object:
        raise RpcError(method, -32601, "method not found")

    chain.answering = refuse
    with pytest.raises(RpcError):
        await LogRanges(chain).logs(WATCH, 0, 8)
    assert chain.requests["eth_getLogs"] == 1


async def test_nothing_watched_costs_nothing() -> None:
    chain = grown(4)
    assert await LogRanges(chain).logs(Watch(frozenset(), frozenset({TOPIC})), 0, 8) == []
    assert not chain.requests


async def test_a_long_address_list_is_asked_in_parts_and_merged_in_order() -> None:
    chain = FakeChain()
    watch = Watch(frozenset(address(n) for n in range(2500)), frozenset({TOPIC}))
    chain.mine(*[address(n) for n in range(2499, 0, -7)])
    logs = await LogRanges(chain).logs(watch, 1, 1)
    assert logs == [log.at(0) for log in chain.logs(1, watch)]
    assert chain.requests["eth_getLogs"] == 3
