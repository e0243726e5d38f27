"""What the contract must allow for a configuration, and which of it is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.config import Chain
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError
from keeper.planning.owner_calls import (
    AAVE_FLASH,
    LIQUIDATION_CALL,
    encode_allow,
    encode_factories,
    encode_is_allowed,
    encode_operators,
    encode_set_factory,
    encode_set_operator,
)
from keeper.ports import Rpc
from keeper.types import Call
from keeper.units import Address

UNISWAP_V3_POOL_CODE_HASH = bytes.fromhex(
    "e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54"
)
"""Keccak of UniswapV3Pool's creation code, by which a pool's CREATE2 address is derived."""


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
    for name, market in chain.markets.items():
        for what, selector in (("liquidations", LIQUIDATION_CALL), ("flash loans", AAVE_FLASH)):
            action = Grant(
                f"allow {what} on market {name}",
                encode_allow(market.pool, selector, market.pool),
            )
            wanted.append((encode_is_allowed(market.pool, selector), _TRUE, action))
    for name, venue in chain.venues.items():
        action = Grant(
            f"trust the pools of venue {name}",
            encode_set_factory(venue.factory, UNISWAP_V3_POOL_CODE_HASH),
        )
        wanted.append((encode_factories(venue.factory), UNISWAP_V3_POOL_CODE_HASH, action))
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


_TRUE = (1).to_bytes(32, "big")
