"""One head with exactly its logs, folded in order; gaps filled, reorgs undone, on any path."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from keeper.chain import bloom
from keeper.chain.backfill import logs_by_block
from keeper.chain.blocks import Blocks
from keeper.chain.ranges import LogRanges
from keeper.errors import InvariantError, ReorgTooDeepError, TransientError
from keeper.ports import Follower
from keeper.types import Head, Log, Watch
from keeper.units import Hash


class Assembler:
    """Bring a follower to a head through every block in between.

    Whatever fails on the way raises `TransientError` and leaves the follower at a whole block, so
    that the same step can be asked for again; `ReorgTooDeepError` says that no step can lead there.
    `touched` is called before anything is folded or undone, `reorged` with the depth of each reorg.
    """

    def __init__(
        self,
        chain: str,
        blocks: Blocks,
        ranges: LogRanges,
        follower: Follower,
        *,
        touched: Callable[[], None] = lambda: None,
        reorged: Callable[[int], None] = lambda _: None,
        window: int = 64,
        memory: int = 1024,
    ) -> None:
        self._chain = chain
        self._blocks = blocks
        self._ranges = ranges
        self._follower = follower
        self._touched = touched
        self._reorged = reorged
        self._window = window
        self._memory = memory
        self._trail: dict[Hash, int] = {}

    @property
    def head(self) -> Head:
        """Return where the follower stands; raise `InvariantError` before its bootstrap."""
        head = self._follower.head
        if head is None:
            raise InvariantError(self._chain, "nothing was bootstrapped to follow from")
        if not self._trail or next(reversed(self._trail)) != head.hash:
            self._trail = {head.hash: head.number}
        return head

    def holds(self, head: Head) -> bool:
        """Tell whether a block is among those folded and not undone."""
        return self.head.hash == head.hash or head.hash in self._trail

    async def advance(self, target: Head, known: Sequence[Head] = ()) -> int:
        """Fold up to `target`, undoing what is not its ancestor; return how many blocks were folded.

        `known` are headers already at hand, saved from being asked for. A target that was folded
        before is left alone: it is a late notification.
        """
        at_hand = {head.hash: head for head in known}
        folded = 0
        while not self.holds(target):
            branch = await self._branch(target, at_hand)
            self._rewind(branch[0].parent)
            folded += await self._fold(branch)
        return folded

    async def _branch(self, target: Head, at_hand: Mapping[Hash, Head]) -> list[Head]:
        """Return linked headers towards the target, the first of which continues a folded block."""
        oldest = next(iter(self._trail.values()))
        if target.number <= oldest:
            await self._require_lag(target, oldest)
            raise TransientError(f"block {target.number} is not past block {oldest}: the node lags")
        heads = await self._ahead(target, at_hand)
        while heads[0].parent not in self._trail:
            if heads[0].number <= oldest:
                raise self._too_deep(oldest)
            parent = heads[0].parent
            heads.insert(0, at_hand.get(parent) or await self._blocks.by_hash(parent))
        return heads

    async def _require_lag(self, target: Head, oldest: int) -> None:
        """Tell a chain that holds another block at the oldest one's height from a node that lags."""
        if target.number != oldest:
            return
        if (await self._blocks.by_number(oldest)).hash == target.hash:
            raise self._too_deep(oldest)

    def _too_deep(self, oldest: int) -> ReorgTooDeepError:
        return ReorgTooDeepError(
            self._chain, f"the chain was reorganised below block {oldest}, the oldest kept"
        )

    async def _ahead(self, target: Head, at_hand: Mapping[Hash, Head]) -> list[Head]:
        first = self.head.number + 1
        if target.number - first > self._window:
            return _linked_from_first(await self._by_number(first, first + self._window - 1))
        heads = [target]
        while heads[0].number > first and heads[0].parent in at_hand:
            heads.insert(0, at_hand[heads[0].parent])
        missing = await self._by_number(first, heads[0].number - 1)
        while missing and missing[-1].hash == heads[0].parent:
            heads.insert(0, missing.pop())
        return heads

    async def _by_number(self, first: int, last: int) -> list[Head]:
        numbers = range(first, last + 1)
        return list(await asyncio.gather(*(self._blocks.by_number(each) for each in numbers)))

    def _rewind(self, ancestor: Hash) -> None:
        depth = 0
        while self.head.hash != ancestor:
            self._touched()
            self._undo()
            depth += 1
        if depth:
            self._reorged(depth)

    async def _fold(self, heads: Sequence[Head]) -> int:
        watch = self._follower.watch()
        logs = await self._logs(heads, watch)
        position = 0
        while position < len(heads):
            head = heads[position]
            self._touched()
            self._follower.fold(head, logs[position])
            wider = bloom.union(watch, self._follower.watch())
            if wider is not watch:
                # A contract discovered in this block may have logged in this very block.
                self._follower.undo()
                watch = wider
                logs[position:] = await self._logs(heads[position:], watch)
                continue
            self._remember(head)
            position += 1
            if position < len(heads):
                await asyncio.sleep(0)
        return len(heads)

    async def _logs(self, heads: Sequence[Head], watch: Watch) -> list[Sequence[Log]]:
        if len(heads) == 1:
            return [await self._blocks.logs(heads[0], watch)]
        return await logs_by_block(self._blocks, self._ranges, heads, watch)

    def _undo(self) -> None:
        self._follower.undo()
        self._trail.popitem()

    def _remember(self, head: Head) -> None:
        self._trail[head.hash] = head.number
        if len(self._trail) > self._memory:
            del self._trail[next(iter(self._trail))]


def _linked_from_first(heads: Sequence[Head]) -> list[Head]:
    linked = [heads[0]]
    for head in heads[1:]:
        if head.parent != linked[-1].hash:
            break
        linked.append(head)
    return linked
