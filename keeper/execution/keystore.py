"""Keystore v3 files: made, imported and opened; the password comes by reference."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from keeper.errors import ConfigError
from keeper.execution.signer import KeySigner
from keeper.units import Address, to_hex

KEY = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
VERSION = 3
SCRYPT_COST = 2**18
"""scrypt's N for new files, the keystore standard's; opening one takes about half a second."""


def read_password(
    file: Path | None,
    variable: str | None,
    environ: Mapping[str, str],
    prompt: Callable[[str], str] | None = None,
) -> str:
    """Return a password from a file (its final newline removed), a variable, or by asking."""
    if file is not None:
        try:
            return file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the password file {file} cannot be read ({type(error).__name__})",
                "check wallet.password_file",
            ) from None
    if variable is not None:
        if variable not in environ:
            raise ConfigError(
                f"the environment variable {variable} is not set", "wallet.password_env names it"
            )
        return environ[variable]
    if prompt is not None:
        return prompt("keystore password: ")
    raise ConfigError(
        "no password for the keystore", "set wallet.password_file or wallet.password_env"
    )


async def open_keystore(path: Path, password: str) -> KeySigner:
    """Decrypt a keystore in a thread and return its signer; raise `ConfigError` when it cannot."""
    document = _read(path)
    signer = await asyncio.to_thread(_open, document, password, path)
    stated = _stated(document)
    if stated is not None and stated != signer.address:
        raise ConfigError(
            f"the keystore {path} states {to_hex(stated)} and holds the key of "
            f"{to_hex(signer.address)}",
            "it was altered: make it anew from the key",
        )
    return signer


def keystore_address(path: Path) -> Address:
    """Return the address a keystore file states, without its password."""
    stated = _stated(_read(path))
    if stated is None:
        raise ConfigError(f"the keystore {path} states no address", "open it with its password")
    return stated


def states_address(path: Path) -> bool:
    """Return whether a keystore file tells its address without the password."""
    return _stated(_read(path)) is not None


async def create_keystore(path: Path, password: str) -> Address:
    """Make a new key, write it encrypted, and return its address; never overwrite a file."""
    return await asyncio.to_thread(_write, path, os.urandom(32), password)


async def import_keystore(path: Path, secret: str, password: str) -> Address:
    """Encrypt a private key given as hex and return its address; never overwrite a file."""
    match = KEY.fullmatch(secret.strip())
    if match is None:
        raise ConfigError("this is no private key", "give 64 hexadecimal digits")
    return await asyncio.to_thread(_write, path, bytes.fromhex(match[1]), password)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except IsADirectoryError:
        raise ConfigError(
            f"the keystore {path} is a directory", "name the keystore file in it"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the keystore {path} cannot be read: {error.strerror}",
            "check wallet.keystore, or make one with `keeper wallet new`",
        ) from None
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"crypto", "Crypto"} & document.keys():
        raise ConfigError(f"{path} is not a keystore", "a version 3 keystore JSON is wanted")
    return document


def _stated(document: Mapping[str, Any]) -> Address | None:
    """Return the address a document states, None when it states none."""
    try:
        stated = bytes.fromhex(str(document.get("address", "")).removeprefix("0x"))
    except ValueError:
        return None
    return Address(stated) if len(stated) == 20 else None


def _open(document: Mapping[str, Any], password: str, path: Path) -> KeySigner:
    """Decrypt; slow on purpose, and so is the import, which only who has a keystore waits for."""
    from eth_account import Account  # noqa: PLC0415 - takes seconds; here it is in a thread

    try:
        if document.get("version") == VERSION:
            return KeySigner(bytes(Account.decrypt(dict(document), password)))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        # eth-keyfile tells a wrong password apart by these words alone.
        if "MAC mismatch" in str(error):
            raise ConfigError(
                f"wrong password for the keystore {path}", "check where it is read from"
            ) from None
    raise ConfigError(
        f"{path} is not a keystore keeper can open",
        "a version 3 keystore JSON with scrypt or pbkdf2 is wanted",
    )


def _write(path: Path, secret: bytes, password: str) -> Address:
    if not password:
        raise ConfigError("the keystore's password is empty", "choose one")
    try:
        address = KeySigner(secret).address
    except ValueError:
        raise ConfigError("this is no private key", "it is zero or too large") from None
    if path.exists():
        raise ConfigError(f"{path} exists", "choose another name; a keystore is never overwritten")
    from eth_account import Account  # noqa: PLC0415 - takes seconds; here it is in a thread

    document = Account.encrypt(secret, password, kdf="scrypt", iterations=SCRYPT_COST)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the keystore {path} cannot be written: {error.strerror}", "choose another path"
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    return address
