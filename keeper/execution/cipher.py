"""The Web3 Secret Storage format, version 3: a private key under a password.

The password is stretched (scrypt or PBKDF2) to 32 bytes: the first 16 key AES-128 in counter mode,
the others with the ciphertext make the MAC, keccak-256. No file is touched here.
"""

import hashlib
import hmac
import os
import uuid
from collections.abc import Mapping
from typing import Any

from Crypto.Cipher import AES
from eth_hash.auto import keccak

VERSION = 3
LENGTH = 32
SCRYPT_MEMORY = 2**30
"""Most bytes a file may make scrypt use: 128·N·r, four times the standard's."""


class WrongPasswordError(Exception):
    """Say that the MAC differs: a wrong password, or a damaged file."""


class UnsupportedError(Exception):
    """Name what this keystore has and keeper cannot open."""


def decrypt(document: Mapping[str, Any], password: str) -> bytes:
    """Return the 32 bytes of the key; slow on purpose, so call it in a thread.

    Raises `WrongPasswordError`, `UnsupportedError`, or KeyError, TypeError and ValueError for a document
    that is not of the format.
    """
    if document["version"] != VERSION:
        raise UnsupportedError(f"version {document['version']!r:.20}")
    crypto = document.get("crypto", document.get("Crypto"))
    if not isinstance(crypto, Mapping):
        raise TypeError("crypto")
    if crypto["cipher"] != "aes-128-ctr":
        raise UnsupportedError(f"the cipher {crypto['cipher']!r:.40}")
    ciphertext = bytes.fromhex(crypto["ciphertext"])
    stretched = _stretch(password.encode(), crypto["kdf"], crypto["kdfparams"])
    mac = keccak(stretched[16:32] + ciphertext)
    if not hmac.compare_digest(mac, bytes.fromhex(crypto["mac"].removeprefix("0x"))):
        raise WrongPasswordError
    return _apply(stretched[:16], bytes.fromhex(crypto["cipherparams"]["iv"]), ciphertext)


def encrypt(secret: bytes, password: str, address: bytes, cost: int) -> dict[str, Any]:
    """Return a keystore of a key; `cost` is scrypt's N."""
    salt, iv = os.urandom(32), os.urandom(16)
    settings = {"dklen": LENGTH, "n": cost, "r": 8, "p": 1, "salt": salt.hex()}
    stretched = _stretch(password.encode(), "scrypt", settings)
    ciphertext = _apply(stretched[:16], iv, secret)
    return {
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": settings,
            "mac": keccak(stretched[16:] + ciphertext).hex(),
        },
        "id": str(uuid.uuid4()),
        "version": VERSION,
    }


def _stretch(password: bytes, kdf: str, settings: Mapping[str, Any]) -> bytes:
    salt, length = bytes.fromhex(settings["salt"]), settings["dklen"]
    if length != LENGTH:
        raise UnsupportedError(f"a derived key of {length!r:.20} bytes")
    match kdf:
        case "scrypt":
            n, r, p = settings["n"], settings["r"], settings["p"]
            memory = 128 * r * (n + p + 2)
            if memory > SCRYPT_MEMORY:
                raise UnsupportedError(f"scrypt with {memory >> 20} MiB")
            return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=length)
        case "pbkdf2":
            if settings["prf"] != "hmac-sha256":
                raise UnsupportedError(f"PBKDF2 with {settings['prf']!r:.40}")
            return hashlib.pbkdf2_hmac("sha256", password, salt, settings["c"], length)
        case _:
            raise UnsupportedError(f"the key derivation {kdf!r:.40}")


def _apply(key: bytes, iv: bytes, text: bytes) -> bytes:
    """Encrypt or decrypt: in counter mode both are the same; the IV is the counter's first value."""
    counter = int.from_bytes(iv, "big")
    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=counter).encrypt(text)
