"""What code a market runs, so that rules nobody looked at are never sent to.

A contract's print is made of its own code and of what it delegates to: a proxy's implementation, a
diamond's facets, the comptroller's lens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from eth_hash.auto import keccak

from keeper.chain.words import address, addresses, answered, read
from keeper.ports import Reader
from keeper.types import CallResult, Head
from keeper.units import ZERO_ADDRESS, Address

IMPLEMENTATION_SLOT = int.from_bytes(keccak(b"eip1967.proxy.implementation"), "big") - 1
"""Where an EIP-1967 proxy keeps its implementation."""
AT_ONCE = 16
_NAMED = (
    "implementation()",
    "comptrollerImplementation()",
    "vaiControllerImplementation()",
    "comptrollerLens()",
)

Codes = Mapping[Address, bytes]
"""The print of each contract's code."""


async def codes_of(
    reader: Reader, contracts: Sequence[Address], head: Head
) -> dict[Address, bytes]:
    """Return the prints of contracts as of a block; the zero address is left out."""
    asked = [each for each in dict.fromkeys(contracts) if each != ZERO_ADDRESS]
    calls = [read(each, name) for each in asked for name in (*_NAMED, "facetAddresses()")]
    answers = await reader.multicall(calls, head.hash)
    width = len(_NAMED) + 1
    behind: dict[Address, list[Address]] = {}
    for number, contract in enumerate(asked):
        behind[contract] = _behind(answers[number * width : (number + 1) * width])
    slots = await _each(partial(_implementation, reader, head), asked)
    for contract, slot in slots.items():
        named = dict.fromkeys((contract, *behind[contract], address(slot)))
        behind[contract] = [each for each in named if each != ZERO_ADDRESS]
    everything = list(dict.fromkeys(each for of in behind.values() for each in of))
    code = await _each(partial(_code, reader, head), everything)
    prints = {each: keccak(what) for each, what in code.items()}
    return {
        contract: keccak(b"".join(prints[each] for each in of)) for contract, of in behind.items()
    }


def fingerprint(codes: Codes) -> str:
    """Return a market's code in 16 hex digits, as a configuration names it."""
    whole = b"".join(contract + codes[contract] for contract in sorted(codes))
    return "0x" + keccak(whole).hex()[:16]


def decoded(codes: Mapping[str, str]) -> dict[Address, bytes]:
    """Return prints as a snapshot holds them, in hexadecimal; raise `ValueError` when they are none."""
    return {Address(bytes.fromhex(each)): bytes.fromhex(code) for each, code in codes.items()}


def doubts(known: Codes, now: Codes) -> dict[Address, str]:
    """Return why contracts may not be relied on: other code than was known, told by address.

    A contract that is new is known when its code is that of another one.
    """
    accept = f'review it, then set code = "{fingerprint(now)}"'
    seen = set(known.values())
    found = {}
    for contract, code in now.items():
        if known.get(contract, code) != code:
            found[contract] = f"the code of 0x{contract.hex()} was replaced: {accept}"
        elif contract not in known and code not in seen:
            found[contract] = f"the code of 0x{contract.hex()} is new: {accept}"
    return found


async def _implementation(reader: Reader, head: Head, contract: Address) -> bytes:
    return await reader.storage(contract, IMPLEMENTATION_SLOT, head.hash)


async def _code(reader: Reader, head: Head, contract: Address) -> bytes:
    return await reader.code(contract, head.hash)


def _behind(results: Sequence[CallResult]) -> list[Address]:
    *named, facets = results
    found = [address(each.data) for each in named if answered(each)]
    if answered(facets, 2):
        found += addresses(facets.data)
    return found


async def _each(
    ask: Callable[[Address], Awaitable[bytes]], of: Sequence[Address]
) -> dict[Address, bytes]:
    found: dict[Address, bytes] = {}
    for at in range(0, len(of), AT_ONCE):
        some = of[at : at + AT_ONCE]
        found.update(zip(some, await asyncio.gather(*map(ask, some)), strict=True))
    return found
