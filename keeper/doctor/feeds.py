"""Checks of where prices come from: what answers, how old it is, which pools, how far off them."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keeper.chain.words import answered, read, uint
from keeper.config import Chain
from keeper.doctor.check import Check, Finding, State
from keeper.errors import ConfigError, KeeperError
from keeper.journal.feeds import feeds_in
from keeper.oracles.pools import PoolPrices, Quoted
from keeper.oracles.record import read as read_feed
from keeper.oracles.watch import Expected, astray, away, heartbeat
from keeper.plugins import build_venue, configure_market
from keeper.ports import LendingProtocol, PriceSource, Reader, Sourced, Venue
from keeper.risk.lists import find_tokens
from keeper.types import Head, Token
from keeper.units import BPS, WAD, ZERO_ADDRESS, Address, Bps

_SIGN = 1 << 255
Beats = Mapping[Address, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one source of a price shows: 1e18ths of a dollar or of the other token, and its age.

    None is what cannot be read, what tells no rounds, and what no pool or no operator says.
    """

    name: str
    price: int | None
    age: int | None = None
    beat: int | None = None
    pool: int | None = None


async def examine_feeds(
    reader: Reader, name: str, chain: Chain, head: Head, limit: Bps, journal: Path
) -> AsyncGenerator[Check, None]:
    """Yield findings about each venue's pools, and about each market's feeds compared with them."""
    found: dict[str, list[Told] | KeeperError] = {}
    for market, table in chain.markets.items():
        try:
            kind, options = configure_market(name, market, table)
            made: LendingProtocol = await kind.discover(
                reader, market, options, head, table.first_block
            )
        except KeeperError:
            continue  # what is said of the market itself tells why
        try:
            sources = await made.sources(reader, head) if isinstance(made, Sourced) else ()
            found[market] = await _read(reader, sources, head)
        except KeeperError as error:
            found[market] = error
    known = [each for told in found.values() if not isinstance(told, KeeperError) for each in told]
    tokens = {
        token.address: token
        for source, _, _ in known
        for token in (source.token, source.against)
        if token is not None
    }
    venues: list[Venue] = []
    for venue, place in chain.venues.items():
        try:
            built = build_venue(name, venue, place, tokens, chain.contract or ZERO_ADDRESS)
            await built.bootstrap(reader, head)
        except KeeperError as error:
            hint = error.hint if isinstance(error, ConfigError) else ""
            yield Check(name, f"pools {venue}", State.WARN, f"not read: {error}", hint)
            continue
        venues.append(built)
        if (finding := judge_pools(built, tokens)) is not None:
            yield Check(name, f"pools {venue}", *finding)
    pools = _prices(venues, head, tokens, known)
    beats = _beats(name, chain, tokens, journal)
    for market, told in found.items():
        if isinstance(told, KeeperError):
            yield Check(name, f"feeds {market}", State.FAIL, str(told))
        else:
            seen = [_seen(*each, head, pools, beats) for each in told]
            yield Check(name, f"feeds {market}", *judge(seen, limit))


Told = tuple[PriceSource, int | None, int | None]
"""A source, the price it gives in 1e18ths, and when its round was."""


async def _read(reader: Reader, sources: Sequence[PriceSource], head: Head) -> list[Told]:
    calls = [source.call for source in sources]
    calls += [read(source.feed, "latestRoundData()") for source in sources]
    results = await reader.multicall(calls, head.hash)
    told = []
    for source, answer, round_ in zip(
        sources, results[: len(sources)], results[len(sources) :], strict=True
    ):
        value = uint(answer.data) if answered(answer) else 0
        price = value * WAD // source.unit if source.unit and 0 < value < _SIGN else None
        at = uint(round_.data, 3) if answered(round_, 5) else 0
        told.append((source, price, at or None))
    return told


def judge_pools(venue: Venue, tokens: Collection[Address]) -> Finding | None:
    """Return a finding about a venue's pools, None where it has to be asked or nothing is to be sold."""
    if len(tokens) < 2 or not venue.watch().addresses:
        return None
    pools = {hop.pool for token in tokens for hop in venue.hops(token)}
    if pools:
        return State.OK, f"{len(pools)} that take one of {len(tokens)} tokens", ""
    return (
        State.WARN,
        f"none takes any of {len(tokens)} tokens",
        "nothing is sold there: check the venue's address",
    )


def _prices(
    venues: Sequence[Venue], head: Head, tokens: Mapping[Address, Token], told: Iterable[Told]
) -> Quoted:
    """Return what pools give."""
    dollars: dict[Address, int] = {}
    for source, price, _ in told:
        if price and source.against is None:
            dollars.setdefault(source.token.address, price)
    prices = PoolPrices(lambda: venues)
    prices.look(head.number, dollars, tokens)
    while prices.is_looking:
        prices.look(head.number, dollars, tokens)
    return prices.at(dollars, tokens)


def _beats(name: str, chain: Chain, tokens: Mapping[Address, Token], journal: Path) -> Beats:
    """Return heartbeats as the settings say them, else as a keeper learned them."""
    found: dict[Address, int] = {}
    for row in feeds_in(journal, name):
        try:
            asset = Address(bytes.fromhex(row.asset.removeprefix("0x")))
            beat = heartbeat(read_feed(row.record), Expected())
        except ValueError:
            continue
        if beat is not None and row.market in chain.markets:
            found[asset] = beat
    for symbol, table in chain.feeds.items():
        if table.heartbeat_seconds is not None:
            try:
                (asset,) = find_tokens([symbol], tokens, f"chains.{name}.feeds")
            except ConfigError:
                continue  # the start says it, once all markets' tokens are known
            found[asset] = table.heartbeat_seconds
    return found


def _seen(
    source: PriceSource, price: int | None, at: int | None, head: Head, pools: Quoted, beats: Beats
) -> Seen:
    age = None if at is None else max(head.timestamp - at, 0)
    token, other = source.token, source.against
    if other is not None:
        pool = pools.rate(token.address, other.address)
        return Seen(f"{token.symbol}/{other.symbol}", price, age, None, pool)
    return Seen(token.symbol, price, age, beats.get(token.address), pools.price(token.address))


def judge(seen: Sequence[Seen], limit: Bps) -> Finding:
    """Return a finding about one market: what is wrong with its feeds, or how they stand in one line.

    A feed is late after one and a half of its heartbeats; `limit` is how far off the pools it may be.
    """
    if not seen:
        return State.OK, "its prices are told of once it is loaded", ""
    unread = [each.name for each in seen if each.price is None]
    if len(unread) == len(seen):
        # mUSD's own feed refuses for a while whenever its oracle is a minute old
        return State.WARN, "no price can be read", "nobody is judged there until one can"
    wrong = [f"{', '.join(unread)} cannot be read"] if unread else []
    wrong += [
        f"{each.name} had no round for {each.age:,} s, with a heartbeat of {each.beat:,} s"
        for each in seen
        if each.age is not None and each.beat is not None and 2 * each.age > 3 * each.beat
    ]
    wrong += [
        f"{each.name} is {off}"
        for each in seen
        if each.price and (off := astray(each.price, each.pool, limit))
    ]
    if wrong:
        return State.WARN, "; ".join(wrong), "nothing is sent that rests on a feed that is wrong"
    return State.OK, _summary(seen), ""


def _summary(seen: Sequence[Seen]) -> str:
    said = [f"{len(seen)} read"]
    aged = [(each.age, each.name) for each in seen if each.age is not None]
    if aged:
        age, name = max(aged)
        said.append(f"the oldest round {age:,} s ago ({name})")
    if len(aged) < len(seen):
        said.append(f"{len(seen) - len(aged)} tell no rounds")
    offs = [
        (abs(off) * BPS // WAD, each.name)
        for each in seen
        if each.price and (off := away(each.price, each.pool)) is not None
    ]
    if offs:
        most, name = max(offs)
        said.append(f"at most {most} bps off the pools ({name})")
    if len(offs) < len(seen):
        said.append(f"{len(seen) - len(offs)} without a deep pool")
    return ", ".join(said)
