"""Whether the keeper's state is the chain's: to the wei, nobody at risk unseen, nothing left open."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.chain.reader import ChainReader
from keeper.config import Settings
from keeper.devnet.calls import calldata, decoded
from keeper.engine import read_prices
from keeper.oracles.aave_oracle import AaveOracle
from keeper.ports import LendingProtocol
from keeper.types import Call, Head, Position, Prices
from keeper.units import WAD, Address
from keeper.venues.uniswap_v3 import UniswapV3
from tests.chaos.rig import NAME, Seen, make_book

_LONGEST = 400
ACCOUNT = "getUserAccountData(address)"


class Chain:
    """The chain as its contracts tell it, past every fault."""

    def __init__(
        self, reader: ChainReader, pool: bytes, borrowers: Sequence[Address], settings: Settings
    ) -> None:
        self.reader = reader
        self.borrowers = borrowers
        self._pool = Address(pool)
        self._settings = settings

    async def accounts(self, head: Head) -> dict[Address, tuple[int, ...]]:
        """Return every borrower's getUserAccountData at a block."""
        calls = [Call(self._pool, calldata(ACCOUNT, [who])) for who in self.borrowers]
        answers = await self.reader.multicall(calls, head.hash)
        assert all(answer.ok for answer in answers)
        return {
            who: tuple(decoded(["uint256"] * 6, answer.data))
            for who, answer in zip(self.borrowers, answers, strict=True)
        }

    async def under(self, head: Head) -> set[Address]:
        """Return who may be liquidated at a block."""
        return {who for who, data in (await self.accounts(head)).items() if data[5] < WAD}

    async def is_canonical(self, head: Head) -> bool:
        """Tell whether a block is the chain's."""
        tip = await self.reader.head()
        return head.number <= tip.number and await self.reader.head(head.number) == head

    async def unseen(self, seen: Iterable[Seen]) -> list[str]:
        """Return whom decisions on canonical heads did not find at risk though they were."""
        missed = []
        for each in seen:
            if await self.is_canonical(each.head):
                left = await self.under(each.head) - each.borrowers
                missed += [f"0x{who.hex()} unseen at block {each.head.number}" for who in left]
        return missed

    async def drifts(self, book: Book, seed: int) -> list[str]:
        """Compare a book with the chain three ways: audit, accounts, and a book loaded anew."""
        head = book.head
        assert head is not None
        tip = await self.reader.head()
        if head != tip:
            return [f"the book stands at block {head.number}, the chain at {tip.number}"]
        drifts = [f"{part} stopped: {why}" for part, why in book.stopped.items()]
        drifts += [str(drift) for drift in await book.audit(self.reader, 10_000, seed)]
        fresh = await self.load()
        accounts = await self.accounts(head)
        mine, other = await state(book, self, head), await state(fresh, self, head)
        drifts += differences(mine, other)
        return drifts + self.unlike(mine["positions"], accounts)

    def unlike(
        self,
        positions: Mapping[Address, Position | None],
        accounts: Mapping[Address, tuple[int, ...]],
    ) -> list[str]:
        """Name the positions that are not what the contract tells."""
        found = []
        for who, position in positions.items():
            collateral, debt, *_, health = accounts[who]
            if position is None:
                found += [f"0x{who.hex()} owes {debt} and is not held"] * (debt > 0)
                continue
            told = (position.collateral_value, position.debt_value, position.health)
            if told != (collateral, debt, health):
                found.append(f"0x{who.hex()}: {told}, chain {collateral, debt, health}")
        return found

    async def load(self) -> Book:
        """Return a book loaded at the chain's tip."""
        watched = await Watched.discover(self.reader, NAME, self._settings.chains[NAME])
        head = await self.reader.head()
        await watched.bootstrap(head, head)
        book = make_book(watched)
        book.stand_at(head)
        for market in book.markets:
            await book.load_market(market)
        return book


async def state(book: Book, chain: Chain, head: Head) -> dict[str, Any]:
    """Return all that decisions rest on at a head, by what it is."""
    reads, results = await read_prices(book, chain.reader, head)
    book.observe(reads, results, head)
    at = replace(head.next_block(12), timestamp=head.timestamp)
    (market,) = book.markets.values()
    protocol, prices = market.protocol, market.prices
    positions = {who: protocol.position(who, prices, at) for who in chain.borrowers}
    tokens = protocol.tokens()
    screened = await book.positions(head.next_block(12), float("inf"), 10**6)
    return {
        "positions": {who: _held(position) for who, position in positions.items()},
        "screened": {position.borrower: position for position in screened},
        "pairs": {who: _pairs(protocol, p, prices, at) for who, p in positions.items()},
        "prices": dict(prices.values),
        "tokens": dict(tokens),
        "stopped": protocol.stopped,
        "borrowers": protocol.borrowers(),
        "withdrawable": {token: protocol.withdrawable(token) for token in tokens},
        "flash": {token: protocol.flash_sources(token) for token in tokens},
        "watched": _watched(book),
        "feeds": _feed_sources(protocol),
        "pools": {
            address: astuple(pool)
            for venue in book.sources.values()
            if isinstance(venue, UniswapV3)
            for address, pool in venue.pools.items()
        },
    }


def differences(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what two states hold otherwise."""
    found = []
    for what, held in mine.items():
        loaded = other[what]
        if held == loaded:
            continue
        if isinstance(held, dict):
            keys = [key for key in {**held, **loaded} if held.get(key) != loaded.get(key)]
            found += [f"{what} 0x{key.hex()}: {held.get(key)} != {loaded.get(key)}" for key in keys]
        else:
            found.append(f"{what}: {held} != {loaded}")
    return [each if len(each) < _LONGEST else f"{each[:_LONGEST]}…" for each in found]


def open_files() -> int:
    """Return how many file descriptors this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def leaks(before: set[asyncio.Task[Any]], files: int) -> list[str]:
    """Name the tasks and count the descriptors that are still there, once closing had its time."""
    left: list[asyncio.Task[Any]] = []
    more = 0
    for _ in range(200):
        left = [task for task in asyncio.all_tasks() - before if not task.done()]
        more = open_files() - files
        if not left and more <= 0:
            return []
        await asyncio.sleep(0.005)
    return [repr(task.get_coro()) for task in left] + [f"{more} descriptors"] * (more > 0)


def _watched(book: Book) -> dict[Address, int]:
    """Return what is watched; a proxy's aggregator is learnt later, from unannounced prices."""
    oracles = [market.protocol.oracle for market in book.markets.values()]
    watches = [source.watch() for source in book.sources.values() if source not in oracles]
    return {address: len(watch.topics) for watch in watches for address in watch.addresses}


def _feed_sources(protocol: LendingProtocol) -> dict[Address, Address | None]:
    assert isinstance(protocol.oracle, AaveOracle)
    return {asset: feed.source for asset, feed in protocol.oracle.feeds.items()}


def _held(position: Position | None) -> Position | None:
    """Count an account without any debt as not held: that is what the contract tells of it too."""
    return position if position is not None and position.debt else None


def _pairs(
    protocol: LendingProtocol, position: Position | None, prices: Prices, at: Any
) -> tuple[object, ...]:
    if _held(position) is None or position is None:
        return ()
    pairs, skips = protocol.pairs(position, prices, at)
    rows = [(p.collateral, p.debt, p.maximum, p.bonus, p.scaled_debt) for p in pairs]
    return (*sorted(rows, key=repr), *sorted(skips, key=repr))
