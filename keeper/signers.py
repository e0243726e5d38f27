"""Open the signer a wallet table names: a keystore, a web3signer, or a plug-in."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from eth_hash.auto import keccak

from keeper.config import Wallet
from keeper.errors import ConfigError, KeeperError
from keeper.execution.checked import CheckedSigner, DigestSigner
from keeper.execution.keystore import (
    keystore_address,
    open_keystore,
    read_password,
    states_address,
)
from keeper.execution.remote import RemoteSigner
from keeper.plugins import load_signer
from keeper.ports import Signer
from keeper.units import Address, to_hex

log = structlog.get_logger(__name__)

Ask = Callable[[str], str]
"""Asks the operator for a password; the argument says for what."""

PROOF = keccak(b"keeper: this key is held")
"""What a plug-in signs at start to show whose key it holds; no transaction hashes to it."""


async def open_signer(
    wallet: Wallet,
    where: str,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    ask: Ask | None = None,
) -> Signer:
    """Return the signer, closed with the stack; raise `ConfigError` when it does not hold the address.

    `where` names the table in errors. `ask` is there when somebody sits at a terminal.
    """
    if wallet.keystore is not None:
        return await _open_keystore(wallet, wallet.keystore, environ, ask)
    address = wallet.address
    if address is None:
        raise ConfigError(f"{where}.address is missing", "the account the signer signs for")
    if wallet.remote_url is not None:
        remote = RemoteSigner(wallet.remote_url.get_secret_value(), address)
        stack.push_async_callback(remote.close)
        return await remote.open()
    return await _open_plugin(wallet, str(wallet.signer), address, f"{where}.signer", stack)


async def open_signers(
    lanes: Mapping[str, Wallet],
    where: str,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    ask: Ask | None = None,
) -> list[Signer]:
    """Return each lane's signer; raise `ConfigError` when two hold the same key.

    `where` names the chain in errors, the keys of `lanes` the tables in it.
    """
    signers = [
        await open_signer(wallet, f"{where}.{lane}", environ, stack, ask)
        for lane, wallet in lanes.items()
    ]
    refuse_shared(dict(zip(lanes, [signer.address for signer in signers], strict=True)), where)
    return signers


def refuse_shared(lanes: Mapping[str, Address], where: str) -> None:
    """Raise `ConfigError` when two lanes send from one account: their nonces would collide."""
    seen: dict[Address, str] = {}
    for lane, address in lanes.items():
        if address in seen:
            raise ConfigError(
                f"{where}.{seen[address]} and {where}.{lane} hold the same key, that of "
                f"{to_hex(address)}",
                "a lane needs an account of its own: `keeper wallet new`",
            )
        seen[address] = lane


def stated_address(wallet: Wallet) -> Address | None:
    """Return the operator's address as far as no key has to be opened; None when one has to."""
    if wallet.address is not None or wallet.keystore is None:
        return wallet.address
    return keystore_address(wallet.keystore) if states_address(wallet.keystore) else None


async def operator_address(
    wallet: Wallet, where: str, environ: Mapping[str, str], ask: Ask | None = None
) -> Address:
    """Return the operator's address; a keystore that does not state it is opened."""
    stated = stated_address(wallet)
    if stated is not None:
        return stated
    async with AsyncExitStack() as stack:
        return (await open_signer(wallet, where, environ, stack, ask)).address


async def operator_addresses(
    lanes: Mapping[str, Wallet], where: str, environ: Mapping[str, str], ask: Ask | None = None
) -> list[Address]:
    """Return each lane's address; raise `ConfigError` when two are the same."""
    found = {
        lane: await operator_address(wallet, f"{where}.{lane}", environ, ask)
        for lane, wallet in lanes.items()
    }
    refuse_shared(found, where)
    return list(found.values())


def readable_by_others(wallet: Wallet) -> list[Path]:
    """Return the files of a key that other users may read."""
    found = []
    for path in (wallet.keystore, wallet.password_file):
        try:
            if path is not None and path.stat().st_mode & 0o077:
                found.append(path)
        except OSError:
            continue  # opening it will say so
    return found


async def _open_keystore(
    wallet: Wallet, path: Path, environ: Mapping[str, str], ask: Ask | None
) -> Signer:
    prompt = None if ask is None else (lambda _: ask(f"password of {path}: "))
    for open_to_all in readable_by_others(wallet):
        log.warning("wallet.readable_by_others", path=str(open_to_all))
    stated_address(wallet)  # a file that is no keystore is told of before anybody types
    password = read_password(wallet.password_file, wallet.password_env, environ, prompt)
    signer = await open_keystore(path, password)
    if wallet.address is not None and wallet.address != signer.address:
        raise ConfigError(
            f"the keystore {path} holds the key of {to_hex(signer.address)}",
            f"wallet.address says {to_hex(wallet.address)}",
        )
    return signer


async def _open_plugin(
    wallet: Wallet, use: str, address: Address, where: str, stack: AsyncExitStack
) -> Signer:
    plugin: Any = load_signer(use, dict(wallet.options), where)
    try:
        if hasattr(plugin, "close"):
            stack.push_async_callback(plugin.close)
        if hasattr(plugin, "open"):
            await plugin.open()
        if hasattr(plugin, "sign_transaction"):
            return CheckedSigner(f"signer {use}", address, plugin.sign_transaction)
        digest = DigestSigner(address, plugin.sign_digest)
        held = await digest.holds(PROOF)
    except KeeperError:
        raise
    except Exception as error:  # noqa: BLE001
        # its text may quote credentials
        raise ConfigError(f"{where}: {use} does not start: {type(error).__name__}") from None
    if not held:
        raise ConfigError(
            f"{where}: {use} signs with another key than that of {to_hex(address)}",
            "check the key's name in its options, and wallet.address",
        )
    return CheckedSigner(f"signer {use}", address, digest)
