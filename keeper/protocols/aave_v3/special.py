"""Debts of early eras that grow by other rules: at stable rates, and GHO's at a discount.

Source: StableDebtToken.sol of core-v3 (mint, burn, balanceOf), and GhoVariableDebtToken.sol, up to
v3.3, which takes a discount off the interest of who holds staked AAVE. Debts at stable rates, removed in
v3.2, are followed and their borrowers refused; one discount bars the market, as what is discounted
cannot be told from logs alone.
"""

import asyncio
from collections.abc import Sequence

from keeper.chain.words import LAST_ADDRESS, answered, answers, read, topic, uint, uints
from keeper.errors import IncompleteError
from keeper.ports import Reader
from keeper.protocols.aave_v3.balances import Change, Step
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.stable import Stable
from keeper.protocols.aave_v3.words import malformed, topic_address
from keeper.types import CallResult, Head, Log, Watch
from keeper.units import Address

STABLE_MINT = topic("Mint(address,address,uint256,uint256,uint256,uint256,uint256,uint256)")
STABLE_BURN = topic("Burn(address,uint256,uint256,uint256,uint256,uint256)")
TOLERATED = 100
"""By one such part, and a unit each, borrowers may owe less at stable rates than the token says.

It adds interest at the average of the rates, to a sum that takes in interest whenever somebody acts,
so that neither it nor the principals' own sum (getSupplyData) is what borrowers owe to the unit.
"""
DISCOUNT = topic("DiscountPercentUpdated(address,uint256,uint256)")


def stable_mint(ledger: Ledger, reserve: Reserve) -> Change:
    """Return what takes a debt made at a stable rate, or one of which less than its interest is paid."""

    def change(log: Log) -> Step:
        if len(log.topics) != 3:
            raise malformed(log)
        amount, balance, increase, rate, *_ = uints(log.data, 6)
        debt = Stable(balance - increase + amount, rate, log.timestamp)
        return (ledger.set_stable(topic_address(log, 2), reserve, debt),)

    return change


def stable_burn(ledger: Ledger, reserve: Reserve) -> Change:
    """Return what takes a repayment of a debt at a stable rate."""

    def change(log: Log) -> Step:
        if len(log.topics) != 2:
            raise malformed(log)
        amount, balance, increase, *_ = uints(log.data, 5)
        holder, left = topic_address(log, 1), balance - increase - amount
        before = ledger.stable.get(holder, {}).get(reserve.id)
        if before is None or left < 0:
            raise ValueError(f"it leaves {left} of a debt at a stable rate")
        debt = Stable(left, before.rate, log.timestamp)
        return (ledger.set_stable(holder, reserve, debt),)

    return change


def discount(ledger: Ledger, reserve: Reserve) -> Change:
    """Return what stops a market at the first discount on a debt."""

    def change(log: Log) -> Step | None:
        if len(log.topics) != 3 or log.topics[1] > LAST_ADDRESS:
            raise malformed(log)
        return (ledger.stop(at_a_discount(reserve)),) if any(log.topics[2]) else None

    return change


def at_a_discount(reserve: Reserve) -> str:
    """Say why a market with such debts cannot be followed."""
    symbol = reserve.token.symbol if reserve.token else ""
    return f"debts in {symbol} grow at a discount, which is not followed"


async def load_special_debts(reader: Reader, head: Head, ledger: Ledger, first_block: int) -> None:
    """Load debts at stable rates, and stop a ledger with its holders at the first discount."""
    if ledger.era.has_discounts:
        await _discounts(reader, head, ledger)
    if ledger.era.has_stable_rates:
        await _stable_debts(reader, head, ledger, first_block)


async def _discounts(reader: Reader, head: Head, ledger: Ledger) -> None:
    reserves, signature = list(ledger.reserves.values()), "getDiscountPercent(address)"
    asked = [read(each.debt_token, signature, bytes(20)) for each in reserves]
    told = await reader.multicall(asked, head.hash)
    given = [each for each, result in zip(reserves, told, strict=True) if answered(result)]
    for reserve in given:
        debtors = await asyncio.to_thread(_debtors, ledger, reserve)
        found: list[int] = []

        def take(results: Sequence[CallResult], into: list[int] = found) -> None:
            into.extend(map(uint, answers(results, "discounts")))

        calls = (read(reserve.debt_token, signature, debtor) for debtor in debtors)
        stage = f"discounts of {ledger.market}"
        await reader.sweep(stage, calls, len(debtors), head.hash, take)
        if any(found):
            ledger.stop(at_a_discount(reserve))


def _debtors(ledger: Ledger, reserve: Reserve) -> list[Address]:
    return [holder for holder in ledger.accounts if ledger.owed(holder, reserve)]


async def _stable_debts(reader: Reader, head: Head, ledger: Ledger, first_block: int) -> None:
    by_token = {each.stable_token: each for each in ledger.reserves.values()}
    calls = [read(token, "totalSupply()") for token in by_token]
    totals = answers(await reader.multicall(calls, head.hash), "debts at stable rates")
    owed = [token for token, total in zip(by_token, totals, strict=True) if uint(total)]
    if not owed:
        return
    watch = Watch(frozenset(owed), frozenset({STABLE_MINT}))
    stage = f"stable debts of {ledger.market}"
    pairs = sorted(await reader.collect(stage, watch, first_block, head.number, _pair))
    names = ("principalBalanceOf", "getUserStableRate", "getUserLastUpdated")
    asked = (
        read(Address(pair[:20]), f"{name}(address)", pair[20:]) for pair in pairs for name in names
    )
    found: list[int] = []

    def take(results: Sequence[CallResult]) -> None:
        found.extend(map(uint, answers(results, "debts at stable rates")))

    await reader.sweep(stage, asked, 3 * len(pairs), head.hash, take)
    sums = dict.fromkeys(owed, 0)
    for number, pair in enumerate(pairs):
        debt = Stable(*found[3 * number : 3 * number + 3])
        if debt.principal:
            token = Address(pair[:20])
            sums[token] += debt.owed(ledger.era.compounded, head.timestamp)
            ledger.set_stable(Address(pair[20:]), by_token[token], debt)
    for token, total in zip(by_token, map(uint, totals), strict=True):
        if total - sums.get(token, 0) > total // TOLERATED + len(pairs):
            raise IncompleteError(
                f"market {ledger.market}: who was found owes {sums[token]} of 0x{token.hex()},"
                f" of which {total} are owed",
                f"set first_block below {first_block}" if first_block else "",
            )


def _pair(log: Log) -> bytes:
    """Return token and borrower."""
    named = len(log.topics) == 3 and len(log.topics[2]) == 32
    return log.address + (log.topics[2][12:] if named else bytes(20))
