"""The short way into the book: a block's logs from a node's own words, where they are plain."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from keeper.chain import parse
from keeper.chain.entries import Entry
from keeper.chain.raw_logs import RawLogs
from keeper.errors import TransientError
from keeper.ports import Source
from keeper.types import Head, Log, Undo
from keeper.units import Address, to_hex

Fold = Callable[[Sequence[Entry], int, list[Undo]], bool]


@runtime_checkable
class FoldingRaw(Source, Protocol):
    """A source that folds plain logs without a noun for each."""

    def fold_raw(self, entries: Sequence[Entry], timestamp: int, undos: list[Undo]) -> bool:
        """Apply a block's logs in order and append what takes them back.

        False, and nothing changed, when any is not plain or not right: the long way says what then.
        """
        ...


class RawFolding:
    """Gives each source its logs of a block; `sources` have their part, `owners` who sees what."""

    def __init__(
        self,
        sources: Sequence[tuple[str, Source]],
        owners: Mapping[Address, tuple[int, ...]],
    ) -> None:
        self._folds: list[tuple[str, Fold | None]] = [
            (part, source.fold_raw if isinstance(source, FoldingRaw) else None)
            for part, source in sources
        ]
        self._owners = {to_hex(address): found for address, found in owners.items()}

    def fold(
        self, head: Head, logs: RawLogs, apart: Collection[str], undos: dict[str, list[Undo]]
    ) -> list[list[Log]] | None:
        """Fold what goes the short way, and return the other logs by source.

        None, and nothing changed, when a contract is not known yet or the logs are not of the head.
        Nothing is changed either when `TransientError` is raised for logs that cannot be read.
        """
        queues = self._queues(logs.entries)
        if queues is None or not logs.is_of(head):
            return None
        rest: list[list[Log]] = []
        try:
            for (part, fold), queue in zip(self._folds, queues, strict=True):
                done: list[Undo] = []
                if not queue:
                    rest.append([])
                elif fold is not None and part not in apart and fold(queue, head.timestamp, done):
                    undos.setdefault(part, []).extend(done)
                    rest.append([])
                else:
                    rest.append(parse.logs(queue, head.timestamp))
        except TransientError:
            for done in undos.values():
                while done:
                    done.pop()()
            raise
        return rest

    def _queues(self, entries: Sequence[Entry]) -> list[Sequence[Entry]] | None:
        try:
            owners = {self._owners[contract] for contract in {each.address for each in entries}}
        except KeyError:
            return None
        if len(owners) == 1:
            (owner,) = owners
            return [entries if each in owner else () for each in range(len(self._folds))]
        queues: list[list[Entry]] = [[] for _ in self._folds]
        for entry in entries:
            for number in self._owners[entry.address]:
                queues[number].append(entry)
        return list(queues)
