"""Logs folded from a node's own words leave what the same logs leave as nouns, whatever they say."""

import random
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from keeper.book.faults import Fault
from keeper.book.parts import Parts
from keeper.chain import jsonrpc, parse, raw_logs
from keeper.chain.entries import GET_LOGS, entries
from keeper.chain.words import topic
from keeper.errors import InvariantError, TransientError
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.accounts import has_debt
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import Head, Undo
from keeper.units import RAY, Address, Hash, Wei
from tests.bench import million
from tests.bench.folding import Chain

Entry = dict[str, Any]
Bend = Callable[[list[Entry], int], None]
HOLDERS, LOGS = 24, 30
START = Head(1, Hash(bytes(31) + b"\1"), Hash(bytes(32)), million.NOW, Wei(0), 0, 1)
NEXT = Head(2, Hash(bytes(31) + b"\2"), START.hash, million.NOW + 12, Wei(0), 0, 1)
BENT = [
    "0x" + topic(name).hex()
    for name in (
        "Mint(address,address,uint256,uint256,uint256)",
        "Burn(address,address,uint256,uint256,uint256)",
        "BalanceTransfer(address,address,uint256,uint256)",
    )
]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Not shrunk: that takes minutes, and an example is five words."""


def _word(value: int) -> str:
    return f"{value:064x}"


def _event(name: str, *words: int) -> Bend:
    def bend(entries: list[Entry], at: int) -> None:
        topics = ["0x" + topic(name).hex(), *("0x" + _word(each) for each in words)]
        entries[at] |= {"topics": topics, "data": "0x" + _word(1)}
        entries[at]["address"] = "0x" + million.POOL.hex()

    return bend


def _data(change: Callable[[str], str]) -> Bend:
    def bend(entries: list[Entry], at: int) -> None:
        entries[at]["data"] = change(entries[at]["data"])

    return bend


def _topic(number: int, change: Callable[[str], str]) -> Bend:
    def bend(entries: list[Entry], at: int) -> None:
        topics = entries[at]["topics"]
        if number < len(topics):
            topics[number] = change(topics[number])

    return bend


def _set(name: str, change: Callable[[Any], Any]) -> Bend:
    def bend(entries: list[Entry], at: int) -> None:
        entries[at][name] = change(entries[at][name])

    return bend


BENDS: dict[str, Bend] = {
    "plain": lambda entries, at: None,
    "another amount": _data(lambda data: data[:60] + "7fffff" + data[66:]),
    "a word too few": _data(lambda data: data[:-64]),
    "an odd digit": _data(lambda data: data + "0"),
    "no hex": _data(lambda data: data[:20] + "g" + data[21:]),
    "a zero index": _data(lambda data: data[:-64] + _word(0)),
    "all ones": _data(lambda data: "0x" + "f" * (len(data) - 2)),
    "no address": _topic(2, lambda text: "0x1" + text[3:]),
    "a short topic": _topic(1, lambda text: text[:-2]),
    "a long topic": _topic(2, lambda text: text + "00"),
    "a topic without 0x": _topic(1, lambda text: "00" + text[2:]),
    "no hex in a topic": _topic(1, lambda text: text[:30] + "x" + text[31:]),
    "capitals": _topic(2, lambda text: "0x" + text[2:].upper()),
    "an event of capitals": _topic(0, lambda text: "0x" + text[2:].upper()),
    "an event nobody knows": _topic(0, lambda text: "0x" + "ab" * 32),
    "a broken event": _topic(0, lambda text: "0xzz" + text[4:]),
    "no topics": _set("topics", lambda topics: []),
    "a topic more": _set("topics", lambda topics: [*topics, topics[-1]]),
    "to oneself": _set("topics", lambda topics: [*topics[:-1], topics[1]]),
    "a category": _event("UserEModeSet(address,uint8)", 5),
    "a deficit": _event("DeficitCreated(address,address,uint256)", 5, 6),
    "an upgrade": _event("Upgraded(address)", 5),
    "a stranger": _set("address", lambda text: "0x" + "99" * 20),
    "a contract in capitals": _set("address", lambda text: "0x" + text[2:].upper()),
    "a broken contract": _set("address", lambda text: text[:-1]),
    "taken off": _set("removed", lambda removed: True),
    "another block": _set("blockNumber", lambda text: "0x7"),
    "a broken transaction": _set("transactionHash", lambda text: text[:-2]),
    "one twice": lambda entries, at: entries.append(entries[at]),
    "out of order": lambda entries, at: entries.reverse(),
}


@cache
def _pages(seed: int) -> list[bytes]:
    return list(million.pages(HOLDERS, seed))


class Side:
    """One market folded one way."""

    def __init__(self, seed: int, read: Callable[[object, int], Any], start: Head) -> None:
        self.market = million.empty()
        self.market.restore(_pages(seed))
        self.read = read
        self.faults: list[Fault] = []
        sources = {"market/m": self.market, "oracle/m": self.market.oracle}
        self.parts = Parts(
            "test", sources, {"m": self.market}, lambda _, fault: self.faults.append(fault)
        )
        self.parts.stand_at(start)

    def fold(self, head: Head, answer: bytes) -> str:
        try:
            result = jsonrpc.result(GET_LOGS, jsonrpc.decode(answer, is_logs=True))
            self.parts.fold(head, self.read(result, head.timestamp))
        except TransientError as error:
            return str(error)
        return ""


def _same(raw: Side, nouns: Side) -> None:
    ours, theirs = raw.market._ledger, nouns.market._ledger
    assert ours == theirs
    assert set(theirs.classes.pairs()) <= set(ours.classes.pairs())
    assert raw.faults == nouns.faults
    assert raw.parts.head == nouns.parts.head
    owing = {holder for holder in theirs.accounts if has_debt(theirs.accounts.get(holder))}
    assert nouns.market.changed() & owing <= raw.market.changed(), "one more is only looked at"


def _block(market: AaveV3, head: Head, seed: int) -> list[Entry]:
    twin = million.empty()
    twin.restore(market.snapshot()())
    return Chain(twin, seed).block(head, LOGS)


@settings(phases=PHASES, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**16),
    steps=st.lists(
        st.tuples(st.sampled_from(list(BENDS)), st.integers(0, LOGS - 1), st.integers(0, 3)),
        min_size=1,
        max_size=5,
    ),
)
def test_raw_logs_leave_what_their_nouns_leave(
    seed: int, steps: list[tuple[str, int, int]]
) -> None:
    raw, nouns = Side(1, raw_logs.of_block, START), Side(1, parse.logs, START)
    heads, draw = [START], random.Random(seed)
    for place, (kind, at, back) in enumerate(steps):
        last = heads[-1]
        name = Hash(draw.randbytes(32))
        head = Head(last.number + 1, name, last.hash, last.timestamp + 12, Wei(0), 0, 1)
        entries = _block(nouns.market, head, seed + place)
        BENDS[kind](entries, at)
        answer = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": entries})
        assert raw.fold(head, answer) == nouns.fold(head, answer)
        _same(raw, nouns)
        if raw.parts.head == head:
            heads.append(head)
        # What was bent and taken all the same may be nothing that the next block can follow.
        least = int(kind != "plain" and raw.parts.head == head and not raw.faults)
        for _ in range(min(max(back, least), len(heads) - 1)):
            raw.parts.undo()
            nouns.parts.undo()
            heads.pop()
            _same(raw, nouns)
        if raw.faults:
            break


@cache
def _plain() -> bytes:
    return orjson.dumps(_block(Side(1, parse.logs, START).market, NEXT, 7))


@pytest.mark.parametrize("kind", BENDS)
def test_a_bent_block_is_folded_as_its_nouns_are_wherever_it_is_bent(kind: str) -> None:
    raw, nouns = Side(1, raw_logs.of_block, START), Side(1, parse.logs, START)
    block = _plain()
    firsts = {
        entry["topics"][0]: at for at, entry in reversed(list(enumerate(orjson.loads(block))))
    }
    for at in (firsts[each] for each in BENT if each in firsts):
        entries = orjson.loads(block)
        BENDS[kind](entries, at)
        answer = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": entries})
        told = raw.fold(NEXT, answer), nouns.fold(NEXT, answer)
        assert told[0] == told[1]
        _same(raw, nouns)
        if raw.faults:
            raw, nouns = Side(1, raw_logs.of_block, START), Side(1, parse.logs, START)
        elif not told[0]:
            raw.parts.undo()
            nouns.parts.undo()
            _same(raw, nouns)


def test_plain_blocks_go_the_short_way() -> None:
    side = Side(1, raw_logs.of_block, START)
    found = raw_logs.of_block(orjson.loads(_plain()), NEXT.timestamp)
    assert isinstance(found, raw_logs.RawLogs)
    before = side.market.snapshot()
    side.parts.fold(NEXT, found)
    assert "nouns" not in vars(found), "nobody asked for a noun"
    side.parts.undo()
    assert list(side.market.snapshot()()) == list(before())


def _entry(contract: bytes, name: str, holders: tuple[bytes, bytes], *words: int) -> Entry:
    topics = [topic(name), *(each.rjust(32, b"\0") for each in holders)]
    return {
        "address": "0x" + contract.hex(),
        "topics": ["0x" + each.hex() for each in topics],
        "data": "0x" + "".join(map(_word, words)),
        "blockNumber": "0x2",
        "blockHash": "0x" + NEXT.hash.hex(),
        "transactionHash": "0x" + "05" * 32,
        "logIndex": "0x0",
    }


def _state(market: AaveV3, reserve: Reserve, who: Sequence[Address]) -> tuple[object, ...]:
    ledger = market._ledger
    records = tuple(map(ledger.accounts.get, who))
    return records, copy(reserve), ledger.borrowers, market.changed()


def test_each_change_alone_is_taken_or_refused_as_its_noun_is() -> None:
    market = Side(1, parse.logs, START).market
    ledger = market._ledger
    taken: list[bool] = []
    for reserve in ledger.reserves.values():
        holding = [each for each in ledger.accounts if ledger.supplied(each, reserve)]
        owing = [each for each in ledger.accounts if ledger.owed(each, reserve)]
        if len(holding) < 2 or not owing or len(taken) > 150:
            continue
        one, two = holding[:2]
        told: list[Entry] = []
        for token, who in ((reserve.supply_token, one), (reserve.debt_token, owing[0])):
            for value in range(8):
                told += (
                    _entry(
                        token,
                        f"{kind}(address,address,uint256,uint256,uint256)",
                        (who, who),
                        value,
                        0,
                        RAY * 13 // 10,
                    )
                    for kind in ("Mint", "Burn")
                )
        for scaled in (0, 1, ledger.supplied(one, reserve), ledger.supplied(one, reserve) + 1):
            moved = "BalanceTransfer(address,address,uint256,uint256)"
            told.append(_entry(reserve.supply_token, moved, (one, two), scaled, RAY))

        three = one, two, owing[0]
        for entry in told:
            untouched, undos = _state(market, reserve, three), list[Undo]()
            is_taken = market.fold_raw(entries([entry]), NEXT.timestamp, undos)
            left = _state(market, reserve, three)
            for undo in undos:
                undo()
            assert _state(market, reserve, three)[:3] == untouched[:3]
            try:
                undone = market.fold(parse.log(entry).at(NEXT.timestamp))
            except InvariantError:
                undone, refused = None, True
            else:
                refused = False
            assert (is_taken, left) == (not refused, _state(market, reserve, three)), entry
            taken.append(is_taken)
            if undone is not None:
                undone()
                market.changed()
    assert taken.count(True) > 10
    assert taken.count(False) > 10


@pytest.mark.parametrize("number", ["0x", "", "latest"])
async def test_a_block_that_no_log_names_rightly_is_asked_for_again(number: str) -> None:
    side = Side(1, raw_logs.of_block, START)
    entries = [each | {"blockNumber": number} for each in _block(side.market, NEXT, 1)]
    answer = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": entries})
    result = jsonrpc.result(GET_LOGS, jsonrpc.decode(answer, is_logs=True))
    with pytest.raises(TransientError):
        raw_logs.of_block(result, NEXT.timestamp)
