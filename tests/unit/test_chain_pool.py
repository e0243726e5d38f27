"""Several endpoints as one: who is asked, who is asked next, and who is left out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.chain.blocks import Blocks
from keeper.chain.connect import connect_pool
from keeper.chain.heads import PolledHeads
from keeper.chain.jsonrpc import LimitedError
from keeper.chain.listener import Listener
from keeper.chain.pool import EndpointPool
from keeper.chain.pooled_heads import PooledHeads
from keeper.chain.prober import LONE, Prober
from keeper.chain.ranges import LogRanges
from keeper.chain.roster import Roster
from keeper.chain.survey import Standing, Survey
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.types import Head, Watch
from keeper.units import to_hex
from tests.fake_chain import TOPIC, FakeChain, FakeFeed, RecordingFollower, address

RAW = "0x02f8"
WATCH = Watch(frozenset({address(1), address(2)}), frozenset({TOPIC}))
DEPTH = 4


class Ticking:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Node:
    """One endpoint over a chain in memory: it may lag, fail, hang, or answer as it is told."""

    def __init__(self, chain: FakeChain, clock: Ticking, seconds: float) -> None:
        self.chain = chain
        self.chain_id = 7
        self.lag = 0
        self.seconds = seconds
        self.seen: list[str] = []
        self.fails: Callable[[str], Exception | None] = lambda _: None
        self.hangs = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.admits = True
        self.claims = 0
        self._clock = clock

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self.seen.append(method)
        if self.hangs:
            await asyncio.Event().wait()
        await self.answers.wait()
        await asyncio.sleep(0)
        if (error := self.fails(method)) is not None:
            raise error
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "eth_sendRawTransaction":
            return "0x" + "11" * 32
        if method in {"eth_getTransactionByHash", "eth_getTransactionReceipt"}:
            return None
        height = self.chain.head.number - self.lag
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            self._clock.now += self.seconds
            header = dict(await self.chain.request(method, [hex(height), False]))
            if self.claims:
                header["number"] = hex(self.claims)
            return header
        answer = await self.chain.request(method, params)
        if method.startswith("eth_getBlock") and answer and int(answer["number"], 16) > height:
            return None
        if method == "eth_getLogs" and self._is_new(params[0], height):
            if not self.admits:
                return []
            raise RpcError(method, -32000, "header not found")
        return answer

    def _is_new(self, query: dict[str, str], height: int) -> bool:
        recent = range(height + 1, self.chain.head.number + 1)
        return any(query.get("blockHash") == to_hex(self.chain.header(n).hash) for n in recent)


class Bench:
    """A pool over nodes of one chain, the first one the fastest."""

    def __init__(self, count: int = 2) -> None:
        self.clock = Ticking()
        self.chain = FakeChain()
        for _ in range(20):
            self.chain.mine()
        self.nodes = [Node(self.chain, self.clock, 0.01 * (i + 1)) for i in range(count)]
        named = list(zip("abc", self.nodes, strict=False))
        self.roster = Roster(named, self.clock)
        survey = Survey(7, depth=DEPTH, absence=60.0, monotonic=self.clock)
        self.prober = Prober(self.roster, survey, self.clock, patience=0.05)
        self.pool = EndpointPool(self.roster, attempts=2, stagger=0.02, monotonic=self.clock)

    async def probed(self, times: int = 1) -> "Bench":
        for _ in range(times):
            await self.prober.probe()
        self.forget()
        return self

    def forget(self) -> None:
        for node in self.nodes:
            node.seen.clear()

    def standings(self) -> list[Standing]:
        return [state.standing for state in self.pool.states()]

    async def close(self) -> None:
        await self.prober.close()


@pytest.fixture
async def bench():
    made = Bench()
    await made.probed()
    yield made
    await made.close()


@pytest.fixture
async def three():
    made = Bench(3)
    await made.probed()
    yield made
    await made.close()


def failing(error: Exception) -> Callable[[str], Exception]:
    return lambda method: error


def logs_at(bench: Bench, number: int) -> list[object]:
    address = ["0x" + "00" * 20]
    block = to_hex(bench.chain.header(number).hash)
    return [{"blockHash": block, "address": address, "topics": [["0x"]]}]


async def test_reads_stay_with_the_fastest(bench: Bench) -> None:
    for _ in range(3):
        await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert len(bench.nodes[0].seen) == 3
    assert bench.nodes[1].seen == []


async def test_a_failed_read_goes_to_the_next_and_later_reads_too(bench: Bench) -> None:
    first, second = bench.nodes
    first.fails = failing(TransientError("gone"))
    assert await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (len(first.seen), len(second.seen)) == (1, 1)
    first.fails = lambda _: None
    await bench.pool.request("eth_getBlockByNumber", ["0x2", False])
    assert (len(first.seen), len(second.seen)) == (1, 2)
    bench.clock.now += 600
    await bench.pool.request("eth_getBlockByNumber", ["0x3", False])
    assert len(second.seen) == 3, "the one that serves keeps its place while it is about as good"


@pytest.mark.parametrize(
    "error",
    [
        RpcError("eth_call", 3, "execution reverted: header not found", b"\x01"),
        RpcError("eth_call", -32000, "execution reverted"),
        RpcError("eth_call", -32000, "out of gas"),
        RpcError("eth_getLogs", -32005, "block range is too large"),
    ],
)
async def test_an_answer_is_not_asked_for_twice(bench: Bench, error: RpcError) -> None:
    bench.nodes[0].fails = failing(error)
    with pytest.raises(RpcError) as raised:
        await bench.pool.request("eth_call", [{}, "latest"])
    assert raised.value is error
    assert bench.nodes[1].seen == []
    assert bench.pool.states()[0].faults == 0


@pytest.mark.parametrize(
    "message",
    ["header not found", "unknown block", "Block requested not found", "block #9 unknown"],
)
async def test_who_does_not_know_a_block_another_has_is_blamed(bench: Bench, message: str) -> None:
    bench.nodes[0].fails = lambda m: RpcError(m, -32000, message) if m == "eth_getLogs" else None
    assert await bench.pool.request("eth_getLogs", logs_at(bench, 20)) == []
    first, second = bench.pool.states()
    assert (first.faults, second.faults) == (1, 0)


async def test_a_block_nobody_knows_is_nobodys_fault(bench: Bench) -> None:
    unknown = "0x" + "77" * 32
    assert await bench.pool.request("eth_getBlockByHash", [unknown, False]) is None
    assert [len(node.seen) for node in bench.nodes] == [1, 1]
    query = {"blockHash": unknown, "address": [], "topics": [[]]}
    with pytest.raises(RpcError, match="unknown block"):
        await bench.pool.request("eth_getLogs", [query])
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_a_block_the_best_does_not_have_yet_is_read_from_the_next(bench: Bench) -> None:
    bench.nodes[0].lag = 1
    newest = bench.chain.head
    header = await bench.pool.request("eth_getBlockByHash", [to_hex(newest.hash), False])
    assert header["hash"] == to_hex(newest.hash)
    assert bench.pool.states()[0].faults == 1


async def test_no_logs_is_not_believed_of_who_does_not_hold_the_block(bench: Bench) -> None:
    head = bench.chain.mine(address(1))
    bench.nodes[0].lag, bench.nodes[0].admits = 1, False
    assert await Blocks(bench.pool).logs(head, WATCH) == bench.chain.logs(head.number, WATCH)
    assert bench.nodes[0].seen == ["eth_getLogs", "eth_getBlockByHash"]
    assert bench.nodes[1].seen == ["eth_getLogs"], "an answer with logs costs nothing more"
    assert [state.faults for state in bench.pool.states()] == [1, 0]


async def test_who_lacks_the_block_does_not_win_the_race_without_logs(bench: Bench) -> None:
    head = bench.chain.mine(address(1))
    slow, behind = bench.nodes
    slow.answers.clear()
    behind.lag, behind.admits = 1, False
    asked = asyncio.create_task(Blocks(bench.pool).logs(head, WATCH))
    await until(lambda: "eth_getLogs" in behind.seen)
    await asyncio.sleep(0)
    slow.answers.set()
    assert await asked == bench.chain.logs(head.number, WATCH)
    assert slow.seen == ["eth_getLogs"]


async def test_a_block_that_comes_after_an_answer_without_logs_is_asked_for_again(
    bench: Bench,
) -> None:
    head = bench.chain.mine(address(1))
    first, second = bench.nodes
    first.lag, first.admits = 1, False

    def arrives(method: str) -> None:
        if method == "eth_getBlockByHash":
            first.lag = 0

    first.fails = arrives
    assert await Blocks(bench.pool).logs(head, WATCH) == bench.chain.logs(head.number, WATCH)
    assert first.seen == ["eth_getLogs", "eth_getBlockByHash", "eth_getLogs"]
    assert second.seen == []


async def test_a_block_without_logs_costs_a_header_and_the_same_question(bench: Bench) -> None:
    head = replace(bench.chain.mine(address(3)), bloom=b"")
    assert await Blocks(bench.pool).logs(head, WATCH) == []
    assert bench.nodes[0].seen == ["eth_getLogs", "eth_getBlockByHash", "eth_getLogs"]
    assert bench.nodes[1].seen == []
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_who_told_of_a_block_is_believed_that_it_has_no_logs(bench: Bench) -> None:
    first, second = bench.nodes
    head = replace(bench.chain.mine(address(3)), bloom=b"")
    bench.roster.told("a", head)
    assert await Blocks(bench.pool).logs(head, WATCH) == []
    assert first.seen == ["eth_getLogs"]
    head = replace(bench.chain.mine(address(3)), bloom=b"")
    await bench.pool.request("eth_getBlockByNumber", ["latest", False])
    assert await Blocks(bench.pool).logs(head, WATCH) == []
    assert first.seen[1:] == ["eth_getBlockByNumber", "eth_getLogs"]
    assert second.seen == []


async def test_who_failed_since_it_told_of_a_block_shows_it_again(bench: Bench) -> None:
    """One that was started anew may stand where it stood before."""
    head = bench.chain.mine(address(1))
    first, second = bench.nodes
    bench.roster.told("a", head)
    bench.roster.blame("a")
    bench.clock.now += 600
    bench.roster.prefer("a")
    first.lag, first.admits = 1, False
    assert await Blocks(bench.pool).logs(head, WATCH) == bench.chain.logs(head.number, WATCH)
    assert first.seen == ["eth_getLogs", "eth_getBlockByHash"]
    assert second.seen == ["eth_getLogs"]


async def test_no_logs_from_nobody_who_holds_the_block_is_an_error(bench: Bench) -> None:
    head = bench.chain.mine(address(1))
    for node in bench.nodes:
        node.lag, node.admits = 1, False
    with pytest.raises(RpcError, match="unknown block"):
        await Blocks(bench.pool).logs(head, WATCH)
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_each_request_of_a_long_watch_needs_somebody_who_holds_the_block(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.chain.blocks.ADDRESSES_PER_REQUEST", 1)
    head = bench.chain.mine(address(1), address(2))
    first, second = bench.nodes
    second.lag, second.admits = 1, False

    def limited(method: str) -> Exception | None:
        is_second = first.seen.count(method) > 1
        return LimitedError("slow down", 0.0) if is_second else None

    first.fails = limited
    with pytest.raises(RpcError, match="unknown block"):
        await Blocks(bench.pool).logs(head, WATCH)


@pytest.mark.parametrize("code", [4444, -32000])
async def test_what_one_has_pruned_is_read_from_an_archive(bench: Bench, code: int) -> None:
    head = bench.chain.mine(address(1))
    pruned, archive = bench.nodes
    pruned.fails = lambda method: RpcError(method, code, "pruned history unavailable")
    expected = bench.chain.logs(head.number, WATCH)
    found = await LogRanges(bench.pool).logs(WATCH, 1, head.number)
    assert [log.at(head.timestamp) for log in found] == expected
    assert await Blocks(bench.pool).logs(head, WATCH) == expected
    assert await bench.pool.request("eth_getBlockByHash", [to_hex(head.hash), False])
    assert (len(pruned.seen), len(archive.seen)) == (3, 3)
    assert [state.faults for state in bench.pool.states()] == [0, 0]
    assert not bench.roster.doubt.is_set()


async def test_an_archive_may_take_its_time_for_what_another_has_pruned(bench: Bench) -> None:
    head = bench.chain.mine(address(1))
    pruned, archive = bench.nodes
    pruned.fails = lambda method: RpcError(method, 4444, "pruned history unavailable")
    archive.answers.clear()
    asked = asyncio.create_task(LogRanges(bench.pool).logs(WATCH, 1, head.number))
    await until(lambda: "eth_getLogs" in archive.seen)
    assert not (await asyncio.wait([asked], timeout=0.1))[0]
    archive.answers.set()
    assert len(await asked) == 1
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_what_everybody_has_pruned_is_said_and_nobodys_fault(bench: Bench) -> None:
    for node in bench.nodes:
        node.fails = lambda method: RpcError(method, 4444, "pruned history unavailable")
    with pytest.raises(ConfigError, match="does not hold the logs of block 1 any more"):
        await LogRanges(bench.pool).logs(WATCH, 1, 3)
    with pytest.raises(RpcError) as raised:
        await bench.pool.request("eth_getLogs", logs_at(bench, 2))
    assert raised.value.code == 4444
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_what_one_has_pruned_waits_for_an_archive_that_gives_no_answer(bench: Bench) -> None:
    pruned, archive = bench.nodes
    pruned.fails = lambda method: RpcError(method, 4444, "pruned history unavailable")
    archive.fails = failing(TransientError("gone"))
    with pytest.raises(TransientError, match="gone"):
        await LogRanges(bench.pool).logs(WATCH, 1, 3)


async def test_what_one_has_pruned_is_said_though_another_refuses(bench: Bench) -> None:
    pruned, other = bench.nodes
    pruned.fails = lambda method: RpcError(method, 4444, "pruned history unavailable")
    other.fails = lambda method: RpcError(method, 403, "not in your plan")
    with pytest.raises(ConfigError, match="any more"):
        await LogRanges(bench.pool).logs(WATCH, 1, 3)


async def test_a_transaction_is_unknown_only_when_nobody_knows_it(bench: Bench) -> None:
    assert await bench.pool.request("eth_getTransactionByHash", ["0x11"]) is None
    assert [len(node.seen) for node in bench.nodes] == [1, 1]
    assert [state.faults for state in bench.pool.states()] == [0, 0]


async def test_a_method_one_does_not_offer_is_asked_of_another(bench: Bench) -> None:
    first, second = bench.nodes
    missing = RpcError("net_version", -32601, "the method does not exist")
    first.fails = lambda method: missing if method == "net_version" else None
    second.fails = lambda method: RpcError(method, 1, "answer") if method == "net_version" else None
    for _ in range(2):
        with pytest.raises(RpcError, match="answer"):
            await bench.pool.request("net_version", [])
    assert (len(first.seen), len(second.seen)) == (1, 2)


async def test_a_rate_limited_endpoint_rests_and_comes_back(bench: Bench) -> None:
    first, second = bench.nodes
    first.fails = failing(LimitedError("slow down", 7.0))
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    first.fails = lambda _: None
    bench.forget()
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (first.seen, len(second.seen)) == ([], 1)
    bench.roster.prefer("a")
    bench.clock.now += 8
    bench.forget()
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (len(first.seen), second.seen) == (1, [])


async def test_an_endpoint_whose_quota_of_a_day_is_used_up_is_asked_again_within_minutes(
    bench: Bench,
) -> None:
    first, second = bench.nodes
    first.fails = failing(LimitedError("over the daily quota", 86_400.0))
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    first.fails = lambda _: None
    bench.roster.prefer("a")
    bench.clock.now += 299
    bench.forget()
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (first.seen, len(second.seen)) == ([], 1)
    bench.roster.prefer("a")
    bench.clock.now += 2
    bench.forget()
    await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (len(first.seen), second.seen) == (1, [])


async def test_a_read_without_an_answer_is_raced_by_the_next(bench: Bench) -> None:
    first, second = bench.nodes
    first.hangs = True
    assert await bench.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert (len(first.seen), len(second.seen)) == (1, 1)


async def test_a_range_of_logs_is_not_raced(bench: Bench) -> None:
    bench.nodes[0].hangs = True
    query = {"fromBlock": "0x1", "toBlock": "0x9", "address": [], "topics": [[]]}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bench.pool.request("eth_getLogs", [query])
    assert bench.nodes[1].seen == []


@pytest.mark.parametrize(
    "error",
    [
        TransientError("gone"),
        LimitedError("slow down", 5.0),
        RpcError("eth_sendRawTransaction", -32000, "nonce too low"),
        RpcError("eth_sendRawTransaction", 403, "refused with HTTP 403"),
    ],
)
async def test_a_transaction_is_handed_over_once(bench: Bench, error: TransientError) -> None:
    first, second = bench.nodes
    first.fails = failing(error)
    with pytest.raises(type(error)) as raised:
        await bench.pool.request("eth_sendRawTransaction", [RAW])
    assert raised.value is error
    assert (len(first.seen), second.seen) == (1, [])
    await_other = not (isinstance(error, RpcError) and error.code < 0)
    first.fails = lambda _: None
    await bench.pool.request("eth_sendRawTransaction", [RAW])
    assert (len(first.seen), len(second.seen)) == ((1, 1) if await_other else (2, 0))


async def test_a_transaction_without_an_answer_is_not_handed_over_again(bench: Bench) -> None:
    bench.nodes[0].hangs = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bench.pool.request("eth_sendRawTransaction", [RAW])
    assert bench.nodes[1].seen == []


@pytest.mark.parametrize(("lag", "standing"), [(2, Standing.USABLE), (3, Standing.BEHIND)])
async def test_an_endpoint_that_lags_is_left_out_until_it_caught_up(
    bench: Bench, lag: int, standing: Standing
) -> None:
    bench.nodes[0].lag = lag
    with capture_logs() as lines:
        await bench.probed()
    assert bench.standings() == [standing, Standing.USABLE]
    assert [state.lag for state in bench.pool.states()] == [lag, 0]
    assert [line["event"] for line in lines] == ["endpoint.left_out"] * (lag > 2)
    await bench.pool.request("eth_getBlockByNumber", ["latest", False])
    assert bench.nodes[0].seen == []
    bench.nodes[0].lag = 0
    await bench.probed()
    assert bench.standings() == [Standing.USABLE] * 2


async def test_an_endpoint_of_another_chain_is_left_out_and_reported(bench: Bench) -> None:
    bench.nodes[0].chain_id = 1
    with capture_logs() as lines:
        await bench.probed(2)
    assert bench.standings() == [Standing.OTHER_CHAIN, Standing.USABLE]
    assert [(line["endpoint"], line["reason"]) for line in lines] == [
        ("a", "serves chain 1, not 7")
    ]


async def test_the_minority_is_left_out_when_settled_blocks_differ(three: Bench) -> None:
    other = FakeChain()
    other._salt = 500
    for _ in range(20):
        other.mine()
    three.nodes[0].chain = other
    three.prober._survey = Survey(7, depth=DEPTH)
    await three.probed()
    assert three.standings() == [Standing.DISAGREES, Standing.USABLE, Standing.USABLE]
    assert "b, c" in three.pool.states()[0].reason


async def test_a_higher_chain_that_does_not_go_on_from_ours_is_not_believed(bench: Bench) -> None:
    other = FakeChain()
    other._salt = 500
    for _ in range(60):
        other.mine()
    bench.nodes[1].chain = other
    await bench.probed()
    assert bench.standings() == [Standing.USABLE, Standing.DISAGREES]
    assert [state.lag for state in bench.pool.states()] == [0, None]


async def test_a_chain_all_left_together_is_followed(bench: Bench) -> None:
    for _ in range(10):
        bench.chain.mine()
    await bench.probed()
    bench.chain.roll_back(20)
    for _ in range(30):
        bench.chain.mine()
    await bench.probed()
    assert bench.standings() == [Standing.USABLE] * 2


async def test_a_dead_endpoint_does_not_keep_out_the_others_for_ever(three: Bench) -> None:
    for _ in range(10):
        three.chain.mine()
    await three.probed()
    three.nodes[0].fails = failing(TransientError("dead"))
    await three.probed(2)
    three.chain.roll_back(20)
    for _ in range(30):
        three.chain.mine()
    with capture_logs() as lines:
        await three.probed()
        out = [Standing.SILENT, Standing.DISAGREES, Standing.DISAGREES]
        assert three.standings() == out, "the dead one may be the one that is right"
        three.clock.now += 50
        await three.probed()
        assert three.standings() == out
        three.clock.now += 11
        await three.probed()
    assert three.standings() == [Standing.SILENT, Standing.USABLE, Standing.USABLE]
    said = [line for line in lines if line["event"] == "chain.resettled"]
    assert [line["absent_endpoints"] for line in said] == [1]


async def test_whoever_holds_the_settled_block_ends_the_wait(three: Bench) -> None:
    for _ in range(10):
        three.chain.mine()
    await three.probed()
    ours, theirs = three.chain, FakeChain()
    theirs._salt = 500
    for _ in range(60):
        theirs.mine()
    dead = three.nodes[0]
    dead.fails = failing(TransientError("dead"))
    three.nodes[1].chain = three.nodes[2].chain = theirs
    await three.probed(2)
    three.clock.now += 59
    dead.fails = lambda _: None
    await three.probed()
    assert three.standings() == [Standing.USABLE, Standing.DISAGREES, Standing.DISAGREES]
    dead.fails = failing(TransientError("dead"))
    three.clock.now += 30
    await three.probed(2)
    assert Standing.USABLE not in three.standings(), "the wait begins anew"
    assert ours is dead.chain


@pytest.mark.parametrize("wrong", ["refuses", "lies", "lacks the block and does not say so"])
async def test_the_chain_is_followed_past_an_endpoint_that_answers_wrongly(
    bench: Bench, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = bench.nodes[0]
    fast.lag, fast.admits = int(wrong.startswith("lacks")), False
    answered = fast.request

    async def request(method: str, params: Sequence[Any]) -> Any:
        answer = await answered(method, params)
        if method != "eth_getLogs" or wrong.startswith("lacks"):
            return answer
        if wrong == "refuses":
            raise RpcError(method, -32602, "too many addresses")
        return [{**entry, "blockHash": "0x" + "77" * 32} for entry in answer]

    monkeypatch.setattr(fast, "request", request)
    watch = Watch(frozenset({address(1)}), frozenset({TOPIC}))
    follower = RecordingFollower(bench.chain.head, watch)
    announced = FakeFeed()
    polled = PolledHeads(bench.pool, "a, b", interval=0.001)

    async def prefetch(head: Head) -> None: ...

    listener = Listener(
        "test",
        bench.pool,
        # whoever tells of a block is believed that it has no logs
        PooledHeads(bench.roster, {}, announced if wrong.startswith("lacks") else polled),
        follower,
        prefetch,
        shortest_pause=0.0001,
        longest_pause=0.001,
    )
    head = bench.chain.mine(address(1))
    running = asyncio.create_task(listener.run())
    try:
        if wrong.startswith("lacks"):
            await until(lambda: announced.opened > 0)
            announced.announce(head)
        await follower.reach(head, 2.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(follower.blocks[-1][1]) == 1
    assert "eth_getLogs" in fast.seen
    assert bench.roster.order()[0] == "b"


async def test_a_lone_endpoint_that_lies_about_its_head_is_left_out() -> None:
    alone = await Bench(1).probed()
    assert alone.standings() == [Standing.USABLE]
    alone.nodes[0].claims = 1_000_000
    with capture_logs() as lines:
        await alone.probed()
    assert alone.standings() == [Standing.UNPROVEN]
    assert "does not have block 999996 below it" in lines[0]["reason"]
    with pytest.raises(TransientError, match="no usable endpoint: a tells of a head"):
        await alone.pool.request("eth_chainId", [])
    await alone.close()


async def test_a_lone_endpoint_that_proves_itself_is_looked_at_rarely_or_in_doubt() -> None:
    alone, interval = await Bench(1).probed(), 0.02
    (member,), seen = alone.roster.members, alone.nodes[0].seen
    alone.roster.doubt.clear()
    assert await alone.pool.request("eth_getLogs", logs_at(alone, 20)) == []
    assert member.proven_at == alone.clock.now
    running = asyncio.create_task(alone.prober.run(interval, 0.0))
    await asyncio.sleep(10 * interval)
    assert seen == ["eth_getLogs"]
    alone.clock.now += LONE * interval
    member.proven_at = alone.clock.now
    await until(lambda: "eth_chainId" in seen)
    await asyncio.sleep(5 * interval)
    alone.forget()
    alone.roster.doubt.set()
    await until(lambda: "eth_chainId" in seen)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await alone.close()


async def test_what_names_no_block_proves_nothing() -> None:
    alone, interval = await Bench(1).probed(), 0.02
    before = alone.roster.members[0].proven_at
    await alone.pool.request("eth_getBlockByNumber", ["0x1", False])
    assert alone.roster.members[0].proven_at == before
    alone.forget()
    running = asyncio.create_task(alone.prober.run(interval, 0.0))
    await until(lambda: "eth_chainId" in alone.nodes[0].seen)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await alone.close()


async def test_a_block_the_only_endpoint_does_not_know_has_it_looked_at() -> None:
    alone = await Bench(1).probed()
    alone.roster.doubt.clear()
    query = {"blockHash": "0x" + "ee" * 32, "address": ["0x" + "00" * 20], "topics": [["0x"]]}
    with pytest.raises(RpcError):
        await alone.pool.request("eth_getLogs", [query])
    assert alone.roster.doubt.is_set()
    assert alone.pool.states()[0].faults == 0
    await alone.close()


async def test_the_only_endpoint_is_looked_at_when_the_chain_goes_another_way() -> None:
    alone, interval = await Bench(1).probed(), 0.02
    (node,) = alone.nodes
    running = asyncio.create_task(alone.prober.run(interval, 0.0))
    await asyncio.sleep(0)
    node.chain, node.chain_id = FakeChain(), 8
    for _ in range(30):
        node.chain.mine()
    alone.roster.doubt.clear()
    alone.chain = node.chain
    assert await alone.pool.request("eth_getLogs", logs_at(alone, 30)) == []
    assert not alone.roster.doubt.is_set()
    parent = to_hex(node.chain.header(29).hash)
    answer = await alone.pool.request("eth_getBlockByHash", [parent, False])
    assert answer["number"] == hex(29)
    await until(lambda: alone.standings() == [Standing.OTHER_CHAIN])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await alone.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nodes in memory raise no event
            await asyncio.sleep(0.005)


async def test_the_second_reading_asks_another_endpoint(bench: Bench) -> None:
    await bench.probed()
    await bench.pool.request("eth_chainId", [])
    assert (bench.nodes[0].seen, bench.nodes[1].seen) == (["eth_chainId"], [])
    bench.forget()
    await bench.pool.second().request("eth_chainId", [])
    assert (bench.nodes[0].seen, bench.nodes[1].seen) == ([], ["eth_chainId"])
    bench.nodes[1].fails = failing(TransientError("dead"))
    await bench.pool.second().request("eth_chainId", [])
    assert bench.nodes[0].seen == ["eth_chainId"]
    with pytest.raises(ValueError, match="is no read"):
        await bench.pool.second().request("eth_sendRawTransaction", [RAW])


async def test_a_head_without_blocks_below_it_is_not_believed(bench: Bench) -> None:
    bench.nodes[0].claims = 1_000_000
    await bench.probed()
    assert bench.standings() == [Standing.UNPROVEN, Standing.USABLE]


async def test_a_silent_endpoint_is_left_out_at_the_second_look_and_returns(bench: Bench) -> None:
    first = bench.nodes[0]
    first.hangs = True
    await bench.probed()
    assert bench.standings() == [Standing.USABLE] * 2
    await bench.probed()
    assert bench.standings() == [Standing.SILENT, Standing.USABLE]
    first.hangs = False
    await bench.prober.close()
    bench.roster.members[0].look = None
    await bench.probed()
    assert bench.standings() == [Standing.USABLE] * 2


async def test_without_endpoints_the_error_names_aliases_and_one_is_looked_at_soon(
    bench: Bench,
) -> None:
    for node in bench.nodes:
        node.fails = failing(TransientError("secret"))
    await bench.probed(2)
    bench.roster.doubt.clear()
    for method in ("eth_blockNumber", "eth_sendRawTransaction"):
        with pytest.raises(TransientError) as raised:
            await bench.pool.request(method, [RAW])
        expected = "no usable endpoint: a gives no answer, b gives no answer"
        assert str(raised.value) == expected
    assert all(node.seen == [] for node in bench.nodes)
    assert bench.roster.doubt.is_set()
    for node in bench.nodes:
        node.fails = lambda _: None
    await bench.probed()
    assert await bench.pool.request("eth_getBlockByNumber", ["0x1", False])


async def test_a_slow_look_is_not_taken_for_a_new_one(bench: Bench) -> None:
    first = bench.nodes[0]
    first.hangs = True
    await bench.probed()
    slow = bench.roster.members[0].look
    assert slow is not None
    assert not slow.done()
    await bench.probed()
    assert bench.roster.members[0].look is slow, "one look at a time"


async def test_connecting_where_nobody_answers_names_aliases() -> None:
    endpoints = [("http://127.0.0.1:1/s3cr3tK3y00", "main"), ("ws://127.0.0.1:1/", "spare")]
    with pytest.raises(TransientError) as raised:
        async with connect_pool(endpoints, 1, attempts=1):
            pass
    expected = "no usable endpoint: main gives no answer, spare gives no answer"
    assert str(raised.value) == expected


async def test_an_unknown_scheme_is_the_operators() -> None:
    with pytest.raises(ConfigError):
        async with connect_pool([("ftp://127.0.0.1/", "main")], 1):
            pass
