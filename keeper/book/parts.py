"""The sources of one chain folded block by block; what is wrong with one part stops that part."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter, length_hint
from typing import Protocol, runtime_checkable

from keeper.book.faults import Fault, FaultKind, fault_of_log
from keeper.book.raw_folding import RawFolding
from keeper.chain.raw_logs import RawLogs
from keeper.errors import InvariantError, ReorgTooDeepError
from keeper.ports import LendingProtocol, Source
from keeper.types import Head, Log, Undo, Watch
from keeper.units import Address, Hash

UNDO_DEPTH = 256
"""Blocks that can be taken back; a deeper reorg needs a rebuild."""

Fold = Callable[[Iterator[Log], list[Undo]], None]
"""Applies logs in order and appends what takes them back, the ones before a refused one too."""
_TIMESTAMP = itemgetter(Log._fields.index("timestamp"))


@runtime_checkable
class FoldingMany(Source, Protocol):
    """A source that folds many logs for less than one after another costs."""

    def fold_all(self, logs: Iterator[Log], undos: list[Undo]) -> None:
        """Apply logs in order and append what takes them back, the ones before a refused one too.

        Each log is drawn when it is its turn: the last one drawn is the one that was refused.
        """
        ...


@dataclass(slots=True)
class Block:
    """One folded block and what takes it back by part, oldest first."""

    head: Head
    undos: dict[str, list[Undo]] = field(default_factory=dict)


def part_of(source: str) -> str:
    """Return what a source stops and starts with: a market and its oracle are one part."""
    kind, _, name = source.partition("/")
    return f"market/{name}" if kind == "oracle" else source


class Parts:
    """Fold every part of one chain, each stopping alone.

    A part is `market/NAME`, its oracle with it, or `venue/NAME`. One that is stopped is not folded
    with the others: nothing it holds is right until it was loaded anew at some head and caught up
    from there. `on_fault` is told of each part that stops.
    """

    def __init__(
        self,
        chain: str,
        sources: Mapping[str, Source],
        markets: Mapping[str, LendingProtocol],
        on_fault: Callable[[str, Fault], None],
    ) -> None:
        self._chain = chain
        self._sources = dict(sources)
        self._ways = {name: _fold_of(source) for name, source in sources.items()}
        self._markets = {f"market/{name}": market for name, market in markets.items()}
        self._on_fault = on_fault
        self.names = tuple(dict.fromkeys(map(part_of, sources)))
        self.blocks: deque[Block] = deque(maxlen=UNDO_DEPTH)
        self.faults: dict[str, Fault] = {}
        self._apart: dict[str, Head | None] = {}
        self._floors: dict[str, Hash] = {}
        self._stops = dict.fromkeys(self.names, 0)
        self._watches: tuple[tuple[str, Watch], ...] = ()
        self._watch = Watch(frozenset(), frozenset())
        self._folds: list[tuple[str, Fold]] = []
        self._raw = RawFolding((), {})
        self._by_address: dict[Address, tuple[int, ...]] = {}

    @property
    def head(self) -> Head | None:
        """Return the last folded head."""
        return self.blocks[-1].head if self.blocks else None

    def stand_at(self, head: Head) -> None:
        """Start from sources loaded as of exactly this head; what is stopped is to be rebuilt."""
        self.abandon()
        self.blocks.append(Block(head))

    def abandon(self) -> None:
        """Hold no block, while the sources are loaded anew: nothing made on one is sent any more.

        A rebuild under way is void: no block is left that it could catch up with.
        """
        self.blocks.clear()
        self._floors.clear()
        self._apart = dict.fromkeys(self._apart)

    def sources(self, part: str) -> list[tuple[str, Source]]:
        """Return the sources of a part by name."""
        return [each for each in self._sources.items() if part_of(each[0]) == part]

    def is_folded(self, part: str) -> bool:
        """Tell whether a part stands where the book stands."""
        return part not in self._apart

    def stops(self, part: str) -> int:
        """Return how often a part was stopped."""
        return self._stops[part]

    def watch(self) -> Watch:
        """Return the union of what all folded sources watch now."""
        watches = tuple(
            (name, source.watch())
            for name, source in self._sources.items()
            if part_of(name) not in self._apart
        )
        if watches != self._watches:
            self._watches = watches
            self._watch = _union(watch for _, watch in watches)
            self._folds = []
            by_address: dict[Address, list[int]] = {}
            for number, (name, watch) in enumerate(watches):
                self._folds.append((part_of(name), self._ways[name]))
                for address in watch.addresses:
                    by_address.setdefault(address, []).append(number)
            self._by_address = {key: tuple(found) for key, found in by_address.items()}
            sources = [(part_of(name), self._sources[name]) for name, _ in watches]
            self._raw = RawFolding(sources, self._by_address)
        return self._watch

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Apply one block's logs in order; raise `ReorgTooDeepError` when it does not follow.

        Raises `TransientError`, and changes nothing, when raw ones cannot be read.
        """
        last = self.head
        if last is not None and head.parent != last.hash:
            raise ReorgTooDeepError(
                self._chain, f"block {head.number} does not follow {last.number}"
            )
        self.watch()
        before = {part: market.stopped for part, market in self._markets.items()}
        undos: dict[str, list[Undo]] = {}
        rest = self._raw.fold(head, logs, self._apart, undos) if isinstance(logs, RawLogs) else None
        if rest is None:
            logs = _stamped(logs, head.timestamp)
        self.blocks.append(Block(head, undos))
        if rest is None:
            self._fold_nouns(logs, undos)
        else:
            self._fold_queued(rest, undos)
        for part, market in self._markets.items():
            if market.stopped and market.stopped != before[part] and part not in self._apart:
                self.stop(part, Fault(FaultKind.UPGRADED, market.stopped, head.number))

    def _fold_nouns(self, logs: Sequence[Log], undos: dict[str, list[Undo]]) -> None:
        queues: list[list[Log]] = [[] for _ in self._folds]
        by_address = self._by_address
        for log in logs:
            found = by_address.get(log.address)
            if found is None:
                # An earlier log of this block may have made it known.
                self._fold_queued(queues, undos)
                self.watch()
                queues = [[] for _ in self._folds]
                by_address = self._by_address
                found = by_address.get(log.address, ())
            for number in found:
                queues[number].append(log)
        self._fold_queued(queues, undos)

    def _fold_queued(self, queues: Sequence[list[Log]], undos: dict[str, list[Undo]]) -> None:
        """Fold each source's logs: no source's state rests on another's."""
        for (part, fold), queue in zip(self._folds, queues, strict=True):
            if not queue or part in self._apart:
                continue
            logs, done = iter(queue), undos.get(part, [])
            try:
                fold(logs, done)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this part
                with suppress(Exception):
                    _take_back(done)
                self.stop(part, fault_of_log(error, queue[len(queue) - length_hint(logs) - 1]))
                continue
            if done:
                undos[part] = done

    def undo(self) -> None:
        """Take the last block back; raise `ReorgTooDeepError` when none before it is held.

        A part that was loaded at that very block cannot go back beyond it, and stops.
        """
        if len(self.blocks) < 2:
            raise ReorgTooDeepError(self._chain, "the reorg is deeper than the blocks held")
        block = self.blocks.pop()
        for part, undos in list(block.undos.items()):
            try:
                _take_back(undos)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this part
                why = f"block {block.head.number} could not be taken back ({error})"
                self.stop(part, Fault(FaultKind.INVARIANT, why, block.head.number))
        for part, floor in list(self._floors.items()):
            if floor == block.head.hash:
                why = f"block {block.head.number}, at which it was loaded, is no longer the chain's"
                self.stop(part, Fault(FaultKind.REORG, why, block.head.number))
        for part, at in self._apart.items():
            if at is not None and at.hash == block.head.hash:
                self._apart[part] = self.blocks[-1].head

    def stop(self, part: str, fault: Fault) -> None:
        """Take a part out: what it holds is not trusted, and nothing is folded into it.

        The first fault stands until the part is rebuilt; a later one makes a rebuild under way void.
        """
        self._floors.pop(part, None)
        if part in self._apart:
            self._apart[part] = None
            return
        self._stops[part] += 1
        self._apart[part] = None
        self.faults[part] = fault
        for block in self.blocks:
            block.undos.pop(part, None)
        self._on_fault(part, fault)

    def begin(self, part: str) -> Head:
        """Return the head at which a stopped part is to be loaded; its state must be as of it."""
        head = self.head
        if head is None or not (part in self.faults or part in self._apart):
            raise InvariantError(self._chain, f"{part} is not stopped")
        for block in self.blocks:
            block.undos.pop(part, None)
        self._apart[part] = head
        self._floors[part] = head.hash
        return head

    def behind(self, part: str) -> tuple[Head, list[Head]] | None:
        """Return where a part being rebuilt stands, and the blocks held that it has not folded.

        The first of them follows that head unless the blocks between are no longer held. None
        when the rebuild is void.
        """
        at = self._apart.get(part)
        if at is None:
            return None
        ahead: list[Head] = []
        for block in reversed(self.blocks):
            if block.head.hash == at.hash:
                break
            ahead.append(block.head)
        return at, ahead[::-1]

    def watch_of(self, part: str) -> Watch:
        """Return what one part watches now."""
        return _union(source.watch() for _, source in self.sources(part))

    def catch_up(self, part: str, head: Head, logs: Sequence[Log], watched: Watch) -> Watch | None:
        """Fold the block after the one a part being rebuilt stands at.

        When the part then watches more than the `watched` its logs were asked with, nothing is
        folded and that is returned. Raises `InvariantError` when a log cannot be right or upgrades
        the part.
        """
        at = self._apart.get(part)
        if at is None or head.parent != at.hash:
            raise InvariantError(part, f"block {head.number} does not follow where it stands")
        market = self._markets.get(part)
        before = "" if market is None else market.stopped
        undos: list[Undo] = []
        for log in _stamped(logs, head.timestamp):
            for _, source in self.sources(part):
                if log.address not in source.watch().addresses:
                    continue
                try:
                    undo = source.fold(log)
                except Exception as error:
                    raise InvariantError(part, fault_of_log(error, log).why) from error
                if undo is not None:
                    undos.append(undo)
        if market is not None and market.stopped != before:
            raise InvariantError(part, market.stopped)
        wider = self.watch_of(part)
        if not (wider.addresses <= watched.addresses and wider.topics <= watched.topics):
            _take_back(undos)
            return wider
        self._apart[part] = head
        for block in reversed(self.blocks):
            if block.head.hash == head.hash:
                block.undos[part] = undos
        return None

    def attach(self, part: str, source: Source) -> None:
        """Take a source in that is not folded with the others until it was loaded and rejoined."""
        self._sources[part] = source
        self._ways[part] = _fold_of(source)
        self._apart[part] = None

    def detach(self, part: str, into: str | None = None) -> None:
        """Let a source go that was attached; what takes its blocks back goes to the part `into`.

        That part then stops like it would if it had been loaded where this one was.
        """
        self._sources.pop(part, None)
        self._ways.pop(part, None)
        self._apart.pop(part, None)
        floor = self._floors.pop(part, None)
        for block in self.blocks:
            undos = block.undos.pop(part, None)
            if undos and into is not None:
                block.undos.setdefault(into, []).extend(undos)
        if floor is not None and into is not None:
            self._floors[into] = floor

    def rejoin(self, part: str) -> bool:
        """Fold a part with the others again; False unless it stands where the book stands."""
        at, head = self._apart.get(part), self.head
        if at is None or head is None or at.hash != head.hash:
            return False
        del self._apart[part]
        return True

    def trust(self, part: str) -> bool:
        """Judge a part again; False when it was stopped once more meanwhile."""
        if part in self._apart:
            return False
        self.faults.pop(part, None)
        return True


def _stamped(logs: Sequence[Log], timestamp: int) -> Sequence[Log]:
    """Return logs with the timestamp of the block they are of."""
    if all(map(timestamp.__eq__, map(_TIMESTAMP, logs))):
        return logs
    return [log.at(timestamp) for log in logs]


def _fold_of(source: Source) -> Fold:
    return source.fold_all if isinstance(source, FoldingMany) else partial(_fold_each, source)


def _fold_each(source: Source, logs: Iterator[Log], undos: list[Undo]) -> None:
    for log in logs:
        undo = source.fold(log)
        if undo is not None:
            undos.append(undo)


def _union(watches: Iterator[Watch]) -> Watch:
    found = list(watches)
    return Watch(
        frozenset().union(*(watch.addresses for watch in found)),
        frozenset().union(*(watch.topics for watch in found)),
    )


def _take_back(undos: Sequence[Undo]) -> None:
    for undo in reversed(undos):
        undo()
