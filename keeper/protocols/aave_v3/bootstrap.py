"""Load one Aave v3 market at one block: reserves, categories and every holder."""

from collections.abc import Callable, Mapping, Sequence

from eth_utils.address import to_checksum_address

from keeper.chain.words import address, addresses, answers, read, text, uint
from keeper.errors import IncompleteError
from keeper.ports import Reader
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.emode import load_categories
from keeper.protocols.aave_v3.eras import Era
from keeper.protocols.aave_v3.holders import load_holders
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.special import load_special_debts
from keeper.types import Call, CallResult, Head, Token
from keeper.units import ZERO_ADDRESS, Address, Bps

_GETTERS: Mapping[str, str] = {
    "grace_until": "getLiquidationGracePeriod",
    "deficit": "getReserveDeficit",
    "virtual_balance": "getVirtualUnderlyingBalance",
}
_RESERVE_WORDS: Mapping[str, Callable[[Era], bool]] = {
    "grace_until": lambda era: era.has_grace,
    "deficit": lambda era: era.has_deficit,
    "virtual_balance": lambda era: era.has_virtual_balance,
}
"""What of a reserve has a getter of its own in some eras."""


async def load(
    reader: Reader, market: str, deployment: Deployment, head: Head, first_block: int
) -> Ledger:
    """Return the ledger as of exactly this head; `first_block` is not after the pool's first."""
    ledger = Ledger(market, era=deployment.era)
    pool, block = deployment.pool, head.hash
    asked = [read(pool, "getReservesList()"), read(pool, "FLASHLOAN_PREMIUM_TOTAL()")]
    if ledger.era.has_sentinel:
        asked.append(read(deployment.provider, "getPriceOracleSentinel()"))
    header = answers(await reader.multicall(asked, block), f"market {market}")
    ledger.flash_premium = Bps(uint(header[1]))
    if ledger.era.has_sentinel:
        ledger.sentinel = address(header[2])
    await _reserves(reader, pool, head, ledger, addresses(header[0]))
    await _check_rules(reader, head, ledger)
    await _forms(reader, head, ledger)
    await load_categories(reader, pool, head, ledger)
    await load_holders(reader, pool, head, ledger, first_block)
    await _check_totals(reader, head, ledger, first_block)
    await load_special_debts(reader, head, ledger, first_block)
    return ledger


async def _reserves(
    reader: Reader, pool: Address, head: Head, ledger: Ledger, assets: Sequence[Address]
) -> None:
    era = ledger.era
    names = [name for name, known in _RESERVE_WORDS.items() if known(era)]
    results = await reader.multicall(
        [
            call
            for asset in assets
            for call in (
                read(pool, "getReserveData(address)", asset),
                read(asset, "symbol()"),
                *(read(pool, f"{_GETTERS[name]}(address)", asset) for name in names),
            )
        ],
        head.hash,
    )
    data = iter(answers(results, f"reserves of {ledger.market}"))
    for asset in assets:
        main, symbol = next(data), next(data)
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
            era=era,
            stable_token=address(main, 9) if era.has_stable_rates else ZERO_ADDRESS,
        )
        for name in names:
            setattr(reserve, name, uint(next(data)))
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


async def _forms(reader: Reader, head: Head, ledger: Ledger) -> None:
    """Find aTokens that tell transfers in the underlying, among those of early eras."""
    if not ledger.era.rounds_balances:
        return
    reserves = list(ledger.reserves.values())
    calls = [call for reserve in reserves for call in form_calls(reserve.supply_token)]
    results = await reader.multicall(calls, head.hash)
    for number, reserve in enumerate(reserves):
        form = tells_amounts(results[2 * number : 2 * number + 2])
        if form is None:
            ledger.stop(unknown_form(reserve.supply_token))
        reserve.tells_amounts = bool(form)


def form_calls(token: Address) -> list[Call]:
    """Return what `tells_amounts` looks at: functions that only the pool may call.

    v3.0.0 and v3.0.1 have the revision 1 both; the latter's handleRepayment has another argument.
    """
    return [
        read(token, f"handleRepayment({types})", *(0,) * (types.count(",") + 1))
        for types in ("address,uint256", "address,address,uint256")
    ]


def tells_amounts(results: Sequence[CallResult]) -> bool | None:
    """Tell whether an aToken's transfers are in the underlying, None when it is of neither kind.

    A function that is not there fails without a word, one that is says why it refuses.
    """
    first, later = (result.ok or bool(result.data) for result in results)
    return None if first == later else first


def unknown_form(token: Address) -> str:
    """Say why an aToken's transfers cannot be followed."""
    return f"how token {to_checksum_address(token)} tells of transfers is not known"


def token_rules(reserve: Reserve) -> tuple[tuple[Address, str, frozenset[int]], ...]:
    """Return a reserve's tokens, what tells each one's revision, and those whose rules are known."""
    return (
        (reserve.supply_token, "ATOKEN_REVISION()", reserve.era.supply_tokens),
        (reserve.debt_token, "DEBT_TOKEN_REVISION()", reserve.era.debt_tokens),
    )


def unknown_rules(token: Address, known: frozenset[int], revision: CallResult) -> str:
    """Say why a token is not to be relied on, by what it answered; empty when it is."""
    is_told = revision.ok and len(revision.data) == 32
    if is_told and uint(revision.data) in known:
        return ""
    told = f"revision {uint(revision.data)}" if is_told else "no known kind"
    return f"the rules of token {to_checksum_address(token)}, of {told}, are not known"


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
