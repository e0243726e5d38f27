"""Figures of many accounts that are frozen in an instant and written on."""

from collections.abc import Iterator, MutableMapping
from typing import Any, TypeVar

from keeper.units import Address

Value = TypeVar("Value")
SHARDS = 256


class Column(MutableMapping[Address, Value]):
    """One figure by account, in shards by an address's last byte.

    `freeze` shares every shard; the first write to a shared one copies that shard alone.
    """

    __slots__ = ("_owned", "_shards")

    def __init__(self) -> None:
        self._shards: list[dict[Address, Value]] = [{} for _ in range(SHARDS)]
        self._owned = bytearray(b"\1" * SHARDS)

    def freeze(self) -> "Column[Value]":
        """Return a column that stays as this one is now."""
        frozen: Column[Value] = Column.__new__(Column)
        frozen._shards = self._shards.copy()
        frozen._owned = bytearray(SHARDS)
        self._owned = bytearray(SHARDS)
        return frozen

    def __deepcopy__(self, memo: object) -> "Column[Value]":
        return self.freeze()

    def get(self, account: Address, default: Any = None) -> Any:
        """Return an account's figure."""
        return self._shards[account[-1]].get(account, default)

    def __getitem__(self, account: Address) -> Value:
        return self._shards[account[-1]][account]

    def __contains__(self, account: object) -> bool:
        return isinstance(account, bytes) and account in self._shards[account[-1]]

    def __setitem__(self, account: Address, value: Value) -> None:
        self._written(account)[account] = value

    def __delitem__(self, account: Address) -> None:
        del self._written(account)[account]

    def pop(self, account: Address, default: Any = None) -> Any:
        """Forget an account's figure, and return it."""
        if account not in self._shards[account[-1]]:
            return default
        return self._written(account).pop(account)

    def __iter__(self) -> Iterator[Address]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def _written(self, account: Address) -> dict[Address, Value]:
        number = account[-1]
        if not self._owned[number]:
            self._shards[number] = self._shards[number].copy()
            self._owned[number] = 1
        return self._shards[number]
