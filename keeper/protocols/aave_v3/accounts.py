"""Every holder as one packed immutable record, in shards that freeze without being copied.

A record is 17 bytes for the holder (category, then the collateral flags) and 17 for each balance
(token number, then the scaled amount), integers big-endian, balances by ascending token number:
equal accounts have equal bytes. A token number is twice the reserve's id, plus one for the debt.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from keeper.units import Address

STRIDE = 17
EMPTY = bytes(STRIDE)
"""The record of whoever holds nothing and set nothing; it is never kept."""
SHARDS = 1024
"""A write after a freeze copies one shard: at a million holders, 1,000 entries in 10 us or so."""
RESERVES = 128
"""DataTypes.UserConfigurationMap has two bits for each of 128 reserves."""

SUPPLIES = bytes(range(0, 256, 2))
DEBTS = int.from_bytes(b"\0" + b"\1" * 2 * RESERVES, "little")
"""Has a bit in common with a little-endian record[::STRIDE] when any balance is a debt."""
_FROZEN: list[dict[Address, bytes] | None] = [None] * SHARDS


@dataclass(frozen=True, slots=True)
class Account:
    """One holder, unpacked: scaled balances by reserve id, flags as a bitmap, eMode category."""

    flags: int = 0
    category: int = 0
    supplied: Mapping[int, int] = field(default_factory=dict)
    borrowed: Mapping[int, int] = field(default_factory=dict)


def pack(account: Account) -> bytes:
    """Return an account's record; raise `OverflowError` for what does not fit."""
    legs = {2 * number: amount for number, amount in account.supplied.items()}
    legs |= {2 * number + 1: amount for number, amount in account.borrowed.items()}
    return with_header(EMPTY, account.category, account.flags) + b"".join(
        number.to_bytes() + legs[number].to_bytes(16) for number in sorted(legs) if legs[number]
    )


def unpack(record: bytes) -> Account:
    """Return the account a record holds."""
    supplied: dict[int, int] = {}
    borrowed: dict[int, int] = {}
    for at in range(STRIDE, len(record), STRIDE):
        number = record[at]
        (borrowed if number & 1 else supplied)[number >> 1] = amount(record, at)
    return Account(amount(record, 0), record[0], supplied, borrowed)


def find(record: bytes, number: int) -> int:
    """Return where a token's balance stands, negative when there is none."""
    return record[::STRIDE].find(number, 1) * STRIDE


def amount(record: bytes, at: int) -> int:
    """Return the amount at a place `find` gave; at 0 stand the collateral flags."""
    return int.from_bytes(record[at + 1 : at + STRIDE]) if at >= 0 else 0


def with_amount(record: bytes, at: int, number: int, scaled: int) -> bytes:
    """Return the record with a balance replaced; `at` is what `find` gave for the token.

    Raise `OverflowError` for an amount over 128 bits.
    """
    if at >= 0:
        if scaled:
            return record[: at + 1] + scaled.to_bytes(16) + record[at + STRIDE :]
        return record[:at] + record[at + STRIDE :]
    if not scaled:
        return record
    at = bisect_left(record[::STRIDE], number, 1) * STRIDE
    return record[:at] + number.to_bytes() + scaled.to_bytes(16) + record[at:]


def with_header(record: bytes, category: int, flags: int) -> bytes:
    """Return the record with other flags and category; raise `OverflowError` over 8 bits."""
    return category.to_bytes() + flags.to_bytes(16) + record[STRIDE:]


def has_debt(record: bytes) -> bool:
    """Tell whether any balance is a debt."""
    return bool(record[STRIDE::STRIDE].translate(None, SUPPLIES))


def shard_of(holder: Address) -> int:
    """Return the number of the shard that keeps a holder: the low ten bits of the address."""
    return holder[19] | (holder[18] & 3) << 8


class Accounts:
    """The records of all holders by address.

    `writable` has the shards by number, None for those that `thaw` has to copy before a write.
    """

    __slots__ = ("_shards", "writable")

    def __init__(self) -> None:
        self._shards: list[dict[Address, bytes]] = [{} for _ in range(SHARDS)]
        self.writable: list[dict[Address, bytes] | None] = [*self._shards]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Accounts) and self._shards == other._shards

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Address]:
        for shard in self._shards:
            yield from shard

    def get(self, holder: Address) -> bytes:
        """Return a holder's record, `EMPTY` when there is none."""
        return self._shards[holder[19] | (holder[18] & 3) << 8].get(holder, EMPTY)

    def put(self, holder: Address, record: bytes) -> None:
        """Keep a holder's record; an empty one removes the holder."""
        number = holder[19] | (holder[18] & 3) << 8
        shard = self.writable[number]
        if shard is None:
            shard = self.thaw(number)
        if len(record) == STRIDE and record == EMPTY:
            shard.pop(holder, None)
        else:
            shard[holder] = record

    def thaw(self, number: int) -> dict[Address, bytes]:
        """Return a shard as it may be written, copied when it is frozen."""
        shard = self.writable[number]
        if shard is None:
            shard = self._shards[number] = self.writable[number] = self._shards[number].copy()
        return shard

    def shard(self, number: int) -> Mapping[Address, bytes]:
        """Return one shard, to be read before the next write."""
        return self._shards[number]

    def load(self, number: int, shard: dict[Address, bytes]) -> None:
        """Take over a whole shard, whose addresses all belong there."""
        self._shards[number] = self.writable[number] = shard

    def release(self) -> None:
        """Forget all holders, a shard at a time: freed at once, a million stop every thread.

        For a thread beside the event loop, once nothing stands on them any more.
        """
        for number in range(SHARDS):
            self.load(number, {})

    def freeze(self) -> list[Mapping[Address, bytes]]:
        """Return all shards as they stand; later writes copy what they touch first."""
        self.writable[:] = _FROZEN
        return list(self._shards)
