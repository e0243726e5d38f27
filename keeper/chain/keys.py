"""A set of millions of keys that holds nobody up: many small sets, and no work on all at once."""

from collections.abc import Iterable, Iterator, Set as AbstractSet

SHARDS = 4096
"""At five million keys a shard has 1,200: growing one takes 50 us or so."""


class Keys(AbstractSet[bytes]):
    """Keys that were found; a thread that adds to them lets the others run between."""

    def __init__(self) -> None:
        self._shards: list[set[bytes]] = [set() for _ in range(SHARDS)]
        self._count = 0

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) % SHARDS]

    def __iter__(self) -> Iterator[bytes]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._count

    def release(self) -> None:
        """Forget all keys, a shard at a time, so that other threads run between."""
        self._count = 0
        for number in range(SHARDS):
            self._shards[number] = set()

    def add(self, keys: Iterable[bytes]) -> list[bytes]:
        """Take keys in; return those that were not there, each once."""
        new: list[bytes] = []
        for key in keys:
            shard = self._shards[hash(key) % SHARDS]
            if key not in shard:
                shard.add(key)
                new.append(key)
        self._count += len(new)
        return new
