"""A key that signs and is never shown."""

from collections.abc import Mapping
from typing import NoReturn

from coincurve import PrivateKey
from eth_hash.auto import keccak

from keeper.execution.transaction import assemble, digest, fields
from keeper.units import Address, Hash, to_hex


class KeySigner:
    """Sign with a private key held in memory; it cannot be printed, pickled or copied."""

    __slots__ = ("__key", "address")

    def __init__(self, secret: bytes) -> None:
        self.__key = PrivateKey(secret)
        public = self.__key.public_key.format(compressed=False)
        self.address = Address(keccak(public[1:])[12:])

    async def sign(self, transaction: Mapping[str, int | bytes]) -> tuple[bytes, Hash]:
        """Sign an EIP-1559 transaction; return the raw bytes and the hash.

        Keys are JSON-RPC's: chainId, nonce, maxPriorityFeePerGas, maxFeePerGas, gas, to, value, data.
        """
        unsigned = fields(transaction)
        signature = self.__key.sign_recoverable(digest(unsigned), hasher=None)
        return assemble(unsigned, signature[64], signature[:32], signature[32:64])

    def __repr__(self) -> str:
        return f"KeySigner({to_hex(self.address)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")
