"""Multicall3 `aggregate3`, packed by hand: many reads in one request, each allowed to fail."""

from collections.abc import Sequence

from keeper.types import Call, CallResult
from keeper.units import Address

MULTICALL3 = Address(bytes.fromhex("ca11bde05977b3631167028862be2a173976ca11"))
"""The address Multicall3 has on nearly every chain."""

_SELECTOR = bytes.fromhex("82ad56cb")
_ADDRESS_PADDING = bytes(12)
_TRUE_AND_OFFSET = (1).to_bytes(32, "big") + (0x60).to_bytes(32, "big")
_WORD_32 = (32).to_bytes(32, "big")


def encode_aggregate3(calls: Sequence[Call]) -> bytes:
    """Return calldata for `aggregate3((address,bool,bytes)[])` with every call allowed to fail."""
    offsets: list[bytes] = []
    bodies: list[bytes] = []
    position = 32 * len(calls)
    for call in calls:
        size = len(call.data)
        body = b"".join(
            (
                _ADDRESS_PADDING,
                call.target,
                _TRUE_AND_OFFSET,
                size.to_bytes(32, "big"),
                call.data,
                bytes(-size % 32),
            )
        )
        offsets.append(position.to_bytes(32, "big"))
        bodies.append(body)
        position += len(body)
    count = len(calls).to_bytes(32, "big")
    return b"".join((_SELECTOR, _WORD_32, count, *offsets, *bodies))


def decode_aggregate3(answer: bytes) -> list[CallResult]:
    """Read `(bool,bytes)[]`; raise `ValueError` when the answer is cut short."""
    array = _word(answer, 0) + 32
    count = _word(answer, array - 32)
    results: list[CallResult] = []
    for i in range(count):
        start = array + _word(answer, array + 32 * i)
        data = start + _word(answer, start + 32)
        size = _word(answer, data)
        content = answer[data + 32 : data + 32 + size]
        if len(content) != size:
            raise ValueError("multicall answer is cut short")
        results.append(CallResult(_word(answer, start) != 0, content))
    return results


def _word(answer: bytes, at: int) -> int:
    word = answer[at : at + 32]
    if len(word) != 32:
        raise ValueError("multicall answer is cut short")
    return int.from_bytes(word, "big")
