"""One feed over several endpoints: which is opened, and when it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from keeper.chain.heads import HeadQueue
from keeper.chain.pooled_heads import PooledHeads
from keeper.errors import TransientError
from keeper.types import Head
from tests.fake_chain import FakeChain, FakeFeed


class Standings:
    """A pool whose order is set."""

    def __init__(self, *order: str) -> None:
        self.ranked = list(order)
        self.preferences: list[str] = []
        self.read_from = ""
        self.blamed: list[str] = []
        self.heard: list[tuple[str, int]] = []
        self.changed = asyncio.Event()

    def order(self) -> list[str]:
        return self.ranked

    @property
    def preferred(self) -> str:
        return self.read_from or "".join(self.preferences[-1:])

    def prefer(self, alias: str) -> None:
        self.preferences.append(alias)

    def told(self, alias: str, head: Head) -> None:
        self.heard.append((alias, head.number))

    def blame(self, alias: str) -> None:
        self.blamed.append(alias)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()

    def nobody(self) -> TransientError:
        return TransientError("nobody")

    def now(self, *order: str) -> None:
        self.ranked = list(order)
        self.changed.set()


async def ended(queue: HeadQueue) -> str:
    with pytest.raises(TransientError) as raised:
        async with asyncio.timeout(5):
            await queue.take()
    return str(raised.value)


async def lose(feed: PooledHeads) -> None:
    with pytest.raises(TransientError, match="lost"):
        async with feed.open():
            raise TransientError("lost")


async def take_from(feed: PooledHeads, meanwhile: Callable[[], None]) -> None:
    async with feed.open() as queue, asyncio.timeout(5):
        meanwhile()
        await queue.take()


@pytest.fixture
async def feeds() -> AsyncIterator[dict[str, FakeFeed]]:
    yield {"a": FakeFeed(), "b": FakeFeed()}
    left = [task for task in asyncio.all_tasks() if "PooledHeads" in repr(task.get_coro())]
    assert left == []


async def test_the_best_is_opened_and_read_from(feeds: dict[str, FakeFeed]) -> None:
    pool = Standings("http", "b", "a")
    async with PooledHeads(pool, feeds, None).open():
        assert (feeds["a"].opened, feeds["b"].opened) == (0, 1)
    assert (pool.preferences, pool.blamed) == (["b"], [])


async def test_the_pool_hears_who_tells_of_which_head(feeds: dict[str, FakeFeed]) -> None:
    pool, chain = Standings("a"), FakeChain()
    async with PooledHeads(pool, feeds, None).open() as queue:
        queue.append(chain.head)
        assert pool.heard == []
        await queue.take()
    assert pool.heard == [("a", chain.head.number)]


async def test_after_a_loss_the_next_is_opened(feeds: dict[str, FakeFeed]) -> None:
    pool = Standings("a", "b")
    feed = PooledHeads(pool, feeds, None)
    await lose(feed)
    await lose(feed)
    await lose(feed)
    assert pool.preferences == ["a", "b", "a"]
    assert pool.blamed == ["a", "b", "a"]


async def test_the_only_one_is_opened_again(feeds: dict[str, FakeFeed]) -> None:
    pool = Standings("a")
    feed = PooledHeads(pool, feeds, None)
    await lose(feed)
    await lose(feed)
    assert feeds["a"].opened == 2


async def test_one_that_refuses_is_passed_over(feeds: dict[str, FakeFeed]) -> None:
    feeds["a"].refusals = 1
    pool = Standings("a", "b")
    async with PooledHeads(pool, feeds, None).open():
        assert feeds["b"].opened == 1
    assert pool.blamed == ["a"]


async def test_it_ends_when_its_endpoint_is_left_out(feeds: dict[str, FakeFeed]) -> None:
    pool = Standings("a", "b")
    async with PooledHeads(pool, feeds, None).open() as queue:
        pool.now("b")
        assert await ended(queue) == "a: left out"


async def test_without_a_socket_it_polls_until_one_is_usable(feeds: dict[str, FakeFeed]) -> None:
    pool, polled = Standings("http"), FakeFeed()
    async with PooledHeads(pool, feeds, polled, polling=0).open() as queue:
        assert polled.opened == 1
        await asyncio.sleep(0)
        pool.now("http", "a")
        assert await ended(queue) == "a WebSocket can be tried again"


@pytest.mark.parametrize("is_polled", [False, True])
async def test_a_wrong_answer_is_the_fault_of_whoever_is_read_from(
    feeds: dict[str, FakeFeed], is_polled: bool
) -> None:
    pool = Standings("http") if is_polled else Standings("a", "http")
    pool.read_from = "http"
    await lose(PooledHeads(pool, feeds, FakeFeed()))
    assert pool.blamed == ["http"]


async def test_a_lost_connection_is_the_fault_of_its_endpoint(feeds: dict[str, FakeFeed]) -> None:
    pool = Standings("a", "http")
    pool.read_from = "http"
    with pytest.raises(TransientError, match="dropped"):
        await take_from(PooledHeads(pool, feeds, None), feeds["a"].drop)
    assert pool.blamed == ["a"]


async def test_an_announcement_nobody_can_read_is_the_fault_of_who_sent_it() -> None:
    def unreadable(raw: object) -> Head:
        raise TransientError("malformed")

    queue = HeadQueue(unreadable)
    queue.append(b"")
    queue.end(TransientError("closed"))
    assert await ended(queue) == "malformed"
    assert str(queue.error) == "malformed"


async def test_polling_ends_by_the_fault_of_whoever_is_asked_or_by_nobodys(
    feeds: dict[str, FakeFeed],
) -> None:
    pool, polled = Standings("http"), FakeFeed()
    feed = PooledHeads(pool, feeds, polled, polling=0)
    with pytest.raises(TransientError, match="dropped"):
        await take_from(feed, polled.drop)
    assert pool.blamed == [], "nobody was asked yet"
    pool.read_from = "http"
    with pytest.raises(TransientError, match="dropped"):
        await take_from(feed, polled.drop)
    assert pool.blamed == ["http"]
    with pytest.raises(TransientError, match="a WebSocket can be tried again"):
        await take_from(feed, lambda: pool.now("http", "a"))
    assert pool.blamed == ["http"]


async def test_without_anything_it_says_why(feeds: dict[str, FakeFeed]) -> None:
    with pytest.raises(TransientError, match="nobody"):
        async with PooledHeads(Standings(), feeds, None).open():
            pass
    feeds["a"].refusals = 1
    with pytest.raises(TransientError, match="refused"):
        async with PooledHeads(Standings("a"), feeds, None).open():
            pass
