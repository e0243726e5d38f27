"""Checks of the operator's wallet."""

from eth_utils.address import to_checksum_address

from keeper.config import Limits, Wallet
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError
from keeper.journal.history import decimal
from keeper.ports import Reader, Rpc
from keeper.signers import readable_by_others
from keeper.units import Address


async def check_secrets(wallet: Wallet, address: Address) -> Finding:
    """Look who else may read the keystore and its password."""
    for path in readable_by_others(wallet):
        return State.WARN, f"others may read {path}", f"chmod 600 {path}"
    how = "opens as" if wallet.keystore is not None else "signs as"
    return State.OK, f"{how} {to_checksum_address(address)}", ""


async def check_funds(rpc: Rpc, address: Address, limits: Limits, *, live: bool) -> Finding:
    """Look whether the wallet can pay for gas; a keeper that sends nothing needs none."""
    balance = int(await rpc.request("eth_getBalance", ["0x" + address.hex(), "latest"]), 16)
    shown = f"{decimal(balance, 18)} native coin"
    if balance == 0:
        empty = f"wallet {to_checksum_address(address)} is empty"
        hint = "send it native coin for gas"
        if live:
            raise ConfigError(empty, hint)
        return State.WARN, empty, hint
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
