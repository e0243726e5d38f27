"""Find a market's contracts from its pool, and which era's rules they follow."""

from collections.abc import Mapping
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.chain.words import address, read, uint
from keeper.errors import ConfigError, RpcError
from keeper.ports import Reader
from keeper.protocols.aave_v3.eras import ERAS, V36, Era, era_of
from keeper.types import Call, Head
from keeper.units import ZERO_ADDRESS, Address

_FACTS: Mapping[str, str] = {
    "has_grace": "getLiquidationGracePeriod(address)",
    "has_bitmaps": "getEModeCategoryCollateralBitmap(uint8)",
    "has_deficit": "getReserveDeficit(address)",
    "has_ltv_zero": "getEModeCategoryLtvzeroBitmap(uint8)",
}
"""What only later implementations answer, by the era's own word for it."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one market.

    `doubt` says why nothing may be sent although it is followed by the rules of `era`.
    """

    pool: Address
    provider: Address
    configurator: Address
    oracle: Address
    revision: int
    era: Era = V36
    doubt: str = ""


async def find(reader: Reader, pool: Address, head: Head, era: str = "") -> Deployment:
    """Find a market's contracts from its pool, whose era may be named for a fork.

    Raise `ConfigError` when it is no Aave v3 pool, or does not answer as the named era does.
    """
    shown = to_checksum_address(pool)
    stranger = ConfigError(f"pool {shown} is not an Aave v3 pool", "check the address")
    if not await reader.code(pool, head.hash):
        raise ConfigError(f"pool {shown} has no code", "check the address and the chain")
    asked = [read(pool, "ADDRESSES_PROVIDER()"), read(pool, "POOL_REVISION()")]
    asked += [read(pool, signature, ZERO_ADDRESS) for signature in _FACTS.values()]
    try:
        results = await reader.multicall(asked, head.hash)
    except RpcError as error:
        raise stranger from error
    if not all(result.ok and len(result.data) == 32 for result in results[:2]):
        raise stranger
    provider, revision = address(results[0].data), uint(results[1].data)
    facts = {
        name: result.ok and len(result.data) == 32
        for name, result in zip(_FACTS, results[2:], strict=True)
    }
    named, configurator, oracle = await _provided(reader, provider, head, stranger)
    if named != pool:
        raise ConfigError(
            f"pool {shown} is not the one its provider names", f"use {to_checksum_address(named)}"
        )
    if era and not _fits(ERAS[era], facts):
        raise ConfigError(f"pool {shown} does not answer as Aave v{era} does", "leave `era` out")
    rules, doubt = (ERAS[era], "") if era else judge(revision, facts)
    return Deployment(pool, provider, configurator, oracle, revision, rules, doubt)


def judge(revision: int, facts: Mapping[str, bool]) -> tuple[Era, str]:
    """Return the era to follow a pool by, and why nothing may be sent, empty when all is known.

    A revision that is not known, or whose implementation answers otherwise, is followed by the
    latest era that answers like it.
    """
    known = era_of(revision)
    if known is not None and _fits(known, facts):
        return known, ""
    alike = [each for each in ERAS.values() if _fits(each, facts)]
    doubt = f"the rules of pool revision {revision} are not known"
    if known is not None:
        doubt = f"pool revision {revision} does not answer as Aave v{known.name} does"
    return (alike or [V36])[-1], doubt


def _fits(era: Era, facts: Mapping[str, bool]) -> bool:
    return all(getattr(era, name) == answers for name, answers in facts.items())


async def _provided(
    reader: Reader, provider: Address, head: Head, stranger: ConfigError
) -> tuple[Address, Address, Address]:
    calls: list[Call] = [
        read(provider, "getPool()"),
        read(provider, "getPoolConfigurator()"),
        read(provider, "getPriceOracle()"),
    ]
    results = await reader.multicall(calls, head.hash)
    if not all(result.ok and len(result.data) == 32 for result in results):
        raise stranger
    pool, configurator, oracle = (address(result.data) for result in results)
    return pool, configurator, oracle
