"""Load one Aave v3 market at one block: contracts, reserves, categories and every holder."""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.errors import ConfigError, IncompleteError, RpcError
from keeper.ports import Reader
from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.holders import load_holders
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import address, addresses, answers, read, text, uint
from keeper.types import Call, CallResult, Head, Token
from keeper.units import Address, Bps

CATEGORIES = range(1, 256)
"""eMode ids are uint8 and 0 is no category."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one market."""

    pool: Address
    provider: Address
    configurator: Address
    oracle: Address
    revision: int


async def find(reader: Reader, pool: Address, head: Head) -> Deployment:
    """Find a market's contracts from its pool; raise `ConfigError` when it is no Aave v3 pool."""
    shown = to_checksum_address(pool)
    if not await reader.code(pool, head.hash):
        raise ConfigError(f"pool {shown} has no code", "check the address and the chain")
    try:
        results = await reader.multicall(
            [read(pool, "ADDRESSES_PROVIDER()"), read(pool, "POOL_REVISION()")], head.hash
        )
    except RpcError as error:
        raise ConfigError(f"pool {shown} is not an Aave v3 pool", "check the address") from error
    if not all(result.ok and len(result.data) == 32 for result in results):
        raise ConfigError(f"pool {shown} is not an Aave v3 pool", "check the address")
    provider, revision = address(results[0].data), uint(results[1].data)
    results = await reader.multicall(
        [
            read(provider, "getPool()"),
            read(provider, "getPoolConfigurator()"),
            read(provider, "getPriceOracle()"),
        ],
        head.hash,
    )
    if not all(result.ok and len(result.data) == 32 for result in results):
        raise ConfigError(f"pool {shown} is not an Aave v3 pool", "check the address")
    named, configurator, oracle = (address(result.data) for result in results)
    if named != pool:
        raise ConfigError(
            f"pool {shown} is not the one its provider names", f"use {to_checksum_address(named)}"
        )
    return Deployment(pool, provider, configurator, oracle, revision)


async def load(
    reader: Reader, market: str, deployment: Deployment, head: Head, first_block: int
) -> Ledger:
    """Return the ledger as of exactly this head; `first_block` is not after the pool's first."""
    ledger = Ledger(market)
    pool, block = deployment.pool, head.hash
    header = answers(
        await reader.multicall(
            [
                read(pool, "getReservesList()"),
                read(pool, "FLASHLOAN_PREMIUM_TOTAL()"),
                read(deployment.provider, "getPriceOracleSentinel()"),
            ],
            block,
        ),
        f"market {market}",
    )
    ledger.flash_premium = Bps(uint(header[1]))
    ledger.sentinel = address(header[2])
    await _reserves(reader, pool, head, ledger, addresses(header[0]))
    await _check_rules(reader, head, ledger)
    await _categories(reader, pool, head, ledger)
    await load_holders(reader, pool, head, ledger, first_block)
    await _check_totals(reader, head, ledger, first_block)
    return ledger


async def _reserves(
    reader: Reader, pool: Address, head: Head, ledger: Ledger, assets: Sequence[Address]
) -> None:
    results = await reader.multicall(
        [
            call
            for asset in assets
            for call in (
                read(pool, "getReserveData(address)", asset),
                read(pool, "getLiquidationGracePeriod(address)", asset),
                read(pool, "getReserveDeficit(address)", asset),
                read(pool, "getVirtualUnderlyingBalance(address)", asset),
                read(asset, "symbol()"),
            )
        ],
        head.hash,
    )
    data = answers(results, f"reserves of {ledger.market}")
    for position, asset in enumerate(assets):
        main, grace, deficit, balance, symbol = data[5 * position : 5 * position + 5]
        reserve = Reserve(
            id=uint(main, 7),
            asset=asset,
            supply_token=address(main, 8),
            debt_token=address(main, 10),
            configuration=uint(main),
            liquidity_index=uint(main, 1),
            liquidity_rate=uint(main, 2),
            borrow_index=uint(main, 3),
            borrow_rate=uint(main, 4),
            updated_at=uint(main, 6),
            grace_until=uint(grace),
            deficit=uint(deficit),
            virtual_balance=uint(balance),
        )
        reserve.token = Token(asset, text(symbol), reserve.decimals)
        ledger.list_reserve(reserve)
    cash = await _words(
        reader,
        head,
        [
            read(reserve.asset, "balanceOf(address)", reserve.supply_token)
            for reserve in ledger.reserves.values()
        ],
    )
    for reserve, amount in zip(ledger.reserves.values(), cash, strict=True):
        reserve.cash = amount


async def _check_rules(reader: Reader, head: Head, ledger: Ledger) -> None:
    """Stop the ledger when a token's code is of a revision whose rules are not known."""
    tokens = [token for reserve in ledger.reserves.values() for token in token_rules(reserve)]
    results = await reader.multicall([read(token, name) for token, name, _ in tokens], head.hash)
    for (token, _, known), result in zip(tokens, results, strict=True):
        if why := unknown_rules(token, known, result):
            ledger.stop(why)
            return


def token_rules(reserve: Reserve) -> tuple[tuple[Address, str, frozenset[int]], ...]:
    """Return a reserve's tokens, what tells each one's revision, and those whose rules are known."""
    return (
        (reserve.supply_token, "ATOKEN_REVISION()", v36.SUPPLY_TOKEN_REVISIONS),
        (reserve.debt_token, "DEBT_TOKEN_REVISION()", v36.DEBT_TOKEN_REVISIONS),
    )


def unknown_rules(token: Address, known: frozenset[int], revision: CallResult) -> str:
    """Say why a token is not to be relied on, by what it answered; empty when it is."""
    is_told = revision.ok and len(revision.data) == 32
    if is_told and uint(revision.data) in known:
        return ""
    told = f"revision {uint(revision.data)}" if is_told else "no known kind"
    return f"the rules of token {to_checksum_address(token)}, of {told}, are not known"


async def _categories(reader: Reader, pool: Address, head: Head, ledger: Ledger) -> None:
    results = await reader.multicall(
        [read(pool, "getEModeCategoryCollateralConfig(uint8)", number) for number in CATEGORIES],
        head.hash,
    )
    terms = {
        number: data
        for number, data in zip(CATEGORIES, answers(results, "eMode terms", 3), strict=True)
        if any(data)
    }
    maps = answers(
        await reader.multicall(
            [
                read(pool, f"getEModeCategory{name}Bitmap(uint8)", number)
                for number in terms
                for name in ("Collateral", "Borrowable", "Ltvzero")
            ],
            head.hash,
        ),
        "eMode bitmaps",
    )
    for position, (number, data) in enumerate(terms.items()):
        collateral, borrowable, ltv_zero = (
            uint(word) for word in maps[3 * position : 3 * position + 3]
        )
        ledger.categories[number] = Category(
            Bps(uint(data)),
            Bps(uint(data, 1)),
            Bps(uint(data, 2)),
            collateral,
            borrowable,
            ltv_zero,
        )


async def _check_totals(reader: Reader, head: Head, ledger: Ledger, first_block: int) -> None:
    reserves = list(ledger.reserves.values())
    tokens = [token for r in reserves for token in (r.supply_token, r.debt_token)]
    totals = await _words(reader, head, [read(token, "scaledTotalSupply()") for token in tokens])
    held = [total for r in reserves for total in (r.scaled_supply, r.scaled_debt)]
    for token, total, found in zip(tokens, totals, held, strict=True):
        if total == found:
            continue
        # A provider's index of logs may lag behind its state.
        raise IncompleteError(
            f"market {ledger.market}: holders of {to_checksum_address(token)} sum to {found}, not {total}",
            f"set first_block below {first_block}" if first_block else "",
        )


async def _words(reader: Reader, head: Head, calls: Sequence[Call]) -> list[int]:
    results: Sequence[CallResult] = await reader.multicall(calls, head.hash)
    return [uint(data) for data in answers(results, "totals")]
