"""The riskiest positions of one chain right now, and what liquidating them would bring."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.endpoints import open_endpoints
from keeper.app.inventory import find_tokens, make_inventory
from keeper.app.lenders import Allowed, allowed_by, make_lenders
from keeper.app.line import lists_of, make_planner, seats, watched_tokens
from keeper.app.recovery import Recovery
from keeper.app.upkeep import STOPPED
from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.book.faults import Fault
from keeper.book.widen import missing, widen
from keeper.chain.assembler import Assembler
from keeper.chain.blocks import Blocks
from keeper.chain.ranges import LogRanges
from keeper.chain.reader import ChainReader
from keeper.conditions import Conditions
from keeper.config import Chain, Settings
from keeper.engine import read_prices
from keeper.errors import PluginError
from keeper.isolation import close_strategies, open_strategies
from keeper.journal.snapshots import SnapshotReader
from keeper.planning.planner import Planner
from keeper.ports import Progress
from keeper.strategist import Strategist
from keeper.types import CollateralLeg, DebtLeg, Head, Position, Prices, Skip, View
from keeper.units import BPS, WAD, Address, Usd, Wad

log = structlog.get_logger(__name__)

PATIENCE_MS = 10_000
"""Milliseconds strategies have here: nothing is racing."""
Key = tuple[str, Address]


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One position; `net_usd` is None when it would not be liquidated, for the reason in `why`.

    A `toxic` one is left less healthy by a liquidation that takes a part.
    """

    health: Wad
    market: str
    protocol: str
    borrower: str
    debt: str
    collateral: str
    net_usd: Usd | None
    why: str
    toxic: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """One chain's book as it stands at its head, and the view a decision would be made on."""

    chain: str
    table: Chain
    watched: Watched
    book: Book
    view: View
    skips: Sequence[Skip]
    allowed: Allowed

    def planner(self, settings: Settings) -> Planner:
        """Return what plans here as a keeper with these settings would."""
        lists, stopped = lists_of(self.chain, self.table, self.watched), self.book.stopped
        return make_planner(
            self.chain, self.table, self.watched, settings, lambda: stopped, lists, self.allowed
        )


async def look(
    settings: Settings,
    chain: str,
    stack: AsyncExitStack,
    progress: Callable[[str], Progress] | None = None,
) -> Looked:
    """Load a chain's book at its head, from a snapshot that a keeper left where there is one."""
    table = settings.chains[chain]
    connection = await open_endpoints(table, stack)
    told = None if progress is None else progress(chain)
    reader = ChainReader(connection.rpc, table.multicall, progress=told)
    watched = await Watched.discover(reader, chain, table)
    kept = SnapshotReader(settings.journal_file)
    second = ChainReader(connection.second, table.multicall)
    recovery = Recovery(chain, reader, second, watched, kept, partial(random.getrandbits, 32))
    loaded = await recovery.load()
    venues, markets = list(watched.venues.values()), list(watched.markets.values())
    book = Book(chain, markets, venues, watched.native, partial(_tell_stopped, chain))
    blocks = Blocks(connection.rpc, trust_bloom=table.trust_bloom)
    assembler = Assembler(chain, blocks, LogRanges(connection.rpc), book)

    async def catch_up(to: Head) -> None:
        await assembler.advance(to)

    await recovery.settle(book, loaded, catch_up)
    for part, tokens in list(missing(book)):
        # They were listed after the snapshot was taken.
        await widen(book, part, tokens, reader, blocks)
    head = book.head
    assert head is not None, "it was just settled"
    inventory = make_inventory(table)
    if inventory is not None:
        await find_tokens(reader, inventory, watched_tokens(watched.markets.values()))
    lenders = make_lenders(chain, table, watched, reader)
    if lenders is not None:
        await lenders.read()
    conditions = Conditions(table.inclusion_model, inventory=inventory)
    reads, results = await read_prices(book, reader, head, conditions)
    book.observe(reads, results, head)
    next_block = head.next_block(table.block_time, conditions.inclusion)
    seen = await book.view(next_block, PATIENCE_MS)
    assert seen is not None, "nothing moves a book that follows no chain"
    view = conditions.complete(seen[0], results[len(reads.calls) :])
    return Looked(chain, table, watched, book, view, seen[1], allowed_by(lenders))


async def scan(
    settings: Settings,
    chain: str,
    below: int,
    limit: int,
    progress: Callable[[str], Progress] | None = None,
) -> list[ScanRow]:
    """Return positions with health under `below` (wad), worst first, priced but never sent.

    A snapshot that a keeper left in the journal saves reading the whole market.
    """
    async with AsyncExitStack() as stack:
        looked = await look(settings, chain, stack, progress)
        view, watched = looked.view, looked.watched
        strategies = await asyncio.to_thread(open_strategies, settings)
        stack.callback(close_strategies, strategies)
        strategist = Strategist(seats(strategies, chain, watched.markets), _raise)
        stack.callback(strategist.close)
        choices, unchosen = await strategist.select(view)
        quotes, unquoted = looked.planner(settings).quote(view, choices)
        nets: dict[Key, Usd] = {}
        for quote in quotes:
            key = quote.opportunity.key
            nets[key] = Usd(nets.get(key, 0) + quote.net_usd)
        why = _reasons([*looked.skips, *unchosen, *unquoted])
        found = await looked.book.positions(view.next_block, below / WAD, limit)
        return [_row(position, view.prices[position.home], nets, why) for position in found]


def _tell_stopped(chain: str, part: str, fault: Fault) -> None:
    kind, _, name = part.partition("/")
    log.error(STOPPED[kind], chain=chain, name=name, kind=str(fault.kind), why=fault.why)


def _raise(error: PluginError) -> None:
    raise error


def _reasons(skips: Sequence[Skip]) -> dict[Key, str]:
    return {
        (skip.market, skip.borrower): f"{skip.reason}: {skip.detail}" for skip in reversed(skips)
    }


def _row(position: Position, prices: Prices, nets: dict[Key, Usd], why: dict[Key, str]) -> ScanRow:
    net = nets.get(position.key)
    reason = "" if net is not None else why.get(position.key, "")
    if position.health >= WAD:
        reason = _distance(position, prices)
    return ScanRow(
        health=position.health,
        market=position.market,
        protocol=position.protocol,
        borrower=to_checksum_address(position.borrower),
        debt=_largest(position.debt),
        collateral=_largest(position.collateral),
        net_usd=net,
        why=reason,
        toxic=position.toxic,
    )


def _largest(legs: Sequence[CollateralLeg | DebtLeg]) -> str:
    """Return the largest leg as text, and how many others there are."""
    if not legs:
        return "–"
    leg = max(legs, key=lambda each: each.value)
    amount = leg.amount / 10**leg.token.decimals
    more = f" +{len(legs) - 1}" if len(legs) > 1 else ""
    return (
        f"{amount:,.4g} {leg.token.symbol}{more}"
        if amount < 1
        else (f"{amount:,.2f} {leg.token.symbol}{more}")
    )


def _distance(position: Position, prices: Prices) -> str:
    """Say at which price of its largest collateral a position falls, the others standing still."""
    leg = max(position.collateral, key=lambda each: each.value, default=None)
    price = None if leg is None else prices.get(leg.token.address)
    if leg is None or price is None:
        return "healthy"
    weighted = sum(each.value * each.threshold for each in position.collateral)
    spare = weighted - position.debt_value * BPS
    fall = spare / (leg.value * leg.threshold)
    if fall >= 1:
        return f"healthy, whatever {leg.token.symbol} does"
    return f"healthy until {leg.token.symbol} ≤ {price * (1 - fall) / prices.unit:,.2f}"
