"""Find the weighted pools that factories made, as far as they trade in two of our tokens."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from keeper.ports import Reader
from keeper.types import Call, Head, Watch
from keeper.units import Address
from keeper.venues.balancer_v2.reads import POOL_ID, POOL_TOKENS

POOL_CREATED = bytes.fromhex("83a48fbcfc991335314e74d0496aab6a1987e992ddc85dddbcc4d6dd6ef2e9fc")
"""BasePoolFactory.sol: PoolCreated(address indexed)."""


@dataclass(frozen=True, slots=True)
class MadeBy:
    """Factories, and the block from which their pools are looked for."""

    factories: tuple[Address, ...] = ()
    first_block: int = 0


async def find_pools(
    reader: Reader, head: Head, vault: Address, made_by: MadeBy, tokens: AbstractSet[Address]
) -> set[Address]:
    """Return the pools that factories made up to a head with two or more of these tokens."""
    if not made_by.factories:
        return set()
    watch = Watch(frozenset(made_by.factories), frozenset({POOL_CREATED}))
    stage = f"pools of 0x{vault.hex()[:8]}"
    keys = await reader.collect(
        stage, watch, made_by.first_block, head.number, lambda log: log.topics[1][12:]
    )
    addresses = sorted(Address(key) for key in keys)
    numbers = await reader.multicall([Call(each, POOL_ID) for each in addresses], head.hash)
    calls = [Call(vault, POOL_TOKENS + number.data[:32]) for number in numbers]
    held = await reader.multicall(calls, head.hash)
    found = set()
    for address, number, result in zip(addresses, numbers, held, strict=True):
        try:
            coins, _, _ = decode(["address[]", "uint256[]", "uint256"], result.data)
        except (DecodingError, OverflowError):
            continue
        known = [coin for coin in coins if Address(bytes.fromhex(coin[2:])) in tokens]
        if number.ok and result.ok and len(known) > 1:
            found.add(address)
    return found
