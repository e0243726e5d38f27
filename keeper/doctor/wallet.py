"""Checks of the operator's wallet."""

import os
from collections.abc import Mapping

from eth_utils.address import to_checksum_address

from keeper.config import Limits, Wallet
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError
from keeper.execution.keystore import open_keystore, read_password
from keeper.journal.history import decimal
from keeper.ports import Reader, Rpc
from keeper.units import Address


async def open_wallet(wallet: Wallet, env: Mapping[str, str] = os.environ) -> Address:
    """Return the address of the keystore's key; raise `ConfigError` when it does not open."""
    password = read_password(wallet.password_file, wallet.password_env, env)
    return (await open_keystore(wallet.keystore, password)).address


async def check_keystore(wallet: Wallet, address: Address) -> Finding:
    """Look who else may read the keystore and its password."""
    for path in (wallet.keystore, wallet.password_file):
        if path is not None and path.stat().st_mode & 0o077:
            return State.WARN, f"others may read {path}", f"chmod 600 {path}"
    return State.OK, f"opens as {to_checksum_address(address)}", ""


async def check_funds(rpc: Rpc, address: Address, limits: Limits) -> Finding:
    """Look whether the wallet can pay for gas."""
    balance = int(await rpc.request("eth_getBalance", ["0x" + address.hex(), "latest"]), 16)
    shown = f"{decimal(balance, 18)} native coin"
    if balance == 0:
        raise ConfigError(
            f"wallet {to_checksum_address(address)} is empty", "send it native coin for gas"
        )
    if balance < limits.gas_wei_per_transaction:
        return (
            State.WARN,
            f"{shown} is less than one transaction may cost",
            "fund it, or lower limits.gas_ether_per_transaction",
        )
    return State.OK, shown, ""


async def check_account(reader: Reader, address: Address) -> Finding:
    """Look that the wallet is a plain account, without code or a delegation."""
    if await reader.code(address):
        raise ConfigError(
            f"wallet {to_checksum_address(address)} has code or a delegation (EIP-7702)",
            "use a fresh key for the operator",
        )
    return State.OK, "plain account", ""
