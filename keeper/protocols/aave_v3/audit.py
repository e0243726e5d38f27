"""Compare the ledger with the chain at the head it stands at."""

import random
from collections.abc import Callable, Iterator
from functools import partial

from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.aave_v3.accounts import SHARDS, Account, has_debt
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.emode import TERMS, bitmap_calls, terms_call, terms_start
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import CATEGORY_BIT, Reserve
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


Value = tuple[str, Callable[[bytes], int], int]
"""A value's name, how an answer tells it, and what the ledger holds."""
Asked = tuple[Call, list[Value]]


async def audit(
    reader: Reader, ledger: Ledger, deployment: Deployment, head: Head, sample: int, seed: int
) -> list[Drift]:
    """Return what differs in the market's terms, in every reserve and in `sample` random holders.

    About half of the holders are debtors.
    """
    pool = deployment.pool
    asked = [
        *_terms(ledger, deployment),
        *_categories(ledger, pool),
        *(each for reserve in ledger.reserves.values() for each in _reserve(ledger, pool, reserve)),
        *(each for who in holders(ledger, sample, seed) for each in _holder(ledger, pool, who)),
    ]
    results = await reader.multicall([call for call, _ in asked], head.hash)
    data = answers(results, f"audit of {ledger.market}")
    return [
        Drift(subject, value, actual)
        for answer, (_, values) in zip(data, asked, strict=True)
        for subject, told, value in values
        if (actual := told(answer)) != value
    ]


def _terms(ledger: Ledger, deployment: Deployment) -> Iterator[Asked]:
    premium = read(deployment.pool, "FLASHLOAN_PREMIUM_TOTAL()")
    yield premium, [("flash premium", uint, ledger.flash_premium)]
    if ledger.era.has_sentinel:
        sentinel = int.from_bytes(ledger.sentinel)
        call = read(deployment.provider, "getPriceOracleSentinel()")
        yield call, [("sentinel", uint, sentinel)]


def _categories(ledger: Ledger, pool: Address) -> Iterator[Asked]:
    era = ledger.era
    for number, category in ledger.categories.items():
        name = f"category {number}"
        terms: list[Value] = [
            (f"{name} {field}", _word(position), getattr(category, field))
            for position, field in enumerate(TERMS, terms_start(era))
        ]
        yield terms_call(era, pool, number), terms
        for field, call in bitmap_calls(era, pool, number).items():
            yield call, [(f"{name} {field}", uint, getattr(category, field))]


def _reserve(ledger: Ledger, pool: Address, reserve: Reserve) -> Iterator[Asked]:
    name = f"reserve 0x{reserve.asset.hex()}"
    values: list[Value] = [
        (f"{name} {field}", _word(position), getattr(reserve, field))
        for position, field in RESERVE_WORDS.items()
    ]
    if not ledger.era.has_bitmaps:
        values += _memberships(ledger, reserve, name)
    yield read(pool, "getReserveData(address)", reserve.asset), values
    for token, total in (
        (reserve.supply_token, reserve.scaled_supply),
        (reserve.debt_token, reserve.scaled_debt),
    ):
        yield read(token, "scaledTotalSupply()"), [(f"total of 0x{token.hex()}", uint, total)]


def _memberships(ledger: Ledger, reserve: Reserve, name: str) -> Iterator[Value]:
    """Compare the bitmaps of early categories with the one category that the reserve names."""
    known = sum(1 << number for number in ledger.categories)

    def told(answer: bytes) -> int:
        return 1 << (uint(answer) >> CATEGORY_BIT & 0xFF) & known

    for field in ("collateral", "borrowable"):
        held = sum(
            1 << number
            for number, category in ledger.categories.items()
            if getattr(category, field) >> reserve.id & 1
        )
        yield f"{name} {field} categories", told, held


def _holder(ledger: Ledger, pool: Address, holder: Address) -> Iterator[Asked]:
    account, stable = ledger.account(holder), ledger.stable.get(holder, {})
    name = f"holder 0x{holder.hex()}"
    bitmap = configuration(account) | sum(1 << 2 * number for number in stable)
    call = read(pool, "getUserConfiguration(address)", holder)
    yield call, [(f"{name} configuration", uint, bitmap)]
    call = read(pool, "getUserEMode(address)", holder)
    yield call, [(f"{name} category", uint, account.category)]
    for reserve in ledger.reserves.values():
        if reserve.stable_token != ZERO_ADDRESS:
            call = read(reserve.stable_token, "principalBalanceOf(address)", holder)
            principal = stable[reserve.id].principal if reserve.id in stable else 0
            yield call, [(f"{name} 0x{reserve.stable_token.hex()}", uint, principal)]
        for token, balances in (
            (reserve.supply_token, account.supplied),
            (reserve.debt_token, account.borrowed),
        ):
            call = read(token, "scaledBalanceOf(address)", holder)
            yield call, [(f"{name} 0x{token.hex()}", uint, balances.get(reserve.id, 0))]


def _word(position: int) -> Callable[[bytes], int]:
    return partial(uint, position=position)


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
