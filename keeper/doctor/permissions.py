"""What the contract must allow for a configuration, and which of it is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.config import Chain
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError
from keeper.planning.owner_calls import (
    FLASH_LOANS,
    encode_allow,
    encode_factories,
    encode_operators,
    encode_set_factory,
    encode_set_operator,
    encode_spender_of,
)
from keeper.plugins import build_venue, configure_market
from keeper.ports import LendingProtocol, Rpc
from keeper.types import AllowedCall, Call, Permission, TrustedFactory
from keeper.units import Address


@dataclass(frozen=True, slots=True)
class Grant:
    """A call to the contract that only its owner may make, and what it permits."""

    what: str
    data: bytes


async def check_permissions(rpc: Rpc, chain: Chain, contract: Address) -> Finding:
    """Look whether the contract may use every configured market and venue."""
    lacking = await missing(rpc, chain, contract, ())
    if not lacking:
        return State.OK, "the contract may use every configured market and venue", ""
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return (
        State.WARN,
        f"the owner did not yet {lacking[0].what}{more}",
        "`keeper contract allow` shows what the owner must sign",
    )


async def missing(
    rpc: Rpc, chain: Chain, contract: Address, operators: Sequence[Address]
) -> list[Grant]:
    """Return the owner's calls that give the contract what it lacks."""
    reader = ChainReader(rpc, chain.multicall)
    wanted: list[tuple[bytes, bytes, Grant]] = []
    head = await reader.head()
    for name, table in chain.markets.items():
        kind, options = configure_market("", name, table)
        market: LendingProtocol = await kind.discover(
            reader, name, options, head, table.first_block
        )
        wanted.extend(_wanted(f"market {name}", permission) for permission in market.permissions())
    for name, venue in chain.venues.items():
        needs = build_venue("", name, venue, (), contract).permissions()
        wanted.extend(_wanted(f"venue {name}", permission) for permission in needs)
    for operator in operators:
        action = Grant(
            f"list operator {to_checksum_address(operator)}",
            encode_set_operator(operator, listed=True),
        )
        wanted.append((encode_operators(operator), _TRUE, action))
    answers = await reader.multicall([Call(contract, question) for question, _, _ in wanted])
    if not all(answer.ok and len(answer.data) == 32 for answer in answers):
        raise ConfigError(
            f"contract {to_checksum_address(contract)} does not answer as a liquidator",
            "`keeper contract verify` looks closer",
        )
    return [
        action
        for answer, (_, expected, action) in zip(answers, wanted, strict=True)
        if answer.data != expected
    ]


def _wanted(part: str, permission: Permission) -> tuple[bytes, bytes, Grant]:
    """Return what to ask the contract, the answer that will do, and the call that gets it there."""
    match permission:
        case TrustedFactory(factory, code_hash):
            grant = Grant(f"trust the pools of {part}", encode_set_factory(factory, code_hash))
            return encode_factories(factory), code_hash, grant
        case AllowedCall(target, selector, spender):
            what = "flash loans" if selector in FLASH_LOANS else _USES[part.split(maxsplit=1)[0]]
            grant = Grant(f"allow {what} on {part}", encode_allow(target, selector, spender))
            return encode_spender_of(target, selector), spender.rjust(32, b"\0"), grant
        case _:
            assert_never(permission)


_TRUE = (1).to_bytes(32, "big")
_USES = {"market": "liquidations", "venue": "swaps"}
