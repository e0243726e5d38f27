"""Hold every signer to what it was asked for, and to the address it is known by."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from coincurve import PublicKey
from eth_hash.auto import keccak

from keeper.errors import TransientError
from keeper.execution.transaction import TYPE, Item, assemble, digest, fields, rlp
from keeper.units import Address, Hash, to_hex

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = ORDER // 2
"""Half the order of secp256k1: a chain takes no signature whose s is above it (EIP-2)."""

Sign = Callable[[Mapping[str, int | bytes]], Awaitable[bytes]]


class CheckedSigner:
    """Sign through another's hands, and hand on only the very transaction asked for.

    What is signed instead is never sent: `on_fault` is told why, and `TransientError` raised, as it is
    for a signer that fails or stays silent.
    """

    def __init__(self, name: str, address: Address, sign: Sign) -> None:
        self._name = name
        self._sign = sign
        self.address = address
        self.on_fault: Callable[[str], None] = _nobody

    async def sign(self, transaction: Mapping[str, int | bytes]) -> tuple[bytes, Hash]:
        """Return the raw bytes and the hash of exactly this transaction, signed by `address`."""
        unsigned = fields(transaction)
        try:
            raw = await self._sign(transaction)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001
            # another's text may quote what it was given: its kind has to do
            raise TransientError(f"{self._name} failed: {type(error).__name__}") from None
        wrong = fault(raw, unsigned, self.address)
        if wrong:
            self.on_fault(f"{self._name} {wrong}")
            raise TransientError(f"{self._name} {wrong}: refused, nothing was sent")
        return raw, Hash(keccak(raw))

    def __repr__(self) -> str:
        return f"CheckedSigner({self._name}, {to_hex(self.address)})"


SignDigest = Callable[[bytes], Awaitable[bytes]]


class DigestSigner:
    """Make transactions with a key that signs 32-byte digests, as key services do.

    The signature is DER, or r and s of 32 bytes each; the parity is found by recovering.
    """

    def __init__(self, address: Address, sign: SignDigest) -> None:
        self._address = address
        self._sign = sign

    async def __call__(self, transaction: Mapping[str, int | bytes]) -> bytes:
        """Return the raw transaction; empty when no parity gives the address."""
        unsigned = fields(transaction)
        found = await self._signature(digest(unsigned))
        return b"" if found is None else assemble(unsigned, *found)[0]

    async def holds(self, probe: bytes) -> bool:
        """Return whether a probe is signed by the address."""
        return await self._signature(probe) is not None

    async def _signature(self, message: bytes) -> tuple[int, bytes, bytes] | None:
        signature = await self._sign(message)
        if len(signature) != 64:
            signature = _from_der(signature)
        r, s = signature[:32], int.from_bytes(signature[32:], "big")
        low = min(s, ORDER - s).to_bytes(32, "big")
        for parity in (0, 1):
            if _recover(parity, r, low, message) == self._address:
                return parity, r, low
        return None


def _recover(parity: int, r: bytes, s: bytes, message: bytes) -> Address | None:
    """Return who signed; None when it is no signature."""
    try:
        key = PublicKey.from_signature_and_message(r + s + bytes([parity]), message, hasher=None)
    except Exception:  # noqa: BLE001  # coincurve raises plain exceptions
        return None
    return Address(keccak(key.format(compressed=False)[1:])[12:])


def _from_der(encoded: bytes) -> bytes:
    """Return r and s, 32 bytes each, of a DER signature: a sequence of two short integers."""
    if encoded[:1] != b"\x30" or len(encoded) != encoded[1] + 2:
        raise ValueError("no DER signature")
    numbers, rest = [], encoded[2:]
    for _ in range(2):
        if rest[:1] != b"\x02" or len(rest) < rest[1] + 2:
            raise ValueError("no DER signature")
        numbers.append(int.from_bytes(rest[2 : rest[1] + 2], "big"))
        rest = rest[rest[1] + 2 :]
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def _nobody(_: str) -> None:
    """Tell nobody."""


def fault(raw: object, unsigned: Sequence[Item], address: Address) -> str:
    """Say what is wrong with signed bytes; empty when they are the transaction signed by `address`."""
    if not isinstance(raw, bytes) or raw[:1] != TYPE:
        return "did not return an EIP-1559 transaction"
    body = b"".join(rlp(entry) for entry in unsigned)
    rest = _payload(raw[1:])
    if rest is None:
        return "returned bytes that are no transaction"
    if not rest.startswith(body):
        return "signed another transaction than it was asked for"
    values = _strings(rest[len(body) :])
    if values is None or len(values) != 3 or any(len(value) > 32 for value in values):
        return "returned no signature"
    parity, r, s = values
    if parity not in {b"", b"\x01"} or int.from_bytes(s, "big") > HALF_ORDER:
        return "returned a signature no chain takes"
    r, s = r.rjust(32, b"\0"), s.rjust(32, b"\0")
    if assemble(unsigned, len(parity), r, s)[0] != raw:
        return "returned bytes that are no canonical transaction"
    signed_by = _recover(len(parity), r, s, digest(unsigned))
    if signed_by is None:
        return "returned a signature of nobody"
    if signed_by != address:
        return f"signed as {to_hex(signed_by)}, and {to_hex(address)} was asked for"
    return ""


def _payload(encoded: bytes) -> bytes | None:
    """Return the payload of the one RLP list these bytes are."""
    if not encoded or encoded[0] < 0xC0:
        return None
    if encoded[0] <= 0xF7:
        start, size = 1, encoded[0] - 0xC0
    else:
        start = encoded[0] - 0xF7 + 1
        size = int.from_bytes(encoded[1:start], "big")
    return encoded[start:] if len(encoded) == start + size else None


def _strings(encoded: bytes) -> list[bytes] | None:
    """Return the short RLP strings in a row; None when these are not such."""
    found = []
    while encoded:
        first = encoded[0]
        if first < 0x80:
            found.append(encoded[:1])
            encoded = encoded[1:]
        elif first <= 0xB7 and len(encoded) > first - 0x80:
            found.append(encoded[1 : first - 0x7F])
            encoded = encoded[first - 0x7F :]
        else:
            return None
    return found
