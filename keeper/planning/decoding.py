"""What the liquidator contract answers: results of `run`, and the event in a receipt."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak

from keeper.planning.reasons import UNDONE
from keeper.types import Log
from keeper.units import Address

RAN = keccak(b"Ran(address,uint256,uint256,uint256,uint256,address[],int256[])")
_WORDS = "uint256[]"
_GAIN = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One liquidation: collateral received in wei, or the first bytes of why not.

    An item of an undone group keeps its gain as told, is not ok, and names the undoing as reason.
    """

    ok: bool
    gain: int
    reason: bytes

    @property
    def undone(self) -> bool:
        """Whether the item went through but its group was undone."""
        return self.reason == UNDONE


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One group: gain in debt-token wei after the sale, or why it was undone or had nothing to do.

    A group undone for its loss tells the loss as a negative or too small gain.
    """

    ok: bool
    gain: int
    reason: bytes


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `run` returned, items in the batch's order over all groups; gains by listed token."""

    items: tuple[ItemResult, ...]
    groups: tuple[GroupResult, ...]
    gains: tuple[int, ...]
    tip: int
    refill: int


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What a mined `run` left in its receipt: which items and groups held, realised gains by token."""

    operator: Address
    items: tuple[int, ...]
    groups: tuple[int, ...]
    gains: dict[Address, int]
    tip: int
    refill: int


def decode_run(returndata: bytes) -> RunResult:
    """Decode the return data of `run`; raises ValueError when it is none."""
    items, groups, gains, tip, refill = _decode(
        [_WORDS, _WORDS, "int256[]"] + ["uint256"] * 2, returndata
    )
    return RunResult(
        items=tuple(ItemResult(*_word(word)) for word in items),
        groups=tuple(GroupResult(*_word(word)) for word in groups),
        gains=tuple(gains),
        tip=tip,
        refill=refill,
    )


def decode_receipt_logs(logs: Iterable[Log], contract: Address) -> tuple[RunEvent, ...]:
    """Return the runs of `contract` among a receipt's logs, in order."""
    return tuple(
        _event(log) for log in logs if log.address == contract and log.topics[:1] == (RAN,)
    )


def _event(log: Log) -> RunEvent:
    types = ["uint256"] * 4 + ["address[]", "int256[]"]
    items, groups, tip, refill, tokens, gains = _decode(types, log.data)
    addresses = (Address(bytes.fromhex(token[2:])) for token in tokens)
    return RunEvent(
        operator=Address(log.topics[1][12:]),
        items=_bits(items),
        groups=_bits(groups),
        gains=dict(zip(addresses, gains, strict=True)),
        tip=tip,
        refill=refill,
    )


def _word(word: int) -> tuple[bool, int, bytes]:
    reason = (word >> 128) & 0xFFFFFFFF
    gain = word & _GAIN
    if gain >> 127:
        gain -= 1 << 128
    return bool(word >> 255), gain, reason.to_bytes(4, "big") if reason else b""


def _bits(bits: int) -> tuple[int, ...]:
    return tuple(i for i in range(bits.bit_length()) if bits >> i & 1)


def _decode(types: list[str], data: bytes) -> tuple[Any, ...]:
    try:
        return decode(types, data)
    except Exception as error:
        raise ValueError(f"not an answer of the liquidator: {error}") from error
