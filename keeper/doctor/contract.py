"""Checks of the liquidator contract: is it ours, who may run it, who owns it."""

from eth_utils.address import to_checksum_address

from keeper.contracts import liquidator
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError, RpcError
from keeper.planning.owner_calls import (
    encode_operators,
    encode_owner,
    encode_wrapped_native,
)
from keeper.ports import Reader
from keeper.types import Call
from keeper.units import Address


async def check_code(
    reader: Reader, contract: Address, wrapped_native: Address | None = None
) -> Finding:
    """Compare the code on the chain with the committed one, its immutable included."""
    shown = to_checksum_address(contract)
    code = await reader.code(contract)
    if not code:
        raise ConfigError(
            f"contract {shown} has no code", "deploy it with `keeper contract deploy`"
        )
    artifact = liquidator()
    if code[: len(artifact.runtime)] != artifact.runtime:
        raise ConfigError(
            f"contract {shown} is not this keeper's liquidator",
            "deploy this version's contract, or check the address",
        )
    native = Address((await reader.call(Call(contract, encode_wrapped_native())))[-20:])
    if code != artifact.runtime_code(native):
        raise ConfigError(
            f"contract {shown} carries more than this keeper's code", "deploy it again"
        )
    if wrapped_native is not None and native != wrapped_native:
        raise ConfigError(
            f"contract {shown} wraps the native coin with {to_checksum_address(native)}",
            f"the configuration says {to_checksum_address(wrapped_native)}",
        )
    return State.OK, f"{shown} holds the committed code", ""


async def check_roles(reader: Reader, contract: Address, operator: Address) -> Finding:
    """Look whether the wallet may run batches, and that it is not the owner too."""
    wallet = to_checksum_address(operator)
    try:
        listed = any(await reader.call(Call(contract, encode_operators(operator))))
        owner = Address((await reader.call(Call(contract, encode_owner())))[-20:])
    except RpcError:
        raise ConfigError(
            f"contract {to_checksum_address(contract)} does not answer as a liquidator",
            "check the address",
        ) from None
    if not listed:
        raise ConfigError(
            f"contract {to_checksum_address(contract)} is not operated by this wallet {wallet}",
            "`keeper contract allow` shows what the owner must sign",
        )
    if owner == operator:
        return (
            State.WARN,
            f"owner and operator are the same wallet {wallet}",
            "a stolen operator key would then own the contract: move ownership to a cold wallet",
        )
    return State.OK, f"operated by {wallet}, owned by {to_checksum_address(owner)}", ""
