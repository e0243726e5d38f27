"""Compare the ledger with the chain at the head it stands at."""

import random
from collections.abc import Callable

from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.vai import Unread
from keeper.types import Call, Drift, Head
from keeper.units import Address


async def audit(
    reader: Reader, ledger: Ledger, comptroller: Address, head: Head, sample: int, seed: int
) -> list[Drift]:
    """Return what differs in every cToken and in `sample` random holders, about half debtors."""
    calls: list[Call] = []
    held: list[tuple[str, int, int]] = []

    def ask(subject: str, value: int, call: Call, at: int = 0) -> None:
        calls.append(call)
        held.append((subject, value, at))

    ask("close factor", ledger.close_factor, read(comptroller, "closeFactorMantissa()"))
    _ask_terms(ledger, comptroller, ask)

    moment = "accrualBlockTimestamp()" if ledger.by_seconds else "accrualBlockNumber()"
    for ctoken in ledger.ctokens:
        for name, value in (
            ("borrowIndex()", ctoken.index),
            ("totalBorrows()", ctoken.borrows),
            ("reserveFactorMantissa()", ctoken.reserve_factor),
            (moment, ctoken.accrued_at),
        ):
            subject = f"cToken 0x{ctoken.address.hex()} {name.removesuffix('()')}"
            ask(subject, value, read(ctoken.address, name))
    for holder in holders(ledger, sample, seed):
        name, entered = f"holder 0x{holder.hex()}", ledger.entered.get(holder, 0)
        minted = ledger.minters.get(holder)
        if ledger.vai is not None and not isinstance(minted, Unread):
            amount = 0 if minted is None else minted.amount
            ask(f"{name} minted VAI", amount, read(comptroller, "mintedVAIs(address)", holder))
        for ctoken in ledger.ctokens:
            of, symbol = ctoken.address, ctoken.token.symbol
            ask(
                f"{name} {symbol}",
                ctoken.balances.get(holder, 0),
                read(of, "balanceOf(address)", holder),
            )
            ask(
                f"{name} debt of {symbol}",
                ctoken.owed(holder, ctoken.index),
                read(of, "borrowBalanceStored(address)", holder),
            )
            ask(
                f"{name} membership of {symbol}",
                entered >> ctoken.id & 1,
                read(comptroller, "checkMembership(address,address)", holder, of),
            )
    results = answers(await reader.multicall(calls, head.hash), f"audit of {ledger.market}")
    return [
        Drift(subject, value, uint(answer, at))
        for (subject, value, at), answer in zip(held, results, strict=True)
        if uint(answer, at) != value
    ]


def _ask_terms(ledger: Ledger, comptroller: Address, ask: Callable[..., None]) -> None:
    """Ask for what each cToken counts for in each pool, and what a liquidation of it brings."""
    for ctoken in ledger.ctokens:
        core, name = ledger.terms_of(CORE, ctoken), f"cToken 0x{ctoken.address.hex()}"
        listing = read(comptroller, "markets(address)", ctoken.address)
        if ledger.tells_incentives:
            ask(f"{name} threshold", core.threshold, listing, 3)
            ask(f"{name} incentive", core.incentive, listing, 4)
        else:
            ask(f"{name} threshold", core.threshold, listing, 2 if ledger.has_thresholds else 1)
            common = read(comptroller, "liquidationIncentiveMantissa()")
            ask(f"{name} incentive", core.incentive, common)
        for pool, terms in ctoken.terms.items():
            if pool == CORE:
                continue
            listing = read(comptroller, "poolMarkets(uint96,address)", pool, ctoken.address)
            ask(f"{name} threshold in pool {pool}", terms.threshold, listing, 3)
            ask(f"{name} incentive in pool {pool}", terms.incentive, listing, 4)


def holders(ledger: Ledger, sample: int, seed: int) -> list[Address]:
    """Return random holders, about half of them debtors."""
    chosen = random.Random(seed)
    debtors = list(ledger.owing)
    picked = dict.fromkeys(chosen.sample(debtors, min(len(debtors), -(-sample // 2))))
    for ctoken in chosen.sample(ledger.ctokens, len(ledger.ctokens)):
        others = list(ctoken.balances)
        share = min(len(others), sample - len(picked), -(-sample // len(ledger.ctokens)))
        picked.update(dict.fromkeys(chosen.sample(others, max(share, 0))))
    return list(picked)
