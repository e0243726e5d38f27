"""What the contract must allow for a configuration, and which of it is missing."""

from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.cli.owner import Action
from keeper.config import Chain
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


async def missing(
    rpc: Rpc, chain: Chain, contract: Address, operator: Address | None
) -> list[Action]:
    """Return the owner's actions that give the contract what it lacks."""
    reader = ChainReader(rpc, chain.multicall)
    wanted: list[tuple[bytes, bytes, Action]] = []
    for name, market in chain.markets.items():
        for what, selector in (("liquidations", LIQUIDATION_CALL), ("flash loans", AAVE_FLASH)):
            action = Action(
                f"allow {what} on market {name}",
                contract,
                encode_allow(market.pool, selector, market.pool),
            )
            wanted.append((encode_is_allowed(market.pool, selector), _TRUE, action))
    for name, venue in chain.venues.items():
        action = Action(
            f"trust the pools of venue {name}",
            contract,
            encode_set_factory(venue.factory, UNISWAP_V3_POOL_CODE_HASH),
        )
        wanted.append((encode_factories(venue.factory), UNISWAP_V3_POOL_CODE_HASH, action))
    if operator is not None:
        action = Action(
            f"list operator {to_checksum_address(operator)}",
            contract,
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
