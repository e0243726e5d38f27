"""Long histories: every key found under any cap, in bounded flight, resumed and never trusted blindly."""

import asyncio
import random
from collections.abc import Sequence, Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from keeper.chain.history import UNSETTLED, History, _identity, joined, missing
from keeper.chain.jsonrpc import LimitedError, SlowError
from keeper.chain.keys import Keys
from keeper.chain.patience import Patience
from keeper.chain.ranges import LogRanges
from keeper.chain.remembered import Remembered
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.journal.checkpoint import SqliteCheckpoint
from keeper.journal.writer import Writer
from keeper.ports import Checkpoint, Scanned
from keeper.types import Log, Watch
from tests.fake_chain import TOPIC, FakeChain, address

EMITTERS = [address(number) for number in range(40)]
WATCH = Watch(frozenset(EMITTERS), frozenset({TOPIC}))
STAGE = "history of main"


def key(log: Log) -> bytes:
    return bytes(log.address)


class Shown:
    """Progress as it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int]] = []

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        self.seen.append((stage, unit, done, total))


class Provider(FakeChain):
    """Counts blocks asked for and requests in flight; stops answering when told."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks_asked = 0
        self.ranges: list[tuple[int, int]] = []
        self.in_flight = self.most_in_flight = 0
        self.dies_after: int | None = None
        self.result_cap: int | None = None

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        if method != "eth_getLogs":
            return await super().request(method, params)
        if self.dies_after is not None and self.requests["eth_getLogs"] >= self.dies_after:
            raise asyncio.CancelledError
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            found = await super().request(method, params)
            if self.result_cap is not None and len(found) > self.result_cap:
                raise RpcError(method, -32005, f"more than {self.result_cap} results")
        finally:
            self.in_flight -= 1
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        self.ranges.append((first, last))
        self.blocks_asked += last - first + 1
        return found


def provider(blocks: int = 3_000, seed: int = 0) -> Provider:
    rng = random.Random(seed)
    chain = Provider()
    for _ in range(blocks):
        chain.mine(*(rng.sample(EMITTERS, rng.randrange(1, 4)) if rng.random() < 0.02 else ()))
    return chain


def history(
    chain: FakeChain,
    checkpoint: Checkpoint | None = None,
    *,
    span: int = 64,
    in_flight: int = 4,
    progress: Shown | None = None,
    seconds: float = 5.0,
) -> History:
    return History(
        chain,
        LogRanges(chain, span=span),
        checkpoint or Remembered(),
        progress or Shown(),
        in_flight=in_flight,
        patience=lambda: Patience(seconds, shortest_pause=0.001),
        monotonic=_ever_later(),
    )


def _ever_later() -> Any:
    """Let every look at the clock be some seconds later, so that each range is saved at once."""
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 10
        return now

    return tick


def expected(chain: FakeChain, first: int, last: int) -> set[bytes]:
    return {key(log) for number in range(first, last + 1) for log in chain.logs(number, WATCH)}


@pytest.mark.parametrize("cap", [None, 1000, 33])
@pytest.mark.parametrize("results", [None, 7])
async def test_every_key_is_found_under_any_cap(cap: int | None, results: int | None) -> None:
    chain = provider()
    chain.range_cap, chain.result_cap = cap, results
    last = chain.head.number
    shown = Shown()
    found = await history(chain, progress=shown, span=2000).collect(STAGE, WATCH, 5, last, key)
    assert found == expected(chain, 5, last)
    assert joined(chain.ranges) == [(5, last)]
    assert chain.blocks_asked == last - 4, "no block was asked for twice"
    assert 1 < chain.most_in_flight <= 4
    done = [each[2] for each in shown.seen]
    assert done == sorted(done)
    assert done[-1] == shown.seen[-1][3] == last - 4


async def test_one_refusal_teaches_all_requests_in_flight() -> None:
    chain = provider()
    chain.range_cap = 500
    ranges = LogRanges(chain, span=2000)
    log = History(chain, ranges, Remembered(), Shown(), in_flight=8)
    last = chain.head.number
    await log.collect(STAGE, WATCH, 0, last, key)
    refused = chain.requests["eth_getLogs"] - len(chain.ranges)
    assert refused <= 2 * 8, "what is in flight is cut once and tried once wider"
    assert 250 <= ranges.span <= 750


@pytest.mark.parametrize("dies_after", [1, 5, 17])
async def test_a_killed_scan_goes_on_where_it_was(tmp_path: Path, dies_after: int) -> None:
    chain = provider(4_000)
    chain.range_cap = 64
    last = chain.head.number
    journal = Writer(tmp_path / "journal.db", 16)
    journal.start()
    chain.dies_after = dies_after
    with pytest.raises(asyncio.CancelledError):
        await history(chain, SqliteCheckpoint(journal, 1)).collect(STAGE, WATCH, 0, last, key)
    journal.close()
    read = joined(chain.ranges)
    chain.dies_after, chain.ranges = None, []
    journal = Writer(tmp_path / "journal.db", 16)
    journal.start()
    for _ in range(30):
        chain.mine(EMITTERS[-1])
    last = chain.head.number
    checkpoint = SqliteCheckpoint(journal, 1)
    found = await history(chain, checkpoint).collect(STAGE, WATCH, 0, last, key)
    assert found == expected(chain, 0, last)
    again = sum(b - a + 1 for a, b in joined(chain.ranges))
    asked_before = sum(b - a + 1 for a, b in read)
    assert again <= last + 1 - asked_before + 4 * 64 * 8, "what was saved is not asked for again"
    await checkpoint.clear()
    assert await checkpoint.load(STAGE, b"") == []
    journal.close()


async def test_settled_blocks_alone_are_kept() -> None:
    chain = provider(3_000)
    kept = Remembered()
    last = chain.head.number
    await history(chain, kept).collect(STAGE, WATCH, 0, last, key)
    settled = last - UNSETTLED
    chain.ranges = []
    # While away the recent blocks were replaced: a holder in them alone is gone, another is there.
    chain.roll_back(UNSETTLED - 1)
    for number in range(UNSETTLED + 10):
        chain.mine(*(EMITTERS[:1] if number == 7 else ()))
    last = chain.head.number
    found = await history(chain, kept).collect(STAGE, WATCH, 0, last, key)
    assert found == expected(chain, 0, last)
    assert joined(chain.ranges) == [(settled + 1, last)]


async def test_a_key_first_seen_in_recent_blocks_is_saved_with_the_settled_one() -> None:
    """The tail may be read first; the settled range that names the same key has to keep it."""
    chain = Provider()
    for number in range(2_000):
        chain.mine(*(EMITTERS[:1] if number in {100, 1_990} else ()))
    tail_first = asyncio.Event()

    async def request(method: str, params: Sequence[Any]) -> Any:
        if method == "eth_getLogs":
            if int(params[0]["fromBlock"], 16) < 900:
                await tail_first.wait()
            elif int(params[0]["toBlock"], 16) > 1_990:
                tail_first.set()
        return await FakeChain.request(chain, method, params)

    chain.request = request  # type: ignore[method-assign]
    kept = Remembered()
    await history(chain, kept, span=5_000).collect(STAGE, WATCH, 0, 2_000, key)
    chain.roll_back(500)
    for _ in range(600):
        chain.mine()
    found = await history(chain, kept, span=5_000).collect(STAGE, WATCH, 0, 2_100, key)
    assert found == {key(log) for log in chain.logs(101, WATCH)} != set()


async def test_another_chain_of_the_same_id_is_scanned_anew() -> None:
    kept = Remembered()
    old = provider(2_000, seed=1)
    await history(old, kept).collect(STAGE, WATCH, 0, old.head.number, key)
    new = Provider()
    new.mine(topic=TOPIC)
    for number in range(2_500):
        new.mine(*(EMITTERS[:2] if number == 30 else ()))
        new._salt += 7
    read = 0
    for _ in range(3):
        last = new.head.number
        found = await history(new, kept).collect(STAGE, WATCH, 0, last, key)
        assert found == expected(new, 0, last), "what the other chain held is never taken along"
        assert joined(new.ranges) == [(read, last)], (
            "what held of each scan before is not read again"
        )
        read, new.ranges = last - UNSETTLED + 1, []
        new.mine()


@pytest.mark.parametrize("other", ["first", "addresses"])
async def test_a_scan_of_something_else_is_not_used(other: str) -> None:
    chain = provider(2_000)
    kept = Remembered()
    last = chain.head.number
    narrow = Watch(frozenset(EMITTERS[:10]), WATCH.topics)
    await history(chain, kept).collect(STAGE, narrow, 400, last, key)
    chain.ranges = []
    watch, first = (WATCH, 400) if other == "addresses" else (narrow, 0)
    found = await history(chain, kept).collect(STAGE, watch, first, last, key)
    wanted = {key(log) for number in range(first, last + 1) for log in chain.logs(number, watch)}
    assert found == wanted
    assert joined(chain.ranges) == [(first, last)]


@pytest.mark.parametrize(
    "fault", [SlowError("no answer"), LimitedError("slow down", 0.01), TransientError("lost")]
)
async def test_faults_on_the_way_lose_nothing(fault: TransientError) -> None:
    chain = provider(2_000)
    rng = random.Random(3)

    def answering(method: str, params: Sequence[Any]) -> object:
        if method == "eth_getLogs" and rng.random() < 0.3:
            raise fault
        return None

    chain.answering = answering
    last = chain.head.number
    found = await history(chain).collect(STAGE, WATCH, 0, last, key)
    assert found == expected(chain, 0, last)
    assert chain.blocks_asked == last + 1


async def test_a_node_that_stays_silent_ends_it_and_what_was_read_is_kept() -> None:
    chain = provider(3_000)
    kept = Remembered()
    last = chain.head.number

    def answering(method: str, params: Sequence[Any]) -> object:
        if method == "eth_getLogs" and chain.requests[method] > 10:
            raise TransientError("lost")
        return None

    chain.answering = answering
    with pytest.raises(TransientError, match="lost"):
        await history(chain, kept, seconds=0.02).collect(STAGE, WATCH, 0, last, key)
    chain.answering = None
    read = joined(chain.ranges)
    found = await history(chain, kept).collect(STAGE, WATCH, 0, last, key)
    assert found == expected(chain, 0, last)
    assert len(read) >= 1
    assert chain.blocks_asked == last + 1


async def test_a_node_without_the_old_logs_is_the_operators_error() -> None:
    chain = provider(50)

    def answering(method: str, params: Sequence[Any]) -> object:
        if method == "eth_getLogs":
            raise RpcError(method, 4444, "pruned history unavailable")
        return None

    chain.answering = answering
    with pytest.raises(ConfigError, match="does not hold the logs of block 3 any more"):
        await history(chain).collect(STAGE, WATCH, 3, 50, key)
    assert chain.requests["eth_getLogs"] == 1


async def test_no_request_outlives_an_error() -> None:
    chain = provider(400)
    chain.range_cap = 64

    def answering(method: str, params: Sequence[Any]) -> object:
        if method == "eth_getLogs" and chain.requests[method] >= 7:
            raise RpcError(method, -32601, "method not found")
        return None

    chain.answering = answering
    with pytest.raises(RpcError):
        await history(chain).collect(STAGE, WATCH, 0, 400, key)
    assert chain.in_flight == 0
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}


def test_ranges_are_joined_and_gaps_found() -> None:
    assert joined([(5, 9), (0, 2), (3, 3), (8, 12)]) == [(0, 3), (5, 12)]
    assert missing(0, 20, [(5, 9), (0, 2), (15, 40)]) == [(3, 4), (10, 14)]
    assert missing(6, 7, [(5, 9)]) == []
    assert missing(0, 3, []) == [(0, 3)]


async def test_what_was_kept_of_a_huge_history_is_taken_beside_the_event_loop() -> None:
    chain, kept, count = provider(blocks=2_000), Remembered(), 100_000
    held = [number.to_bytes(20, "big") for number in range(count)]
    identity = _identity(WATCH, 0)
    anchor = chain.header(900)
    part = Scanned(0, 900, 900, anchor.hash, b"".join(held), 20)
    await kept.save(STAGE, identity, [part])
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ticking = asyncio.create_task(tick())
    taken = asyncio.create_task(
        history(chain, kept).collect(STAGE, WATCH, 0, chain.head.number, key)
    )
    while not chain.requests["eth_getLogs"]:  # noqa: ASYNC110 - the first request is the event
        await asyncio.sleep(0)
    before = turns
    found = await taken
    ticking.cancel()
    assert len(found) >= count
    assert before > 20, "the loop stood still while the keys were taken"
    assert set(held) <= found


def test_keys_are_a_set() -> None:
    found = Keys()
    assert found.add([b"a", b"b", b"a"]) == [b"a", b"b"]
    assert found.add([b"b", b"c"]) == [b"c"]
    assert len(found) == 3
    same: AbstractSet[bytes] = {b"a", b"b", b"c"}
    assert set(found) == same
    assert found == same
    assert b"a" in found
    assert b"d" not in found
