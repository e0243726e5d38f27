"""A part of the book that is wrong stops alone, is loaded anew, and is folded with the others again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.book.rejoin import Rebuilder, rebuild
from keeper.chain.assembler import Assembler
from keeper.chain.blocks import Blocks
from keeper.chain.ranges import LogRanges
from keeper.errors import IncompleteError, InvariantError, TransientError
from keeper.ports import Reader
from keeper.types import CallResult, Drift, Head, Log, Prices, Token, Undo, Watch
from keeper.units import Address
from tests.fake_chain import TOPIC, FakeChain, address

TOKEN = Token(Address(b"\x01" * 20), "TKN", 18)
FAULT = Fault(FaultKind.DRIFT, "planted", 0)


class Ledger:
    """Holds the data of every log of its addresses; loading reads them from the chain itself."""

    def __init__(self, chain: FakeChain, name: str, *numbers: int) -> None:
        self.name = self.market = name
        self.addresses = frozenset(address(number) for number in numbers)
        self.chain = chain
        self.held: list[bytes] = []
        self.stopped = ""
        self.bad: set[bytes] = set()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.loads = 0
        self.oracle = self

    def watch(self) -> Watch:
        return Watch(self.addresses, frozenset({TOPIC}))

    def true(self, head: Head) -> list[bytes]:
        found: list[bytes] = []
        name = "0x" + head.hash.hex()
        while name in self.chain._known:
            header, logs = self.chain._known[name]
            found = [
                bytes.fromhex(log["data"][2:])
                for log in logs
                if bytes.fromhex(log["address"][2:]) in self.addresses
            ] + found
            name = header["parentHash"]
        return found

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        self.loads += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        self.held = self.true(head)

    def fold(self, log: Log) -> Undo | None:
        if log.data in self.bad:
            self.bad.discard(log.data)
            self.held.append(b"half folded")
            raise IndexError("short")
        self.held.append(log.data)
        return lambda: self.held.__delitem__(-1)

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        return []


class Scans:
    """A reader of which nothing is asked but to forget."""

    def __init__(self) -> None:
        self.forgotten = 0

    async def forget(self) -> None:
        self.forgotten += 1


class Quiet(Ledger):
    """An oracle without logs."""

    def __init__(self, chain: FakeChain) -> None:
        super().__init__(chain, "quiet")

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        return Prices("m", 1, {}, head.hash)


class Scene:
    """A chain, a book of a market and a venue on it, and what moves the book along."""

    def __init__(self) -> None:
        self.chain = FakeChain()
        self.market = Ledger(self.chain, "m", 1, 2)
        self.market.oracle = Quiet(self.chain)
        self.venue = Ledger(self.chain, "v", 3)
        self.faults: list[tuple[str, Fault]] = []
        self.book = Book(
            "test",
            [self.market],  # type: ignore[list-item]
            [self.venue],  # type: ignore[list-item]
            TOKEN,
            lambda part, fault: self.faults.append((part, fault)),
        )
        self.book.stand_at(self.chain.head)
        self.blocks = Blocks(self.chain)
        self.assembler = Assembler("test", self.blocks, LogRanges(self.chain), self.book)

    def mine(self, *numbers: int) -> Head:
        return self.chain.mine(*(address(number) for number in numbers))

    async def follow(self) -> None:
        await self.assembler.advance(self.chain.head)

    async def rebuild(self, part: str) -> Head:
        return await rebuild(self.book, part, None, self.blocks)  # type: ignore[arg-type]

    def assert_true(self) -> None:
        head = self.book.head
        assert head is not None
        assert self.market.held == self.market.true(head)
        assert self.venue.held == self.venue.true(head)

    def spoil_next(self, ledger: Ledger) -> None:
        """Make the ledger's first log of the chain's last block unreadable."""
        ledger.bad.add(ledger.true(self.chain.head)[-1])


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_log_that_does_not_decode_stops_its_market_and_nothing_else(scene: Scene) -> None:
    scene.mine(3, 1, 2, 3)
    scene.spoil_next(scene.market)
    await scene.follow()
    ((part, fault),) = scene.faults
    assert (part, fault.kind, fault.block) == ("market/m", FaultKind.UNDECODABLE, 1)
    assert "log 1 of block 1" in fault.why
    assert "does not decode (IndexError: short)" in fault.why
    assert scene.book.stopped == {"market/m": fault.why}
    assert scene.book.head == scene.chain.head
    assert scene.venue.held == scene.venue.true(scene.chain.head)
    assert scene.book.watch().addresses == scene.venue.addresses
    assert scene.book.reads().calls == ()


async def test_a_rebuilt_market_goes_on_with_the_others_and_is_undone_with_them(
    scene: Scene,
) -> None:
    for _ in range(3):
        scene.mine(1, 3)
    await scene.follow()
    scene.mine(1, 3, 2)
    scene.spoil_next(scene.market)
    await scene.follow()

    async def meanwhile() -> None:
        for _ in range(5):
            scene.mine(2, 3)
            await scene.follow()

    scene.market.meanwhile = meanwhile
    loaded = await scene.rebuild("market/m")
    scene.market.meanwhile = None
    assert loaded.number == 4
    assert scene.book.stopped, "trusted before its positions were loaded"
    assert scene.book.trust("market/m")
    assert scene.book.stopped == {}
    scene.assert_true()
    scene.mine(1, 3)
    await scene.follow()
    scene.assert_true()
    scene.chain.roll_back(5)
    scene.mine(2)
    for _ in range(7):
        scene.mine(3, 1)
    await scene.follow()
    scene.assert_true()
    assert scene.book.stopped == {}
    assert scene.market.loads == 1


async def test_a_reorg_of_the_block_it_was_loaded_at_voids_the_rebuild(scene: Scene) -> None:
    scene.mine(1)
    scene.mine(1)
    scene.spoil_next(scene.market)
    await scene.follow()

    async def meanwhile() -> None:
        scene.chain.roll_back(1)
        scene.mine(2, 3)
        scene.mine(3)
        await scene.follow()

    scene.market.meanwhile = meanwhile
    with pytest.raises(TransientError, match="no longer the chain's"):
        await scene.rebuild("market/m")
    assert len(scene.faults) == 1, "a void rebuild is no second fault"
    scene.market.meanwhile = None
    await scene.rebuild("market/m")
    assert scene.book.trust("market/m")
    scene.assert_true()


async def test_a_rebuild_ends_when_the_whole_book_is_abandoned_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.mine(1)
    scene.spoil_next(scene.market)
    await scene.follow()
    rejoin, looks = scene.book.parts.rejoin, 0

    def counted(part: str) -> bool:
        nonlocal looks
        looks += 1
        assert looks < 100, "it goes round and round, and lets nobody else have a turn"
        return rejoin(part)

    async def meanwhile() -> None:
        scene.book.abandon()

    monkeypatch.setattr(scene.book.parts, "rejoin", counted)
    scene.market.meanwhile = meanwhile
    with pytest.raises(TransientError, match="no longer the chain's"):
        await scene.rebuild("market/m")
    scene.market.meanwhile = None
    scene.venue.held = scene.venue.true(scene.chain.head)
    scene.book.stand_at(scene.chain.head)
    await scene.rebuild("market/m")
    assert scene.book.trust("market/m")
    scene.assert_true()


async def test_a_reorg_below_where_a_trusted_market_was_loaded_stops_it_again(
    scene: Scene,
) -> None:
    for _ in range(4):
        scene.mine(1, 3)
    await scene.follow()
    scene.book.parts.stop("market/m", FAULT)
    await scene.rebuild("market/m")
    assert scene.book.trust("market/m")
    scene.mine(1)
    await scene.follow()
    scene.chain.roll_back(3)
    for _ in range(4):
        scene.mine(2, 3)
    await scene.follow()
    assert [fault.kind for _, fault in scene.faults] == [FaultKind.DRIFT, FaultKind.REORG]
    assert scene.venue.held == scene.venue.true(scene.chain.head)
    await scene.rebuild("market/m")
    assert scene.book.trust("market/m")
    scene.assert_true()


async def test_a_reorg_of_the_block_that_broke_it_still_ends_in_the_truth(scene: Scene) -> None:
    scene.mine(1, 3)
    await scene.follow()
    scene.mine(1, 3)
    scene.spoil_next(scene.market)
    await scene.follow()
    scene.chain.roll_back(1)
    scene.mine(2)
    scene.mine(3)
    await scene.follow()
    assert scene.venue.held == scene.venue.true(scene.chain.head)
    await scene.rebuild("market/m")
    assert scene.book.trust("market/m")
    scene.assert_true()


async def test_a_rebuild_that_lasts_longer_than_blocks_are_held_catches_up(scene: Scene) -> None:
    scene.book.parts.stop("venue/v", FAULT)

    async def meanwhile() -> None:
        for _ in range(300):
            scene.mine(1, 3)
        await scene.follow()

    scene.venue.meanwhile = meanwhile
    await scene.rebuild("venue/v")
    assert scene.book.trust("venue/v")
    scene.assert_true()
    assert len(scene.venue.held) == 300


async def test_an_upgrade_stops_the_market_at_that_block_whatever_it_said_before(
    scene: Scene,
) -> None:
    scene.market.stopped = "the rules of revision 9 are not known"

    def upgrade(log: Log) -> None:
        if log.block_number == 2:
            scene.market.stopped = "code replaced in 2"

    scene.market.fold = upgrade  # type: ignore[method-assign]
    scene.mine(1)
    await scene.follow()
    assert scene.faults == []
    scene.mine(1)
    await scene.follow()
    ((part, fault),) = scene.faults
    assert (part, fault) == ("market/m", Fault(FaultKind.UPGRADED, "code replaced in 2", 2))


async def test_an_undo_that_fails_stops_its_part_only(scene: Scene) -> None:
    scene.mine(1, 3)
    scene.mine(1, 3)
    await scene.follow()
    scene.market.held.clear()
    scene.chain.roll_back(1)
    scene.mine(3)
    scene.mine(3)
    await scene.follow()
    assert [(part, fault.kind) for part, fault in scene.faults] == [
        ("market/m", FaultKind.INVARIANT)
    ]
    assert scene.venue.held == scene.venue.true(scene.chain.head)


async def test_a_contract_discovered_while_catching_up_has_its_block_read_again(
    scene: Scene,
) -> None:
    seen: list[bytes] = []
    fold = scene.venue.fold
    narrow, wide = scene.venue.addresses, scene.venue.addresses | {address(9)}

    def discover(log: Log) -> Undo | None:
        undo = fold(log)
        seen.append(log.address)
        scene.venue.addresses = wide

        def forget() -> None:
            scene.venue.held.pop()
            scene.venue.addresses = narrow

        del undo
        return forget

    scene.book.parts.stop("venue/v", FAULT)

    async def meanwhile() -> None:
        scene.mine(3, 9)
        scene.mine(9)
        await scene.follow()

    scene.venue.meanwhile = meanwhile
    scene.venue.fold = discover  # type: ignore[method-assign]
    await scene.rebuild("venue/v")
    assert seen == [address(3), address(3), address(9), address(9)]
    scene.assert_true()


async def test_pauses_double_are_capped_and_told(scene: Scene) -> None:
    pauses: list[float] = []
    told: list[tuple[str, str]] = []
    loaded: list[str] = []
    done = asyncio.Event()
    refusals = 6

    async def refuse() -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise TransientError("no answer")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async def load(name: str) -> None:
        assert scene.book.stopped, "judged before it was loaded"
        loaded.append(name)

    def rebuilt(part: str, head: Head, seconds: float) -> None:
        told.append((part, f"at {head.number}"))
        done.set()

    def failed(part: str, error: Exception, pause: float) -> None:
        told.append((part, f"{error} {pause:g}"))

    rebuilder = Rebuilder(
        scene.book,
        Scans(),  # type: ignore[arg-type]
        scene.blocks,
        load,
        rebuilt,
        failed,
        first_pause=1.0,
        longest_pause=10.0,
        sleep=sleep,
        monotonic=lambda: 0.0,
    )
    scene.market.meanwhile = refuse
    running = asyncio.create_task(rebuilder.run())
    await asyncio.sleep(0)
    scene.book.parts.stop("market/m", FAULT)
    rebuilder.wake()
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert pauses == [0, 1, 2, 4, 8, 10, 10]
    assert told[0] == ("market/m", "no answer 1")
    assert told[-1] == ("market/m", "at 0")
    assert loaded == ["m"]
    assert scene.book.stopped == {}


async def test_what_was_kept_of_the_history_is_doubted_the_second_time_and_never_outlives_a_rebuild(
    scene: Scene,
) -> None:
    scans, done = Scans(), asyncio.Event()
    seen: list[int] = []

    async def short() -> None:
        seen.append(scans.forgotten)
        match len(seen):
            case 2:
                raise TransientError("no answer")
            case 1 | 3 | 4:
                raise IncompleteError("holders sum to 1, not 2")

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    async def load(_: str) -> None:
        assert scans.forgotten == 1, "forgotten before it was of use"

    rebuilder = Rebuilder(
        scene.book,
        scans,  # type: ignore[arg-type]
        scene.blocks,
        load,
        lambda *_: done.set(),
        lambda *_: None,
        sleep=sleep,
        monotonic=lambda: 0.0,
    )
    scene.market.meanwhile = short
    scene.book.parts.stop("market/m", FAULT)
    running = asyncio.create_task(rebuilder.run())
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen == [0, 0, 0, 1, 1]
    assert scans.forgotten == 2


async def test_only_what_is_stopped_can_be_rebuilt(scene: Scene) -> None:
    with pytest.raises(InvariantError, match="venue/v is not stopped"):
        await scene.rebuild("venue/v")
