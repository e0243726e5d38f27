"""Every borrower of every market as one packed immutable record, in shards that freeze uncopied.

A key is the market's number (4 bytes) and the borrower (20); a record is collateral and borrow
shares, 16 bytes each, as Morpho keeps them in uint128.
"""

from collections.abc import Iterator, Mapping

from keeper.units import Address

SHARDS = 256
KEY = 24
RECORD = 32
HALF = 16
EMPTY = bytes(RECORD)
"""The record of whoever holds and owes nothing; it is never kept."""


def key_of(number: int, borrower: Address) -> Address:
    """Return the key of a borrower in the market of a number."""
    return Address(number.to_bytes(KEY - 20, "big") + borrower)


def number_of(key: Address) -> int:
    """Return the number of the market a key is of."""
    return int.from_bytes(key[: KEY - 20], "big")


def borrower_of(key: Address) -> Address:
    """Return the borrower a key is of."""
    return Address(key[KEY - 20 :])


def pack(collateral: int, shares: int) -> bytes:
    """Return a record; raise `OverflowError` for what no uint128 holds."""
    return collateral.to_bytes(HALF, "big") + shares.to_bytes(HALF, "big")


def unpack(record: bytes) -> tuple[int, int]:
    """Return collateral and borrow shares."""
    return int.from_bytes(record[:HALF], "big"), int.from_bytes(record[HALF:], "big")


class Accounts:
    """Records by key; the first write to a shard after a freeze copies that shard alone."""

    def __init__(self) -> None:
        self._shards: list[dict[Address, bytes]] = [{} for _ in range(SHARDS)]
        self._frozen = [False] * SHARDS

    def __iter__(self) -> Iterator[Address]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def get(self, key: Address) -> bytes:
        """Return a record, `EMPTY` for nobody's."""
        return self._shards[key[-1]].get(key, EMPTY)

    def put(self, key: Address, record: bytes) -> None:
        """Keep a record."""
        number = key[-1]
        if self._frozen[number]:
            self._shards[number] = dict(self._shards[number])
            self._frozen[number] = False
        if record == EMPTY:
            self._shards[number].pop(key, None)
        else:
            self._shards[number][key] = record

    def shard(self, number: int) -> Mapping[Address, bytes]:
        """Return one shard, to be read before the next write."""
        return self._shards[number]

    def freeze(self) -> list[Mapping[Address, bytes]]:
        """Return all shards as they stand; later writes copy what they touch first."""
        self._frozen = [True] * SHARDS
        return list(self._shards)
