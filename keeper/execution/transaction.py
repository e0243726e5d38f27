"""EIP-1559 transactions as bytes: RLP by hand, because it stands between a decision and its send."""

from collections.abc import Mapping, Sequence

from eth_hash.auto import keccak

from keeper.units import Hash

TYPE = b"\x02"

Item = bytes | Sequence["Item"]


def rlp(item: Item) -> bytes:
    """Encode bytes or a nested list of them in RLP."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    body = b"".join(rlp(entry) for entry in item)
    return _length(len(body), 0xC0) + body


def integer(value: int) -> bytes:
    """Return an integer big-endian without leading zeros, as RLP wants it."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _length(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    encoded = integer(size)
    return bytes([offset + 55 + len(encoded)]) + encoded


def fields(transaction: Mapping[str, int | bytes]) -> list[Item]:
    """Return the unsigned fields in their order; keys are JSON-RPC's, the access list is empty."""
    return [
        _number(transaction, "chainId"),
        _number(transaction, "nonce"),
        _number(transaction, "maxPriorityFeePerGas"),
        _number(transaction, "maxFeePerGas"),
        _number(transaction, "gas"),
        _bytes(transaction, "to"),
        _number(transaction, "value"),
        _bytes(transaction, "data"),
        [],
    ]


def digest(unsigned: Sequence[Item]) -> bytes:
    """Return the hash that is signed."""
    return keccak(TYPE + rlp(unsigned))


def assemble(unsigned: Sequence[Item], parity: int, r: bytes, s: bytes) -> tuple[bytes, Hash]:
    """Return the raw signed transaction and its hash; r and s are 32 bytes."""
    signature = [integer(parity), r.lstrip(b"\0"), s.lstrip(b"\0")]
    raw = TYPE + rlp([*unsigned, *signature])
    return raw, Hash(keccak(raw))


def _number(transaction: Mapping[str, int | bytes], name: str) -> bytes:
    value = transaction[name]
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{name} is not a non-negative integer")
    return integer(value)


def _bytes(transaction: Mapping[str, int | bytes], name: str) -> bytes:
    value = transaction[name]
    if not isinstance(value, bytes):
        raise TypeError(f"{name} is not bytes")
    return value
