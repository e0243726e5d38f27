"""Compare the ledger with the chain at the head it stands at."""

import random

from keeper.ports import Reader
from keeper.protocols.aave_v3.ledger import Account, Ledger
from keeper.protocols.aave_v3.words import answers, read, uint
from keeper.types import Call, Drift, Head
from keeper.units import Address

RESERVE_WORDS = {
    0: "configuration",
    1: "liquidity_index",
    2: "liquidity_rate",
    3: "borrow_index",
    4: "borrow_rate",
    6: "updated_at",
    7: "id",
}
"""Words of Pool.getReserveData and the fields that hold them."""


async def audit(
    reader: Reader, ledger: Ledger, pool: Address, head: Head, sample: int, seed: int
) -> list[Drift]:
    """Return what differs in every reserve and in `sample` random holders, half of them debtors."""
    chosen = random.Random(seed)
    debtors, holders = sorted(ledger.debtors), sorted(ledger.accounts)
    picked = chosen.sample(debtors, min(len(debtors), (sample + 1) // 2))
    picked += chosen.sample(holders, min(len(holders), sample - len(picked)))
    calls: list[Call] = []
    held: list[list[tuple[str, int, int]]] = []
    for reserve in ledger.reserves.values():
        calls.append(read(pool, "getReserveData(address)", reserve.asset))
        name = f"reserve 0x{reserve.asset.hex()}"
        held.append(
            [(f"{name} {f}", word, getattr(reserve, f)) for word, f in RESERVE_WORDS.items()]
        )
        for token, total in (
            (reserve.supply_token, reserve.scaled_supply),
            (reserve.debt_token, reserve.scaled_debt),
        ):
            calls.append(read(token, "scaledTotalSupply()"))
            held.append([(f"total of 0x{token.hex()}", 0, total)])
    for holder in dict.fromkeys(picked):
        account = ledger.accounts[holder]
        name = f"holder 0x{holder.hex()}"
        calls.append(read(pool, "getUserConfiguration(address)", holder))
        held.append([(f"{name} configuration", 0, configuration(account))])
        calls.append(read(pool, "getUserEMode(address)", holder))
        held.append([(f"{name} category", 0, account.category)])
        for reserve in ledger.reserves.values():
            for token, balances in (
                (reserve.supply_token, account.supplied),
                (reserve.debt_token, account.borrowed),
            ):
                calls.append(read(token, "scaledBalanceOf(address)", holder))
                held.append([(f"{name} 0x{token.hex()}", 0, balances.get(reserve.id, 0))])
    data = answers(await reader.multicall(calls, head.hash), f"audit of {ledger.market}")
    return [
        Drift(subject, value, uint(answer, word))
        for answer, fields in zip(data, held, strict=True)
        for subject, word, value in fields
        if uint(answer, word) != value
    ]


def configuration(account: Account) -> int:
    """Return a holder's bitmap as the pool keeps it (UserConfiguration.sol)."""
    bits = sum(1 << 2 * number for number in account.borrowed)
    flags = account.flags
    while flags:
        bit = flags & -flags
        flags ^= bit
        bits |= 2 << 2 * (bit.bit_length() - 1)
    return bits
