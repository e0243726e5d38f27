"""Long rows of calls at one block: in order, bounded, begun again when the node drops the state."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from structlog.testing import capture_logs

from keeper.app.loading import TRIES, load_at_newest
from keeper.chain.patience import Patience
from keeper.chain.reader import ChainReader
from keeper.chain.sweep import Sweep
from keeper.errors import (
    ConfigError,
    IncompleteError,
    RpcError,
    StateGoneError,
    TransientError,
)
from keeper.types import Call, CallResult, Head
from keeper.units import Address, Hash
from tests.fake_chain import FakeChain

TARGET = Address(bytes(20))


class Pruning(FakeChain):
    """Answers each call with its own data, at the last `kept` blocks alone; mines as it is read."""

    def __init__(self, kept: int, reads_per_block: int) -> None:
        super().__init__()
        self.kept = kept
        self.reads_per_block = reads_per_block
        self.reads = 0
        self.in_flight = self.most_in_flight = 0
        self.gone = "missing trie node 9c1f (path ) state 0x12 is not available"

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        if method != "eth_call":
            return await super().request(method, params)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        self.reads += 1
        if self.reads % self.reads_per_block == 0:
            self.mine()
        number = int(self._known[params[1]["blockHash"]][0]["number"], 16)
        if number <= self.head.number - self.kept:
            raise RpcError(method, -32000, self.gone)
        calls = decode(["(address,bool,bytes)[]"], bytes.fromhex(params[0]["data"][10:]))[0]
        return "0x" + encode(["(bool,bytes)[]"], [[(True, data) for _, _, data in calls]]).hex()


def calls(count: int) -> list[Call]:
    return [Call(TARGET, number.to_bytes(4, "big")) for number in range(count)]


async def sweep(reader: ChainReader, head: Head, count: int) -> list[int]:
    got: list[int] = []

    def take(results: Sequence[CallResult]) -> None:
        got.extend(int.from_bytes(each.data, "big") for each in results)

    await reader.sweep("holders of main", iter(calls(count)), count, head.hash, take)
    return got


async def test_results_come_in_order_with_a_bounded_number_in_flight() -> None:
    chain = Pruning(kept=1000, reads_per_block=1000)
    reader = ChainReader(chain, calls_per_request=7)
    assert await sweep(reader, chain.head, 500) == list(range(500))
    assert 1 < chain.most_in_flight <= 8
    assert chain.reads == -(-500 // 7)


async def test_calls_are_made_as_they_are_needed() -> None:
    made = taken = most = 0

    def row() -> Any:
        nonlocal made, most
        for call in calls(1_000):
            made += 1
            most = max(most, made - taken)
            yield call

    async def ask(portion: Sequence[Call]) -> list[CallResult]:
        await asyncio.sleep(0)
        return [CallResult(ok=True, data=call.data) for call in portion]

    def take(results: Sequence[CallResult]) -> None:
        nonlocal taken
        taken += len(results)

    class Unseen:
        def report(self, stage: str, unit: str, done: int, total: int) -> None:
            assert done <= total

    await Sweep(Unseen(), size=10, in_flight=3).run("x", ask, row(), 1_000, take)
    assert taken == 1_000
    assert most <= 3 * 10


async def test_a_portion_without_an_answer_is_asked_again() -> None:
    rng = random.Random(5)

    async def ask(portion: Sequence[Call]) -> list[CallResult]:
        await asyncio.sleep(0)
        if rng.random() < 0.4:
            raise TransientError("lost")
        return [CallResult(ok=True, data=call.data) for call in portion]

    got: list[bytes] = []

    class Unseen:
        def report(self, stage: str, unit: str, done: int, total: int) -> None:
            pass

    made = Sweep(Unseen(), size=10, patience=lambda: Patience(shortest_pause=0.001))
    await made.run("x", ask, calls(300), 300, lambda rs: got.extend(r.data for r in rs))
    assert got == [call.data for call in calls(300)]


@pytest.mark.parametrize(
    "gone",
    [
        "missing trie node 9c1f (path ) state 0x12 is not available",
        "header not found",
        "state at block #5 is not available",
    ],
)
async def test_a_dropped_state_begins_again_at_a_newer_head(gone: str) -> None:
    chain = Pruning(kept=4, reads_per_block=10)
    chain.gone = gone
    reader = ChainReader(chain, calls_per_request=1)
    got: list[int] = []

    async def load(head: Head, _: Head) -> None:
        got[:] = await sweep(reader, head, 60)

    first = chain.head
    with capture_logs() as lines:
        with pytest.raises(TransientError, match="drops the state of a block before") as raised:
            await load_at_newest("ethereum", reader, load)
        assert "use an archive node" in str(raised.value)
        assert "\n" not in str(raised.value)
        chain.reads_per_block = 40
        head = await load_at_newest("ethereum", reader, load)
    assert got == list(range(60))
    assert head.number > first.number
    told = [line for line in lines if line["event"] == "bootstrap.restarted"]
    assert len(told) == TRIES
    assert [line["attempt"] for line in told] == list(range(1, TRIES + 1))
    assert "does not hold the state" in told[0]["reason"]
    assert chain.in_flight == 0


async def test_old_state_is_one_clear_line() -> None:
    chain = Pruning(kept=4, reads_per_block=10**9)
    old = chain.head
    for _ in range(10):
        chain.mine()
    reader = ChainReader(chain)
    shown = f"does not hold the state of block 0x{old.hash.hex()} (missing trie node"
    for read in (reader.call(Call(TARGET, b""), old.hash), reader.multicall(calls(2), old.hash)):
        with pytest.raises(StateGoneError) as raised:
            await read
        assert shown in str(raised.value)
        assert "\n" not in str(raised.value)


async def test_a_revert_is_no_missing_state() -> None:
    class Reverting:
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            raise RpcError(method, 3, "execution reverted: block not found", b"\x01")

    with pytest.raises(RpcError):
        await ChainReader(Reverting()).call(Call(TARGET, b""), Hash(bytes(32)))


async def test_answers_that_do_not_add_up_are_asked_for_again_and_then_blamed() -> None:
    class Forgetting(ChainReader):
        forgotten = 0

        async def forget(self) -> None:
            self.forgotten += 1

    reader = Forgetting(FakeChain())
    tries: list[int] = []

    async def load(*_: Head) -> None:
        tries.append(reader.forgotten)
        if len(tries) < 3:
            raise IncompleteError("holders sum to 1, not 2", "set first_block below 9")

    await load_at_newest("ethereum", reader, load)
    # what was kept of the history is doubted the second time
    assert tries == [0, 0, 1]

    async def never(*_: Head) -> None:
        raise IncompleteError("holders sum to 1, not 2", hint)

    hint = "set first_block below 9"
    with pytest.raises(ConfigError, match="sum to 1, not 2 → set first_block below 9"):
        await load_at_newest("ethereum", reader, never)
    hint = ""
    with pytest.raises(IncompleteError, match="sum to 1"):
        await load_at_newest("ethereum", reader, never)
