"""The audit: beside the line, at one head, and never on one endpoint's word."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.book.auditor import Auditor
from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.errors import InvariantError, StateGoneError, TransientError
from keeper.ports import Reader
from keeper.types import Call, CallResult, Drift, Head, Log, Token, Undo, Watch
from keeper.units import Address, Hash, Wei

TOKEN = Token(Address(b"\x01" * 20), "TKN", 18)
ASKED = Call(Address(b"\x02" * 20), b"balance")


def head(number: int, fork: int = 0) -> Head:
    def name(height: int) -> Hash:
        return Hash(bytes([fork if height == number else 0]) + height.to_bytes(31, "big"))

    return Head(number, name(number), name(number - 1), 12 * number, Wei(1), 0, 30_000_000)


class Node:
    """Answers every call with one number; may fail, or do something before it answers."""

    def __init__(self, says: int) -> None:
        self.says = says
        self.asked: list[Hash | None] = []
        self.fails: Exception | None = None
        self.before: Callable[[], Awaitable[None]] | None = None

    async def multicall(self, calls: Sequence[Call], block: Hash | None = None) -> list[CallResult]:
        self.asked.append(block)
        if self.before is not None:
            await self.before()
        if self.fails is not None:
            raise self.fails
        return [CallResult(True, self.says.to_bytes(32, "big")) for _ in calls]


class Purse:
    """A venue that holds one number."""

    def __init__(self, name: str, holds: int) -> None:
        self.name = name
        self.holds = holds
        self.seeds: list[tuple[int, int]] = []

    def watch(self) -> Watch:
        return Watch(frozenset(), frozenset())

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        raise NotImplementedError

    def fold(self, log: Log) -> Undo | None:
        raise NotImplementedError

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        self.seeds.append((sample, seed))
        held = self.holds
        (answer,) = await reader.multicall([ASKED], head.hash)
        if not answer.data:
            raise InvariantError(self.name, "no answer makes sense")
        actual = int.from_bytes(answer.data, "big")
        return [] if actual == held else [Drift(f"{self.name} balance", held, actual)]


class Room:
    """Two purses, the node that is read and the one that is asked again."""

    def __init__(self, first: int = 5, second: int = 5) -> None:
        self.one, self.two = Purse("one", first), Purse("two", second)
        self.node, self.other = Node(5), Node(5)
        self.faults: list[tuple[str, Fault]] = []
        self.checked: list[tuple[str, int, int]] = []
        purses: Any = [self.one, self.two]
        self.book = Book("x", [], purses, TOKEN, lambda *told: self.faults.append(told))
        self.book.stand_at(head(7))
        node, other = self.node, self.other
        self.auditor = Auditor(
            "x",
            self.book,
            node,  # type: ignore[arg-type]
            other,  # type: ignore[arg-type]
            lambda *told: self.checked.append(told),
            heads=3,
            sample=20,
            seed=lambda: 9,
        )


async def test_what_agrees_is_counted() -> None:
    room = Room()
    await room.auditor.audit()
    assert room.checked == [("venue/one", 1, 0), ("venue/two", 1, 0)]
    assert room.one.seeds == [(20, 9)]
    assert room.node.asked == [head(7).hash] * 2
    assert (room.faults, room.other.asked) == ([], [])


async def test_drift_that_a_second_endpoint_confirms_stops_that_part_alone() -> None:
    room = Room(first=6)
    await room.auditor.audit()
    why = "one balance is 6 here and 5 on the chain"
    assert room.faults == [("venue/one", Fault(FaultKind.DRIFT, why, 7))]
    assert room.other.asked == [head(7).hash]
    assert room.checked == [("venue/one", 1, 1), ("venue/two", 1, 0)]
    room.checked.clear()
    await room.auditor.audit()
    assert room.checked == [("venue/two", 1, 0)], "what is stopped is not compared"


async def test_one_endpoint_that_answers_wrongly_stops_nothing() -> None:
    room = Room()
    room.node.says = 4
    with capture_logs() as lines:
        await room.auditor.audit()
    assert room.faults == []
    assert [line["event"] for line in lines] == ["audit.disputed"] * 2
    assert lines[0]["difference"] == "one balance is 5 here and 4 on the chain"


@pytest.mark.parametrize("again", [True, False])
async def test_a_block_that_is_undone_meanwhile_says_nothing(again: bool) -> None:
    room = Room(first=6)
    room.book.fold(head(8), [])

    async def reorganise() -> None:
        if room.book.head == head(8):
            room.book.undo()
            room.book.fold(head(8, fork=1), [])

    (room.other if again else room.node).before = reorganise
    await room.auditor._audit("venue/one", room.one)  # type: ignore[arg-type]
    assert room.faults == []


async def test_folding_goes_on_while_an_answer_is_awaited() -> None:
    room = Room()

    async def go_on() -> None:
        room.one.holds = 100
        room.node.before = None
        room.book.fold(head(8), [])

    room.node.before = go_on
    await room.auditor._audit("venue/one", room.one)  # type: ignore[arg-type]
    assert room.faults == []
    assert room.checked == [("venue/one", 1, 0)]


async def test_a_part_that_stops_meanwhile_is_not_stopped_twice() -> None:
    room = Room(first=6)

    async def stop() -> None:
        room.book.parts.stop("venue/one", Fault(FaultKind.INVARIANT, "first", 7))

    room.other.before = stop
    await room.auditor.audit()
    assert [fault.why for _, fault in room.faults] == ["first"]


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (TransientError("no answer"), "audit.unanswered"),
        (StateGoneError("the node does not hold the state of block 0x07"), "audit.unanswered"),
        (ValueError("odd"), "audit.failed"),
    ],
)
async def test_what_cannot_be_read_is_told_and_left_for_the_next_time(
    error: Exception, event: str
) -> None:
    room = Room(first=6)
    room.node.fails = error
    with capture_logs() as lines:
        await room.auditor.audit()
    assert [line["event"] for line in lines] == [event] * 2
    assert room.faults == []


async def test_it_falls_due_every_so_many_heads() -> None:
    room = Room()
    running = asyncio.create_task(room.auditor.run())
    for count in range(1, 7):
        room.auditor.head_done()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(room.one.seeds) == count // 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
