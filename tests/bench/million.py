"""A real Aave ledger of any size, from pages as a snapshot has them; and what it takes in memory.

Every borrower has three collaterals and two debts in random reserves, is in one of ten eMode
categories or in none, and stands at a health between 1.02 and a few.
"""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keeper.book.market import MarketBook
from keeper.oracles.aave_oracle import AaveOracle
from keeper.protocols.aave_v3 import AaveV3, snapshot, v36
from keeper.protocols.aave_v3.accounts import SHARDS, STRIDE, Accounts
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.valuation import collateral_terms
from keeper.types import NextBlock, Prices, Token
from keeper.units import RAY, Address, Bps, Wei

RESERVES = 30
CATEGORIES = 10
COLLATERAL = 3
LEGS = 5
NOW = 1_760_000_000
AT = NextBlock(24_000_000, NOW + 12, Wei(10**9))
POOL, PROVIDER, CONFIGURATOR, ORACLE = (Address(bytes([n]) * 20) for n in range(1, 5))
SHARDS_PER_PAGE = 8
UNIT = 10**8


def prices(seed: int = 1) -> Prices:
    """Return a price of every reserve, from a tenth of a dollar to 100,000."""
    draw = np.random.default_rng([seed, 0])
    values = (UNIT * 10 ** draw.uniform(-1, 5, RESERVES)).astype(np.int64)
    return Prices(
        "million", UNIT, {_name(0, number): int(value) for number, value in enumerate(values)}
    )


def market(borrowers: int, seed: int = 1) -> AaveV3:
    """Return a market of this many borrowers, restored from pages."""
    made = empty()
    made.restore(pages(borrowers, seed))
    return made


def empty() -> AaveV3:
    """Return the market before anything was read."""
    oracle = AaveOracle("million", POOL, PROVIDER, CONFIGURATOR, ORACLE)
    deployment = Deployment(POOL, PROVIDER, CONFIGURATOR, ORACLE, v36.POOL_REVISION)
    return AaveV3("million", deployment, oracle)


def pages(borrowers: int, seed: int = 1) -> Iterator[bytes]:
    """Make the pages of a snapshot; twice, since the first has to state the totals of the others."""
    ledger = _terms(seed)
    totals = np.zeros((RESERVES * 2, 4), np.uint64)
    for number in range(0, SHARDS, SHARDS_PER_PAGE):
        _, _, entries = _holders(ledger, borrowers, seed, number)
        legs = entries[:, 1:].reshape(-1, STRIDE)
        words = legs[:, 1:].copy().view(">u4").astype(float)
        for quarter in range(4):
            sums = np.bincount(legs[:, 0], words[:, quarter], RESERVES * 2)
            totals[:, quarter] += sums.astype(np.uint64)
    for number, quarters in enumerate(totals.tolist()):
        total = sum(value << 32 * (3 - place) for place, value in enumerate(quarters))
        reserve = ledger.reserves[number >> 1]
        if number & 1:
            reserve.scaled_debt = total
        else:
            reserve.scaled_supply = total
            reserve.cash = reserve.virtual_balance = total // 2
    ledger.borrowers = borrowers
    ledger.accounts = _Counted(borrowers)
    contracts = {"pool": POOL, "provider": PROVIDER, "configurator": CONFIGURATOR}
    yield snapshot.header(ledger, contracts, v36.POOL_REVISION)
    for number in range(0, SHARDS, SHARDS_PER_PAGE):
        sizes, addresses, entries = _holders(ledger, borrowers, seed, number)
        yield b"".join(
            [
                snapshot.FIRST.pack(number, SHARDS_PER_PAGE),
                sizes.astype("<u4").tobytes(),
                addresses.tobytes(),
                np.full(len(addresses), 1 + LEGS, "<u2").tobytes(),
                entries.tobytes(),
            ]
        )


class _Counted(Accounts):
    """Accounts that are not there yet, but whose number is known."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def _name(kind: int, number: int) -> Address:
    return Address(bytes([0xA0 + kind, number]) * 10)


def _terms(seed: int) -> Ledger:
    draw = np.random.default_rng([seed, 1])
    ledger = Ledger("million", flash_premium=Bps(5))
    for number in range(RESERVES):
        decimals = (18, 18, 8, 6)[number % 4]
        threshold = int(draw.integers(7_000, 8_500))
        configuration = (threshold - 300) | threshold << 16 | 10_500 << 32 | decimals << 48
        reserve = Reserve(
            number,
            _name(0, number),
            _name(1, number),
            _name(2, number),
            configuration=configuration | 1 << 56 | 1 << 58 | 1 << 63 | 1_000 << 152,
            liquidity_index=RAY + int(draw.random() * RAY) // 5,
            liquidity_rate=int(draw.random() * RAY) // 20,
            borrow_index=RAY + int(draw.random() * RAY) // 4,
            borrow_rate=int(draw.random() * RAY) // 10,
            updated_at=NOW,
        )
        reserve.token = Token(reserve.asset, f"T{number:02}", decimals)
        ledger.list_reserve(reserve)
    for number in range(1, CATEGORIES + 1):
        listed = draw.choice(RESERVES, 6, replace=False)
        bitmap = sum(1 << int(each) for each in listed)
        ledger.categories[number] = Category(Bps(9_000), Bps(9_300), Bps(10_100), bitmap, bitmap)
    return ledger


def _holders(
    ledger: Ledger, borrowers: int, seed: int, first: int
) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return, for one page, holders by shard, their addresses and their records."""
    shards = np.arange(first, first + SHARDS_PER_PAGE)
    sizes = borrowers // SHARDS + (shards < borrowers % SHARDS)
    count, draw = int(sizes.sum()), np.random.default_rng([seed, 2, first])
    shard = np.repeat(shards, sizes)
    addresses = draw.integers(0, 256, (count, 20), np.uint8)
    addresses[:, 18] = addresses[:, 18] & 0xFC | shard >> 8
    addresses[:, 19] = shard & 0xFF
    category = draw.integers(0, CATEGORIES + 1, count)
    reserve = np.argsort(draw.random((count, RESERVES)), axis=1)[:, :LEGS]
    thresholds, supply, debt = _tables(ledger, seed)
    value = 10 ** draw.uniform(1, 6, (count, LEGS))
    weighted = value[:, :COLLATERAL] * thresholds[category[:, None], reserve[:, :COLLATERAL]]
    health = 1.02 + draw.exponential(0.6, count)
    owed = value[:, COLLATERAL:]
    owed *= (weighted.sum(axis=1) / health / owed.sum(axis=1))[:, None]
    amounts = np.empty((count, LEGS))
    amounts[:, :COLLATERAL] = value[:, :COLLATERAL] / supply[reserve[:, :COLLATERAL]]
    amounts[:, COLLATERAL:] = owed / debt[reserve[:, COLLATERAL:]]
    amounts = np.floor(amounts) + 1
    numbers = 2 * reserve + (np.arange(LEGS) >= COLLATERAL)
    order = np.argsort(numbers, axis=1)
    numbers = np.take_along_axis(numbers, order, axis=1)
    amounts = np.take_along_axis(amounts, order, axis=1)
    entries = np.zeros((count, 1 + LEGS, STRIDE), np.uint8)
    entries[:, 0, 0] = category
    flags = (1 << reserve[:, :COLLATERAL]).sum(axis=1)
    entries[:, 0, 1:] = _words(np.zeros(count), flags.astype(np.uint64))
    entries[:, 1:, 0] = numbers
    high = np.floor(amounts / 2.0**64)
    entries[:, 1:, 1:] = _words(high, (amounts - high * 2.0**64).astype(np.uint64))
    return sizes, addresses, entries


def _words(high: NDArray[np.float64], low: NDArray[np.uint64]) -> NDArray[np.uint8]:
    words = np.stack([high.astype(np.uint64), low], axis=-1)
    return words.astype(">u8").view(np.uint8)


def _tables(
    ledger: Ledger, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds by category and reserve, and dollars per scaled unit of either side."""
    reserves = list(ledger.reserves.values())
    categories = [ledger.categories.get(number, Category()) for number in range(CATEGORIES + 1)]
    thresholds = [[collateral_terms(c, r)[0] / 10_000 for r in reserves] for c in categories]
    values = prices(seed).values
    unit = np.array([values[r.asset] / UNIT / r.unit for r in reserves])
    supply = np.array([r.supply_index_at(AT.timestamp) / RAY for r in reserves])
    debt = np.array([r.borrow_index_at(AT.timestamp) / RAY for r in reserves])
    return np.array(thresholds), unit * supply, unit * debt


def figures(borrowers: int = 1_000_000) -> dict[str, float]:
    """Measure in a fresh process: bytes of resident memory a borrower, seconds to load."""
    command = [sys.executable, "-m", "tests.bench.million", str(borrowers)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    size, seconds = ran.stdout.split()
    return {"bytes_per_borrower": float(size), "snapshot_decode_seconds": float(seconds)}


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _measure(borrowers: int) -> None:
    """Print bytes a borrower, ledger and screen together, and seconds to read the ledger."""
    await _book(market(SHARDS))
    before = _resident()
    book = await _book(market(borrowers))
    size = (_resident() - before) / borrowers
    del book
    kept = list(pages(borrowers))
    fresh = empty()
    started = time.process_time()
    fresh.restore(kept)
    print(size, time.process_time() - started)


async def _book(protocol: AaveV3) -> MarketBook:
    book = MarketBook(protocol)
    await book.load()
    book.prices = prices()
    await book.at_risk(AT, lambda: True)
    return book


if __name__ == "__main__":
    asyncio.run(_measure(int(sys.argv[1])))
