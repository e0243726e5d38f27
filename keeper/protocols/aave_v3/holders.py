"""Load every holder of a market at one block: who, from the logs; how much, from the state."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from functools import partial
from itertools import chain

from keeper.chain.keys import Keys
from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.aave_v3.accounts import SHARDS, shard_of
from keeper.protocols.aave_v3.events import CATEGORY_SET, SUPPLY_MINT, SUPPLY_TRANSFER
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import ZERO_ADDRESS, Address

ADDRESS = 20
STEP = 4_096


async def load_holders(
    reader: Reader, pool: Address, head: Head, ledger: Ledger, first_block: int
) -> None:
    """Fill a ledger that knows its reserves as of exactly this head.

    Calls are made and answers stored one portion after another: at a million holders the five
    million calls never exist at once.
    """
    tokens = frozenset(ledger.by_supply_token) | frozenset(ledger.by_debt_token)
    watch = Watch(tokens | {pool}, frozenset({SUPPLY_MINT, SUPPLY_TRANSFER, CATEGORY_SET}))
    stage = f"history of {ledger.market}"
    key = partial(_pair, pool)
    found = await reader.collect(stage, watch, first_block, head.number, key)
    pairs, holders = await asyncio.to_thread(_ordered, pool, found)
    try:
        await _sweep(reader, pool, head, ledger, pairs, holders)
    finally:
        await asyncio.to_thread(_release, found, pairs, holders)


async def _sweep(
    reader: Reader,
    pool: Address,
    head: Head,
    ledger: Ledger,
    pairs: Sequence[bytes],
    holders: Sequence[bytes],
) -> None:
    stores = _stores(ledger, holders, pairs)

    def take(results: Sequence[CallResult]) -> None:
        for data, store in zip(answers(results, "holders"), stores, strict=False):
            store(uint(data))

    total = 2 * len(holders) + len(pairs)
    calls = _calls(pool, holders, pairs)
    await reader.sweep(f"holders of {ledger.market}", calls, total, head.hash, take)


def _pair(pool: Address, log: Log) -> bytes:
    """Return token and holder: a balance starts with a mint or an incoming transfer.

    Both events name the holder second. The pool stands for a token where it tells of a category,
    which may be chosen before anything is held. A log that names none is no token's own and moved
    no balance; that every balance is found is proven by the totals.
    """
    place = 1 if log.address == pool else 2
    if len(log.topics) != place + 1 or len(log.topics[place]) != 32:
        return log.address + ZERO_ADDRESS
    return log.address + log.topics[place][12:]


def _ordered(pool: Address, found: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return the tokens' pairs and all holders, shard by shard as the ledger keeps them, in order.

    Sorted all at once, millions would hold the interpreter for seconds.
    """
    shards: list[list[bytes]] = [[] for _ in range(SHARDS)]
    for pair in found:
        shards[shard_of(Address(pair[ADDRESS:]))].append(pair)
    pairs: list[bytes] = []
    holders: list[bytes] = []
    for shard in shards:
        shard.sort()
        pairs += (pair for pair in shard if not pair.startswith(pool))
        # An address that is all zeroes stands for minting and burning and holds nothing.
        holders += sorted({pair[ADDRESS:] for pair in shard} - {ZERO_ADDRESS})
    return pairs, holders


def _release(found: AbstractSet[bytes], *lists: list[bytes]) -> None:
    """Forget millions a few at a time: freed at once, they stop every thread."""
    if isinstance(found, Keys):
        found.release()
    for each in lists:
        while each:
            del each[-STEP:]


def _calls(pool: Address, holders: Sequence[bytes], pairs: Sequence[bytes]) -> Iterator[Call]:
    """Ask for each holder's flags, then each one's category, then each balance."""
    for signature in ("getUserConfiguration(address)", "getUserEMode(address)"):
        for holder in holders:
            yield read(pool, signature, holder)
    for pair in pairs:
        yield read(Address(pair[:ADDRESS]), "scaledBalanceOf(address)", pair[ADDRESS:])


def _stores(
    ledger: Ledger, holders: Sequence[bytes], pairs: Sequence[bytes]
) -> "Iterator[partial[None]]":
    """Say what to do with each answer, in the order of the calls."""
    return chain(
        (partial(_store_flags, ledger, Address(holder)) for holder in holders),
        (partial(_store_category, ledger, Address(holder)) for holder in holders),
        (
            partial(_store_balance, ledger, Address(pair[:ADDRESS]), Address(pair[ADDRESS:]))
            for pair in pairs
        ),
    )


def _store_flags(ledger: Ledger, holder: Address, configuration: int) -> None:
    """Take UserConfigurationMap: bit 2n + 1 says that reserve n is collateral."""
    for number, reserve in ledger.reserves.items():
        if configuration >> (2 * number + 1) & 1:
            ledger.set_flag(holder, reserve, used=True)


def _store_category(ledger: Ledger, holder: Address, category: int) -> None:
    if category:
        ledger.set_category(holder, category)


def _store_balance(ledger: Ledger, token: Address, holder: Address, scaled: int) -> None:
    if not scaled:
        return
    if token in ledger.by_supply_token:
        ledger.set_supplied(holder, ledger.by_supply_token[token], scaled)
    else:
        ledger.set_borrowed(holder, ledger.by_debt_token[token], scaled)
