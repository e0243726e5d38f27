"""What the liquidator contract itself tells: its wrapped coin, and the exchanges it may use."""

from eth_hash.auto import keccak

from keeper.errors import ConfigError, RpcError
from keeper.planning.owner_calls import encode_wrapped_native
from keeper.ports import Reader
from keeper.types import Call, Head, Watch
from keeper.units import Address, to_hex

FACTORY_SET = keccak(b"FactorySet(address,bytes32)")


async def wrapped_native(reader: Reader, contract: Address, head: Head) -> Address:
    """Return the wrapped native coin the contract was deployed with."""
    try:
        answer = await reader.call(Call(contract, encode_wrapped_native()), head.hash)
    except RpcError:
        answer = b""
    if len(answer) != 32:
        raise ConfigError(
            f"contract {to_hex(contract)} does not answer as a liquidator", "check the address"
        )
    return Address(answer[12:])


async def allowed_factories(
    reader: Reader, contract: Address, first_block: int, head: Head
) -> list[Address]:
    """Return the exchange factories the owner allows, by the contract's own log, oldest first."""
    watch = Watch(frozenset({contract}), frozenset({FACTORY_SET}))
    allowed: dict[Address, bool] = {}
    for log in await reader.logs(watch, first_block, head.number):
        allowed[Address(log.topics[1][12:])] = any(log.data)
    return [factory for factory, is_allowed in allowed.items() if is_allowed]


async def have_changed(reader: Reader, contract: Address, first_block: int, head: Head) -> bool:
    """Tell whether the owner allowed or refused an exchange since a block."""
    watch = Watch(frozenset({contract}), frozenset({FACTORY_SET}))
    return first_block <= head.number and bool(await reader.logs(watch, first_block, head.number))
