"""Encode and decode contract calls from a plain signature."""

from collections.abc import Iterator, Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak


def calldata(signature: str, args: Sequence[Any] = ()) -> bytes:
    """Return selector and arguments of `name(type,...)`; tuples are written in parentheses."""
    return keccak(signature.encode())[:4] + encode(argument_types(signature), args)


def argument_types(signature: str) -> list[str]:
    """Return the top-level types between the outer parentheses."""
    inner = signature[signature.index("(") + 1 : -1]
    return list(_split(inner))


def decoded(returns: Sequence[str], data: bytes) -> Any:
    """Return the one value, or the tuple of values, that `data` holds."""
    values = decode(list(returns), data)
    return values[0] if len(values) == 1 else values


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Return the address CREATE gives to the contract that `sender` makes at `nonce`."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    if len(number) != 1 or number[0] >= 0x80:
        number = bytes([0x80 + len(number)]) + number
    payload = b"\x94" + sender + number
    return keccak(bytes([0xC0 + len(payload)]) + payload)[12:]


def salted_address(sender: bytes, salt: bytes, code: bytes) -> bytes:
    """Return the address CREATE2 gives (EIP-1014)."""
    return keccak(b"\xff" + sender + salt + keccak(code))[12:]


def _split(inner: str) -> Iterator[str]:
    depth = start = 0
    for at, char in enumerate(inner):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            yield inner[start:at]
            start = at + 1
    if inner:
        yield inner[start:]
