"""One block's logs as the node sent them, made into nouns only where somebody asks for one."""

from binascii import unhexlify
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import overload

from keeper.chain import parse
from keeper.chain.entries import Entry, entries
from keeper.types import Head, Log, Watch
from keeper.units import to_hex

_REMOVED = attrgetter("removed")


class RawLogs(Sequence[Log]):
    """Logs of one block in chain order, none of them twice and none taken off the chain.

    That, the block they name and their transactions are proven; addresses, topics and data are not.
    Whoever reads `entries` has to; as nouns, all are read at once, or `TransientError` is raised.
    """

    def __init__(self, found: Sequence[Entry], timestamp: int) -> None:
        self.entries = found
        self.timestamp = timestamp

    @cached_property
    def nouns(self) -> list[Log]:
        """Return the logs as nouns."""
        return parse.logs(self.entries, self.timestamp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.nouns == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Log]:
        return iter(self.nouns)

    @overload
    def __getitem__(self, index: int) -> Log: ...
    @overload
    def __getitem__(self, index: slice) -> list[Log]: ...
    def __getitem__(self, index: int | slice) -> Log | list[Log]:
        return self.nouns[index]

    def is_of(self, head: Head) -> bool:
        """Tell whether they name a block, and are stamped with its time."""
        first = self.entries[0]
        return (
            self.timestamp == head.timestamp
            and int(first.block_number, 16) == head.number
            and unhexlify(first.block_hash[2:]) == head.hash
        )

    def doubt(self, head: Head, wanted: Watch) -> str:
        """Say what proves them wrong as an answer about a block, "" if nothing."""
        if not self.is_of(head):
            return "another's"
        try:
            addresses = {unhexlify(text[2:]) for text in {each.address for each in self.entries}}
            topics = {unhexlify(text[2:]) for text in {"".join(e.topics[:1]) for e in self.entries}}
        except ValueError:
            return "one that cannot be read"
        if addresses <= wanted.addresses and topics <= wanted.topics:
            return ""
        return "one not asked for"


def of_block(result: object, timestamp: int) -> Sequence[Log]:
    """Return the logs of an answer that is asked to be one block's, in chain order.

    They are raw where nothing speaks against it. Raises `TransientError` as `parse.logs` does.
    """
    found = entries(result)
    if not found:
        return []
    try:
        is_plain = _is_plain(found)
    except (TypeError, ValueError):
        is_plain = False
    return RawLogs(found, timestamp) if is_plain else parse.logs(found, timestamp)


def having(logs: Sequence[Log], topics: Collection[bytes]) -> Sequence[Log]:
    """Return the logs, or none of raw ones where none has one of these first topics."""
    if not isinstance(logs, RawLogs):
        return logs
    wanted = set(map(to_hex, topics))
    if not any(entry.topics and entry.topics[0].lower() in wanted for entry in logs.entries):
        return []
    return logs.nouns


def _is_plain(found: Sequence[Entry]) -> bool:
    """Tell so of a block's logs, column by column; raise `ValueError` for what cannot be read."""
    count, first = len(found), found[0]
    is_one = [entry.block_number for entry in found].count(first.block_number) == count and [
        entry.block_hash for entry in found
    ].count(first.block_hash) == count
    if not is_one or any(map(_REMOVED, found)):
        return False
    int(first.block_number, 16)
    parse.words([first.block_hash, *{entry.transaction_hash for entry in found}])
    places = parse.places([entry.log_index for entry in found])
    return places == sorted(set(places))
