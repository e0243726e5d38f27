"""The key relays know us by: it earns a reputation and holds no money."""

from typing import NoReturn

from coincurve import PrivateKey
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from keeper.units import Address

HEADER = "X-Flashbots-Signature"


class Identity:
    """Sign request bodies; the key cannot be printed, pickled or copied."""

    __slots__ = ("__key", "address")

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes; raise ValueError when they are no key."""
        self.__key = PrivateKey(secret)
        public = self.__key.public_key.format(compressed=False)
        self.address = Address(keccak(public[1:])[12:])

    def header(self, body: bytes) -> str:
        """Return the signature header of exactly these bytes.

        An EIP-191 message over the body's keccak as 0x-prefixed text, not over the hash itself.
        """
        text = b"0x" + keccak(body).hex().encode()
        digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
        signature = self.__key.sign_recoverable(digest, hasher=None)
        shown = signature[:64].hex() + f"{signature[64] + 27:02x}"
        return f"{to_checksum_address(self.address)}:0x{shown}"

    def __repr__(self) -> str:
        return f"Identity({to_checksum_address(self.address)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an identity cannot be pickled or copied")
