"""Load one market at one block: the comptroller's contracts, its cTokens and every holder."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_utils.address import to_checksum_address

from keeper.chain.codes import Codes, codes_of
from keeper.chain.words import address, addresses, answered, answers, read, text, uint
from keeper.errors import ConfigError, IncompleteError, RpcError
from keeper.ports import Reader
from keeper.protocols.compound_v2.clock import counts_seconds
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.events import (
    LIQUIDATE_ACTION,
    REDEEM_ACTION,
    REPAY_ACTION,
    SEIZE,
    TRANSFER_ACTION,
)
from keeper.protocols.compound_v2.ledger import CORE, Ledger, Pool
from keeper.protocols.compound_v2.vai import Vai
from keeper.protocols.compound_v2.words import maybe
from keeper.types import Call, CallResult, Head, Token
from keeper.units import ZERO_ADDRESS, Address, Wad

MOST_CTOKENS = 256
ACTIONS = (REDEEM_ACTION, REPAY_ACTION, SEIZE, LIQUIDATE_ACTION, TRANSFER_ACTION)
CTOKEN_READS = (
    "symbol()",
    "decimals()",
    "borrowIndex()",
    "totalBorrows()",
    "reserveFactorMantissa()",
)
SEIZE_SHARE = "protocolSeizeShareMantissa()"
"""What the first cTokens for the native coin do not know, and take for a mint of nothing.

They add interest for it, within the reads themselves, so that it is asked for last of all.
"""


@dataclass(frozen=True, slots=True)
class Asset:
    """A cToken and its underlying, the wrapped token where it holds the native coin."""

    ctoken: Address
    underlying: Address
    is_native: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one market and their code; the zero address is none."""

    comptroller: Address
    oracle: Address
    liquidator: Address
    vai: Address
    assets: tuple[Asset, ...]
    by_seconds: bool = False
    codes: Codes = field(default_factory=dict)


async def find(
    reader: Reader, comptroller: Address, wrapped: Address | None, head: Head
) -> Deployment:
    """Find a market's contracts; raise `ConfigError` when there is no comptroller of Compound V2.

    `wrapped` is the wrapped native coin; Venus' liquidator contract names it otherwise.
    """
    shown = to_checksum_address(comptroller)
    if not await reader.code(comptroller, head.hash):
        raise ConfigError(f"comptroller {shown} has no code", "check the address and the chain")
    about = (
        "isComptroller()",
        "oracle()",
        "getAllMarkets()",
        "closeFactorMantissa()",
        "liquidatorContract()",
        "vaiController()",
    )
    try:
        results = await reader.multicall([read(comptroller, name) for name in about], head.hash)
    except RpcError as error:
        raise _stranger(shown) from error
    if not all(map(answered, results[:4])) or not uint(results[0].data):
        raise _stranger(shown)
    oracle, listed = address(results[1].data), addresses(results[2].data)
    liquidator, vai = (
        address(result.data) if answered(result) else ZERO_ADDRESS for result in results[4:]
    )
    if not listed or len(listed) > MOST_CTOKENS:
        raise ConfigError(f"comptroller {shown} lists {len(listed)} markets", "check the address")
    (bad_debt,) = await reader.multicall([read(listed[0], "badDebt()")], head.hash)
    if answered(bad_debt):
        raise ConfigError(
            f"comptroller {shown} is of Venus' isolated pools, whose rules this keeper does not know",
            "name the core pool's comptroller",
        )
    results = await reader.multicall([read(ctoken, "underlying()") for ctoken in listed], head.hash)
    underlying = [address(each.data) if answered(each) else ZERO_ADDRESS for each in results]
    if ZERO_ADDRESS in underlying and wrapped is None:
        wrapped = await _wrapped(reader, liquidator, head)
        if wrapped is None:
            native = to_checksum_address(listed[underlying.index(ZERO_ADDRESS)])
            raise ConfigError(
                f"comptroller {shown} lists {native}, which holds the native coin",
                "name its wrapped token: wrapped_native = 0x…",
            )
    return Deployment(
        comptroller,
        oracle,
        liquidator,
        vai,
        tuple(
            Asset(
                ctoken, asset if asset != ZERO_ADDRESS else wrapped or asset, asset == ZERO_ADDRESS
            )
            for ctoken, asset in zip(listed, underlying, strict=True)
        ),
        await counts_seconds(reader, listed, head, shown),
        await codes_of(reader, [comptroller, liquidator, vai, *listed], head),
    )


def _stranger(shown: str) -> ConfigError:
    return ConfigError(f"{shown} is no comptroller of Compound V2 or a fork", "check the address")


async def _wrapped(reader: Reader, liquidator: Address, head: Head) -> Address | None:
    if liquidator == ZERO_ADDRESS:
        return None
    (named,) = await reader.multicall([read(liquidator, "wBNB()")], head.hash)
    return address(named.data) if answered(named) else None


async def load_terms(reader: Reader, market: str, deployment: Deployment, head: Head) -> Ledger:
    """Return a ledger that knows the comptroller and its cTokens, and no holder yet."""
    ledger = Ledger(market, liquidator=deployment.liquidator, by_seconds=deployment.by_seconds)
    await _comptroller(reader, deployment, head, ledger)
    ledger.vai = await _vai(reader, deployment.vai, head)
    await _ctokens(reader, deployment, head, ledger)
    await _core_terms(reader, deployment.comptroller, head, ledger)
    await _pools(reader, deployment.comptroller, head, ledger)
    return ledger


async def _comptroller(reader: Reader, deployment: Deployment, head: Head, ledger: Ledger) -> None:
    comptroller, liquidator = deployment.comptroller, deployment.liquidator
    results = await reader.multicall(
        [
            read(comptroller, "closeFactorMantissa()"),
            read(comptroller, "treasuryPercent()"),
            read(comptroller, "protocolPaused()"),
            read(comptroller, "seizeGuardianPaused()"),
            read(comptroller, "minLiquidatableCollateral()"),
            read(liquidator, "treasuryPercentMantissa()"),
        ],
        head.hash,
    )
    ledger.close_factor = uint(answers(results[:1], f"comptroller of {ledger.market}")[0])
    fee, paused, seizing, minimum, share = map(maybe, results[1:])
    ledger.redeem_fee, ledger.minimum_collateral = fee, minimum
    ledger.is_paused = bool(paused or seizing)
    if liquidator != ZERO_ADDRESS:
        answers(results[5:], f"liquidator contract of {ledger.market}")
        ledger.treasury_share = share


async def _vai(reader: Reader, controller: Address, head: Head) -> Vai | None:
    """Return VAI where its controller tells of debts, None where there is none or it does not."""
    if controller == ZERO_ADDRESS:
        return None
    names = ("getVAIAddress()", "vaiMintIndex()", "getVAIRepayRatePerBlock()")
    results = await reader.multicall([read(controller, name) for name in names], head.hash)
    if not all(map(answered, results)):
        return None
    token = address(results[0].data)
    about = await reader.multicall([read(token, "symbol()"), read(token, "decimals()")], head.hash)
    symbol, decimals = answers(about, "VAI")
    return Vai(controller, Token(token, text(symbol), uint(decimals)))


async def _ctokens(reader: Reader, deployment: Deployment, head: Head, ledger: Ledger) -> None:
    calls: list[Call] = []
    moment = "accrualBlockTimestamp()" if deployment.by_seconds else "accrualBlockNumber()"
    for asset in deployment.assets:
        calls += [read(asset.ctoken, name) for name in (*CTOKEN_READS, moment)]
        calls += [read(asset.underlying, name) for name in ("symbol()", "decimals()")]
        calls.append(read(asset.ctoken, SEIZE_SHARE))
    results = await reader.multicall(calls, head.hash)
    width = len(CTOKEN_READS) + 4
    for number, asset in enumerate(deployment.assets):
        row = results[number * width : (number + 1) * width]
        what = f"cToken {to_checksum_address(asset.ctoken)}"
        symbol, decimals, index, borrows, factor, accrued = answers(row[:6], what)
        name, places = answers(row[6:8], f"underlying of {what}")
        ledger.list_ctoken(
            CToken(
                id=number,
                token=Token(asset.ctoken, text(symbol), uint(decimals), asset.underlying),
                underlying=Token(asset.underlying, text(name), uint(places)),
                is_native=asset.is_native,
                index=uint(index),
                borrows=uint(borrows),
                accrued_at=uint(accrued),
                reserve_factor=uint(factor),
                seize_share=maybe(row[8]),
            )
        )


async def _core_terms(reader: Reader, comptroller: Address, head: Head, ledger: Ledger) -> None:
    """Read what cTokens count for: Venus tells by cToken, Compound one incentive for all."""
    calls = [read(comptroller, "liquidationIncentiveMantissa()")]
    for ctoken in ledger.ctokens:
        calls.append(read(comptroller, "markets(address)", ctoken.address))
        calls.append(read(comptroller, "isForcedLiquidationEnabled(address)", ctoken.address))
        calls += [
            read(comptroller, "actionPaused(address,uint8)", ctoken.address, action)
            for action in ACTIONS
        ]
    incentive, *rest = await reader.multicall(calls, head.hash)
    width = 2 + len(ACTIONS)
    listings = answers(rest[::width], f"markets of {ledger.market}")
    # Compound's third word is a flag; where it is a number, or there are more, it has thresholds.
    ledger.has_thresholds = any(len(each) >= 160 or uint(each, 2) > 1 for each in listings)
    ledger.tells_incentives = all(len(each) >= 160 for each in listings)
    for number, (ctoken, listing) in enumerate(zip(ledger.ctokens, listings, strict=True)):
        if ledger.tells_incentives:
            terms = Terms(Wad(uint(listing, 3)), Wad(uint(listing, 4)))
        else:
            threshold = uint(listing, 2 if ledger.has_thresholds else 1)
            common = uint(answers([incentive], f"incentive of {ledger.market}")[0])
            terms = Terms(Wad(threshold), Wad(common))
        ledger.set_terms(ctoken, CORE, terms)
        forced, *paused = rest[number * width + 1 : (number + 1) * width]
        ctoken.is_forced = bool(maybe(forced))
        ctoken.paused = sum(
            bool(maybe(flag)) << action for action, flag in zip(ACTIONS, paused, strict=True)
        )


async def _pools(reader: Reader, comptroller: Address, head: Head, ledger: Ledger) -> None:
    """Read Venus' pools: whether each is active, falls back, and on what terms it lists cTokens."""
    (last,) = await reader.multicall([read(comptroller, "lastPoolId()")], head.hash)
    numbers = range(1, maybe(last) + 1)
    calls = [read(comptroller, "pools(uint96)", number) for number in numbers]
    calls += [
        read(comptroller, "poolMarkets(uint96,address)", number, ctoken.address)
        for number in numbers
        for ctoken in ledger.ctokens
    ]
    data = answers(await reader.multicall(calls, head.hash), f"pools of {ledger.market}")
    for number, about in zip(numbers, data, strict=False):
        ledger.pools[number] = Pool(bool(uint(about, 1)), bool(uint(about, 2)))
    listings = iter(data[len(numbers) :])
    for number in numbers:
        for ctoken in ledger.ctokens:
            listing = next(listings)
            if uint(listing):
                terms = Terms(Wad(uint(listing, 3)), Wad(uint(listing, 4)))
                ledger.set_terms(ctoken, number, terms)


def state_calls(ctoken: CToken, *, by_seconds: bool) -> tuple[Call, ...]:
    """Return the reads of what logs do not tell, in the order of `take_state`."""
    return (
        read(ctoken.address, "getCash()"),
        read(ctoken.address, "totalSupply()"),
        read(ctoken.address, "totalReserves()"),
        read(
            ctoken.address,
            "borrowRatePerTimestamp()" if by_seconds else "borrowRatePerBlock()",
        ),
    )


def take_state(ctoken: CToken, results: Sequence[CallResult]) -> None:
    """Store answers to `state_calls`; what was not answered is None."""
    ctoken.cash, ctoken.supply, ctoken.reserves, ctoken.rate = (
        uint(result.data) if result.ok and len(result.data) == 32 else None for result in results
    )


def incomplete(ledger: Ledger, what: str, first_block: int) -> IncompleteError:
    """Return the error for holders that do not add up to what the contracts say."""
    hint = f"set first_block below {first_block}" if first_block else ""
    return IncompleteError(f"market {ledger.market}: {what}", hint)
