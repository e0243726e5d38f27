"""Addresses as files hold them: checksummed text there, 20 raw bytes inside."""

from typing import Annotated

from eth_utils.address import to_checksum_address
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from keeper.units import ZERO_ADDRESS, Address


def parse_address(value: object) -> bytes:
    """Return the 20 bytes of an address; mixed case must carry a correct EIP-55 checksum."""
    if isinstance(value, bytes) and len(value) == 20:
        return value
    if not isinstance(value, str):
        # pydantic turns a ValueError, not a TypeError, into a validation error
        raise ValueError("must be an address in quotes, 0x and 40 hex digits")  # noqa: TRY004
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20 or not value.startswith("0x") or len(value) != 42:
        raise ValueError("must be an address, 0x and 40 hex digits")
    digits = value[2:]
    if digits not in {digits.lower(), digits.upper()} and value != to_checksum_address(raw):
        raise ValueError("has a wrong checksum: a digit was mistyped")
    if raw == ZERO_ADDRESS:
        raise ValueError("is the zero address")
    return raw


EvmAddress = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(to_checksum_address, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}),
]
"""Raw bytes inside, checksummed text in files and on screens."""
