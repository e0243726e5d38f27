"""Write a chain's tape: follow it with a book of its own, and keep what every head showed."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from keeper.app.endpoints import Connection, open_endpoints
from keeper.app.inventory import make_inventory
from keeper.app.lenders import make_lenders
from keeper.app.loading import load_at_newest
from keeper.app.looking import HEADS
from keeper.app.taped import Taped, chain_of, title_of
from keeper.app.watched import Watched
from keeper.book.book import Book, Reads as Wanted
from keeper.book.widen import missing, widen
from keeper.chain.assembler import Assembler
from keeper.chain.blocks import Blocks
from keeper.chain.fee_history import FeeHistories
from keeper.chain.parse import blob, quantity
from keeper.chain.ranges import LogRanges
from keeper.chain.reader import ChainReader
from keeper.conditions import Conditions
from keeper.config import Chain, Settings
from keeper.errors import ConfigError, ReorgTooDeepError, StateGoneError, TransientError
from keeper.ports import Placing, Progress, Telling
from keeper.tape.asking import TappedRpc
from keeper.tape.reading import End, holds_state, read_tape, read_title
from keeper.tape.records import Block, Liquidation, Reads, Record, State, Taken, Undone
from keeper.tape.writing import Sizes, TapeWriter
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import Address, Hash, Wei, to_hex

log = structlog.get_logger(__name__)

WINDOW = 16
"""Blocks asked for at once while the chain is ahead; each window is one chunk of the tape."""
LONGEST_PAUSE = 15.0

Early = tuple[tuple[Wanted, list[Call]], list[CallResult] | None]
"""What was asked for before its block was folded, and the answers."""


@dataclass(slots=True)
class Recorded:
    """What one recording came to."""

    first: int = 0
    last: int = 0
    heads: int = 0
    unread: int = 0
    liquidations: int = 0
    continued_at: int | None = None
    cut_off: bool = False
    sizes: Sizes = field(default_factory=Sizes)


class UnloadedError(TransientError):
    """Report that a part could not be loaded: a tape without it would say that nothing happens there."""


class TapedBook:
    """Drive a book and write down every block folded and undone; satisfies `ports.Follower`."""

    def __init__(self, book: Book, add: Callable[[Record], None]) -> None:
        self.book = book
        self._add = add
        self.folded: dict[bytes, tuple[Head, Sequence[Log]]] = {}

    @property
    def head(self) -> Head | None:
        """Return the last folded head."""
        return self.book.head

    def watch(self) -> Watch:
        """Return everything to watch now."""
        return self.book.watch()

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Apply one block's logs in order."""
        slim = replace(head, bloom=b"")  # half of a quiet block, and of no use any more
        self.book.fold(slim, logs)
        self._add(Block(slim, logs))
        self.folded[head.hash] = (slim, logs)

    def undo(self) -> None:
        """Take the last folded block back."""
        head = self.book.head
        self.book.undo()
        self._add(Undone())
        if head is not None:
            self.folded.pop(head.hash, None)


class Recorder:
    """Follow one chain and write its tape; `run` goes on until the last block, or for ever."""

    def __init__(
        self,
        name: str,
        table: Chain,
        connection: Connection,
        path: Path,
        progress: Progress | None,
        told: Callable[[Recorded], None],
    ) -> None:
        self._name = name
        self._table = table
        self._connection = connection
        self._path = path
        self._told = told
        self._rpc = TappedRpc(connection.rpc, self._add)
        self._plain = ChainReader(connection.rpc, table.multicall, progress=progress)
        self._reader = ChainReader(self._rpc, table.multicall, progress=progress)
        self._blocks = Blocks(connection.rpc, trust_bloom=table.trust_bloom)
        self._histories = FeeHistories(self._rpc, lambda _: None)
        self._inventory = make_inventory(table)
        self._stocked = -HEADS
        self._conditions = Conditions(table.inclusion_model, inventory=self._inventory)
        self._looked: Hash | None = None
        self.recorded = Recorded()

    async def open(self, first: int | None) -> None:
        """Begin a tape, at a block or at the chain's head, or go on with the one that is there.

        One that was cut off before its first state is begun anew: it holds nothing.
        """
        if self._path.exists() and self._path.stat().st_size and holds_state(self._path):
            await self._resume(first)
        else:
            await self._begin(first)
        self.recorded.sizes = self._writer.sizes

    def close(self) -> None:
        """Let go of the file, everything in it."""
        with suppress(AttributeError):
            self._writer.close()

    async def run(self, last: int | None) -> None:
        """Record until a block, or until cancelled."""
        pause = 1.0
        while True:
            try:
                async with self._connection.feed.open() as queue:
                    while await self._catch_up(last):
                        await queue.take()
                        pause = 1.0
            except TransientError as error:
                told = {"chain": self._name, "error": str(error), "longest_pause": pause}
                log.warning("recording.retried", **told)
            else:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _catch_up(self, last: int | None) -> bool:
        """Record up to the chain's head; False once the last block is on the tape."""
        while True:
            latest = await self._blocks.latest()
            end = latest.number if last is None else min(latest.number, last)
            head = self._head
            try:
                if await self._is_left_off(head, latest):
                    await self._finish()
                    self._flush()
                elif end > head.number:
                    await self._record(head.number + 1, min(end, head.number + WINDOW))
                elif not self._assembler.holds(latest) and end == latest.number:
                    await self._step(latest, None)
                    self._flush()
                else:
                    return last is None or head.number < last
            except ReorgTooDeepError as error:
                await self._restate(str(error))

    async def _is_left_off(self, head: Head, latest: Head) -> bool:
        """Tell whether something failed once the book had come to a head the chain still holds."""
        if self._looked == head.hash or latest.number < head.number:
            return False
        return (await self._blocks.by_number(head.number)).hash == head.hash

    async def _record(self, first: int, last: int) -> None:
        heads = await asyncio.gather(
            *(self._blocks.by_number(number) for number in range(first, last + 1))
        )
        wanted = self._wanted()
        early = await asyncio.gather(*(self._read(wanted[1], head) for head in heads))
        for head, results in zip(heads, early, strict=True):
            await self._step(head, (wanted, results))
        self._flush()

    async def _step(self, head: Head, early: Early | None) -> None:
        """Bring the book to a head and write down what happened there."""
        await self._assembler.advance(head, [head])
        await self._finish(early)

    async def _finish(self, early: Early | None = None) -> None:
        """Write down who was liquidated up to the book's head, and what is decided on there.

        Whatever fails on the way can be asked for again; nothing is told twice.
        """
        found = await self._liquidations(self._taped.folded.values())
        self._taped.folded = {}
        if found:
            self._add(Taken(found))
            self.recorded.liquidations += len(found)
        for part, fault in self._book.parts.faults.items():
            await self._restate(f"{part}: {fault.why}")
            return
        await self._look(self._head, early)

    async def _look(self, head: Head, early: Early | None = None) -> None:
        """Write down what a decision at the book's head rests on."""
        self._rpc.is_kept = True
        try:
            for part, tokens in list(missing(self._book)):
                with suppress(TransientError):
                    await widen(self._book, part, tokens, self._reader, Blocks(self._rpc))
            if self._table.inclusion_model.orders_by_fee:
                self._histories.begin(head, bidding=True)
                await self._histories.settled()
        finally:
            self._rpc.is_kept = False
        await self._take_stock(head)
        wanted = self._wanted()
        if early is not None and early[0] == wanted:
            results = early[1]
        else:
            results = await self._read(wanted[1], head)
        if results is None:
            self.recorded.unread += 1
        else:
            self._add(Reads(wanted[1], results))
            # what an oracle asks next rests on what it heard
            self._book.observe(wanted[0], results[: len(wanted[0].calls)], head)
        self._looked = head.hash
        self.recorded.heads += 1
        self.recorded.last = head.number

    def _wanted(self) -> tuple[Wanted, list[Call]]:
        reads = self._book.reads()
        asked = [] if self._lenders is None else self._lenders.questions()
        return reads, [*reads.calls, *self._conditions.calls(), *asked]

    async def _take_stock(self, head: Head) -> None:
        """Find what the contract has of its own, now and then, as a running keeper does."""
        if self._inventory is None or head.number < self._stocked + HEADS:
            return
        tokens = [
            each for market in self._book.markets.values() for each in market.protocol.tokens()
        ]
        results = await self._read(self._inventory.reads(tokens), head)
        if results is not None:
            self._inventory.follow(self._inventory.read(tokens, results))
            self._stocked = head.number

    async def _read(self, calls: Sequence[Call], head: Head) -> list[CallResult] | None:
        """Return the answers at a head, None when the node does not hold its state any more."""
        try:
            return await self._plain.multicall(calls, head.hash)
        except StateGoneError:
            return None

    async def _liquidations(
        self, blocks: Iterable[tuple[Head, Sequence[Log]]]
    ) -> list[Liquidation]:
        found: list[tuple[str, Log, tuple[Address, Address, Address, int, int, Address]]] = []
        for _, logs in blocks:
            for each in logs:
                for market, book in self._book.markets.items():
                    protocol = book.protocol
                    if not isinstance(protocol, Telling):
                        continue
                    try:
                        told = protocol.liquidation(each)
                        if told is not None and isinstance(protocol, Placing):
                            found.append((protocol.place_told(each), each, told))
                        elif told is not None:
                            found.append((market, each, told))
                    except Exception:
                        # A state that cannot be right may not know its own log.
                        if f"market/{market}" not in self._book.parts.faults:
                            raise
        hashes = sorted({each.tx_hash for _, each, _ in found})
        receipts = await asyncio.gather(
            *(
                self._connection.rpc.request("eth_getTransactionReceipt", [to_hex(each)])
                for each in hashes
            )
        )
        paid = dict(zip(hashes, receipts, strict=True))
        return [
            _liquidation(market, each, told, paid[each.tx_hash]) for market, each, told in found
        ]

    @property
    def _head(self) -> Head:
        return self._assembler.head

    async def _begin(self, first: int | None) -> None:
        kept: list[Record] = []
        rpc = TappedRpc(self._connection.rpc, kept.append)
        rpc.is_kept = True
        await Watched.discover(ChainReader(rpc, self._table.multicall), self._name, self._table)
        try:
            state = await self._load(first)
        except UnloadedError as error:
            raise ConfigError(str(error), "mend it, or leave it out of the settings") from None
        self._writer = TapeWriter(self._path)
        self._add(title_of(self._name, self._table))
        for record in kept:
            self._add(record)
        self._add(state)
        self.recorded.first = state.head.number
        await self._look(state.head)
        self._flush()

    async def _load(self, first: int | None) -> State:
        """Load a book from the chain and return its state, at the head or before a first block."""
        watched = await Watched.discover(self._plain, self._name, self._table)
        if first is None:
            head = await load_at_newest(self._name, self._plain, watched.bootstrap)
        else:
            latest = await self._plain.head()
            if first > latest.number:
                raise ConfigError(f"--from {first}: the chain stands at {latest.number}")
            head = await self._plain.head(max(first - 1, 0))
            try:
                await watched.bootstrap(head, latest)
            except StateGoneError as error:
                raise ConfigError(
                    f"--from {first}: the node does not hold that block's state ({error})",
                    "use an archive node, or record from now on",
                ) from None
        if watched.unloaded:
            told = "; ".join(f"{part}: {why}" for part, why in watched.unloaded.items())
            raise UnloadedError(f"chains.{self._name}: not loaded: {told}")
        pages = {name: list(encode()) for name, encode in watched.snapshot().items()}
        # from the very pages on the tape, so that a replay's book is this one
        await watched.restore(lambda source: pages[source], head, head)
        state = State(replace(head, bloom=b""), pages)
        self._follow(watched, state.head)
        return state

    async def _resume(self, first: int | None) -> None:
        """Bring a book along the tape to its end, and go on from there."""
        where, end = str(self._path), End()
        title = read_title(self._path)
        settings = Settings.model_construct(chains={self._name: self._table})
        chain_of(title, settings, where)
        taped = await Taped.open(self._name, self._table, read_tape(self._path, end), where)
        start = taped.head.number
        untold, looked = await _bring_along(taped)
        if first is not None and first - 1 != start:
            raise ConfigError(f"{where}: the tape begins at block {start + 1}", "leave --from out")
        self._writer = TapeWriter(self._path, end)
        self._follow(taped.watched, taped.head, taped.book)
        self._taped.folded = {head.hash: (head, logs) for head, logs in untold}
        self._looked = looked
        self.recorded.first = start
        self.recorded.last = self.recorded.continued_at = taped.head.number
        self.recorded.cut_off = end.is_torn
        await self._rewind()

    async def _rewind(self) -> None:
        """Take back the tape's last blocks that the chain no longer holds."""
        while True:
            head = self._taped.head
            if head is None:
                break
            try:
                if (await self._blocks.by_number(head.number)).hash == head.hash:
                    break
                self._taped.undo()
            except ReorgTooDeepError as error:
                await self._restate(str(error))
                break
        self._flush()

    async def _restate(self, why: str) -> None:
        """Load everything anew at the chain's head and put that state on the tape."""
        log.warning("recording.restated", chain=self._name, reason=why)
        state = await self._load(None)
        self._add(state)
        await self._look(state.head)

    def _follow(self, watched: Watched, head: Head, book: Book | None = None) -> None:
        if book is None:
            book = Book(
                self._name,
                list(watched.markets.values()),
                list(watched.venues.values()),
                watched.native,
            )
            book.stand_at(head)
        self._book = book
        self._lenders = make_lenders(self._name, self._table, watched, self._plain)
        self._taped = TapedBook(book, self._add)
        self._looked = None
        ranges = LogRanges(self._connection.rpc)
        self._assembler = Assembler(self._name, self._blocks, ranges, self._taped)

    def _add(self, record: Record) -> None:
        self._writer.add(record)

    def _flush(self) -> None:
        self._writer.flush()
        self._told(self.recorded)


async def record(
    settings: Settings,
    chain: str,
    path: Path,
    first: int | None = None,
    last: int | None = None,
    progress: Callable[[str], Progress] | None = None,
    told: Callable[[Recorded], None] = lambda _: None,
) -> Recorded:
    """Write a tape of one chain, from its head on or from a block, until a block or for ever.

    A tape that is there is gone on with. Raises `ConfigError` for one that is damaged or of another
    chain, `TransientError` when the node cannot be reached at the start.
    """
    table = settings.chains[chain]
    async with AsyncExitStack() as stack:
        connection = await open_endpoints(table, stack)
        about = None if progress is None else progress(chain)
        recorder = Recorder(chain, table, connection, path, about, told)
        stack.callback(recorder.close)
        await recorder.open(first)
        await recorder.run(last)
        return recorder.recorded


async def _bring_along(taped: Taped) -> tuple[list[tuple[Head, Sequence[Log]]], Hash | None]:
    """Go through a tape; return the blocks whose liquidations it lacks, and the last head read at.

    A recorder that was stopped between a block and what happened there leaves some.
    """
    untold: list[tuple[Head, Sequence[Log]]] = []
    looked: Hash | None = None
    async for moment in taped.moments():
        match moment:
            case Block():
                _drop_from(moment.head.number, untold)
                untold.append((moment.head, moment.logs))
            case Taken():
                untold.clear()
            case Reads():
                untold.clear()
                looked = taped.head.hash
    _drop_from(taped.head.number + 1, untold)
    return untold, looked


def _drop_from(number: int, blocks: list[tuple[Head, Sequence[Log]]]) -> None:
    """Take out the blocks that were undone."""
    while blocks and blocks[-1][0].number >= number:
        blocks.pop()


def _liquidation(
    market: str,
    each: Log,
    told: tuple[Address, Address, Address, int, int, Address],
    receipt: Mapping[str, Any] | None,
) -> Liquidation:
    if receipt is None:
        raise TransientError("the node does not hold the receipt of a liquidation")
    return Liquidation(
        market,
        *told,
        Address(blob(receipt["to"] or "0x")),
        each.tx_hash,
        each.block_number,
        quantity(receipt["transactionIndex"]),
        quantity(receipt["gasUsed"]),
        Wei(quantity(receipt["effectiveGasPrice"])),
    )
