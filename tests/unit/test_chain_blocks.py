"""What proves an answer about logs wrong is seen, for one block and for a range of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from keeper.chain.backfill import logs_by_block
from keeper.chain.blocks import Blocks
from keeper.chain.bloom import matches_nothing
from keeper.chain.ranges import LogRanges
from keeper.errors import TransientError
from keeper.types import Watch
from tests.fake_chain import OTHER_TOPIC, TOPIC, FakeChain, address

WATCH = Watch(frozenset({address(1), address(2), address(3)}), frozenset({TOPIC}))
Entry = dict[str, Any]
Lie = Callable[[list[Entry]], list[Entry]]

LIES: dict[str, Lie] = {
    "one twice": lambda logs: [*logs, logs[0]],
    "another's": lambda logs: [{**logs[0], "blockHash": "0x" + "77" * 32}, *logs[1:]],
    "an address not asked for": lambda logs: [*logs, _beside(logs, address=address(4))],
    "a watched address the bloom excludes": lambda logs: [*logs, _beside(logs, address=address(3))],
    "a topic not asked for": lambda logs: [*logs, _beside(logs, topic=OTHER_TOPIC)],
}


def _beside(logs: list[Entry], *, address: bytes = b"", topic: bytes = b"") -> Entry:
    last = logs[-1]
    return {
        **last,
        "logIndex": hex(int(last["logIndex"], 16) + 1),
        "address": "0x" + address.hex() if address else last["address"],
        "topics": ["0x" + topic.hex()] if topic else last["topics"],
    }


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_wrong_answer_for_a_block_is_refused(lie: Lie) -> None:
    chain = FakeChain()
    head = chain.mine(address(1), address(2))
    blocks = Blocks(chain)
    assert await blocks.logs(head, WATCH) == chain.logs(head.number, WATCH)
    chain.answering = _lying(chain, lie, "blockHash")
    with pytest.raises(TransientError, match=f"logs of block {head.number}, was given"):
        await blocks.logs(head, WATCH)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_block_a_range_gets_wrong_is_asked_for_by_its_hash(lie: Lie) -> None:
    chain = FakeChain()
    heads = [chain.mine(address(1), address(2)) for _ in range(12)]
    chain.answering = _lying(chain, lie, "fromBlock")
    found = await logs_by_block(Blocks(chain), LogRanges(chain), heads, WATCH)
    assert found == [chain.logs(head.number, WATCH) for head in heads]
    assert chain.requests["eth_getLogs"] == 2, "the range, and the one block it got wrong"


@pytest.mark.parametrize("span", [2_000, 6])
@pytest.mark.parametrize(
    "is_elsewhere", [False, True], ids=["it lags", "it follows another branch"]
)
async def test_no_block_is_taken_of_which_one_of_several_requests_may_have_missed_a_part(
    span: int, is_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.chain.blocks.ADDRESSES_PER_REQUEST", 2)
    chain = FakeChain()
    heads = [chain.mine(*sorted(WATCH.addresses)) for _ in range(12)]

    def behind(method: str, params: Sequence[Any]) -> list[Entry] | None:
        """Answer what is asked of one address alone up to the third block, and of a last one."""
        query = params[0]
        if method != "eth_getLogs" or "blockHash" in query or len(query["address"]) != 1:
            return None
        logs = chain._get_logs(query)
        if int(query["fromBlock"], 16) > 1:
            return logs
        last = {**logs[-1], "blockHash": "0x" + "77" * 32}
        return [*logs[:3], *([last] if is_elsewhere else [])]

    chain.answering = behind
    found = await logs_by_block(Blocks(chain), LogRanges(chain, span=span), heads, WATCH)
    assert found == [chain.logs(head.number, WATCH) for head in heads]
    ranges, missed = (2, 9) if span > 12 else (4, 3)
    assert chain.requests["eth_getLogs"] == ranges + 2 * missed, "what is known to all is not asked"


@pytest.mark.parametrize("is_filled_in", [True, False])
async def test_zeros_over_used_gas_are_no_bloom(is_filled_in: bool) -> None:
    chain = FakeChain()
    head = chain.mine(address(1))
    logs = chain.logs(head.number, WATCH)
    zeros = replace(head, bloom=bytes(256) if is_filled_in else b"")
    assert await Blocks(chain).logs(zeros, WATCH) == logs
    idle = replace(zeros, bloom=bytes(256), gas_used=0)
    assert matches_nothing(Blocks(chain).admitted(idle, WATCH)), "nothing ran, nothing is asked for"
    many = [replace(chain.mine(address(1)), bloom=zeros.bloom) for _ in range(8)]
    found = await logs_by_block(Blocks(chain), LogRanges(chain), many, WATCH)
    assert [len(each) for each in found] == [1] * 8


def _lying(
    chain: FakeChain, lie: Lie, asked_by: str
) -> Callable[[str, Sequence[Any]], list[Entry] | None]:
    """Lie about the first block of every answer to one kind of question."""

    def answer(method: str, params: Sequence[Any]) -> list[Entry] | None:
        if method != "eth_getLogs" or asked_by not in params[0]:
            return None
        logs = chain._get_logs(params[0])
        number = logs[0]["blockNumber"]
        first = [log for log in logs if log["blockNumber"] == number]
        return lie(first) + logs[len(first) :]

    return answer
