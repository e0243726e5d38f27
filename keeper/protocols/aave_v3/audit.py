"""Compare the ledger with the chain at the head it stands at."""

import random

from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.aave_v3.accounts import SHARDS, Account, has_debt
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Call, Drift, Head
from keeper.units import ZERO_ADDRESS, Address

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
    """Return what differs in every reserve and in `sample` random holders, about half debtors."""
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
    for holder in holders(ledger, sample, seed):
        account = ledger.account(holder)
        name = f"holder 0x{holder.hex()}"
        calls.append(read(pool, "getUserConfiguration(address)", holder))
        stable = ledger.stable.get(holder, {})
        owing = sum(1 << 2 * number for number in stable)
        held.append([(f"{name} configuration", 0, configuration(account) | owing)])
        calls.append(read(pool, "getUserEMode(address)", holder))
        held.append([(f"{name} category", 0, account.category)])
        for reserve in ledger.reserves.values():
            if reserve.stable_token != ZERO_ADDRESS:
                calls.append(read(reserve.stable_token, "principalBalanceOf(address)", holder))
                principal = stable[reserve.id].principal if reserve.id in stable else 0
                held.append([(f"{name} 0x{reserve.stable_token.hex()}", 0, principal)])
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


def holders(ledger: Ledger, sample: int, seed: int) -> list[Address]:
    """Return random holders, every other one a debtor where its shard has any.

    Looks at no more shards than it needs: a million addresses are not put in order for ten.
    """
    accounts, chosen = ledger.accounts, random.Random(seed)
    if sample >= len(accounts):
        return sorted(accounts)
    picked: dict[Address, None] = {}
    while len(picked) < sample:
        for number in chosen.sample(range(SHARDS), SHARDS):
            if len(picked) == sample:
                break
            shard = accounts.shard(number)
            left = sorted(shard.keys() - picked.keys())
            owing = [] if len(picked) % 2 else [each for each in left if has_debt(shard[each])]
            if left:
                picked[chosen.choice(owing or left)] = None
    return list(picked)


def configuration(account: Account) -> int:
    """Return a holder's bitmap as the pool keeps it (UserConfiguration.sol)."""
    bits = sum(1 << 2 * number for number in account.borrowed)
    flags = account.flags
    while flags:
        bit = flags & -flags
        flags ^= bit
        bits |= 2 << 2 * (bit.bit_length() - 1)
    return bits
