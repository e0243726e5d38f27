"""Every feed of a chain's markets: followed, shown, and not rested on when it fails."""

from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from keeper.config import Chain, Settings
from keeper.engine import Doubts, Report
from keeper.errors import ConfigError
from keeper.journal.feeds import FeedRow, FeedStore
from keeper.metrics import Metrics
from keeper.observers.observation import Event
from keeper.oracles.pools import PoolPrices
from keeper.oracles.record import read, written
from keeper.oracles.watch import Expected, Feed
from keeper.ports import LendingProtocol, Venue
from keeper.risk import Doubt, OracleWatch
from keeper.risk.lists import find_tokens
from keeper.types import View
from keeper.units import BPS, WAD, Address, Bps, to_hex

REMEMBER_SECONDS = 60
FORGET_SECONDS = 30 * 86_400
"""Seconds after which a feed that is not read any more is forgotten."""

log = structlog.get_logger(__name__)


def make_oracles(
    name: str,
    settings: Settings,
    chain: Chain,
    markets: Mapping[str, LendingProtocol],
    venues: Callable[[], Iterable[Venue]],
    followed: Callable[[str, str, int], None] = lambda _market, _asset, _seconds: None,
    unloaded: Collection[str] = (),
) -> OracleWatch:
    """Return what follows a chain's feeds; raise `ConfigError` for a token no market here has.

    While parts are `unloaded`, which may have it, what is said of such a token is left out, and told:
    its heartbeat is learned until the next start.
    """
    breakers = settings.breakers
    tokens = {
        address: token for market in markets.values() for address, token in market.tokens().items()
    }
    expected = {}
    for symbol, table in chain.feeds.items():
        try:
            (asset,) = find_tokens([symbol], tokens, f"chains.{name}.feeds")
        except ConfigError as error:
            if not unloaded:
                raise
            log.warning("feed.unknown", chain=name, why=str(error), not_loaded=list(unloaded))
            continue
        band = None if table.deviation_bps is None else Bps(table.deviation_bps)
        expected[asset] = Expected(table.heartbeat_seconds, band)
    return OracleWatch(
        PoolPrices(venues),
        Doubt(breakers.stale_feed_heartbeats, Bps(breakers.feed_off_bps)),
        expected,
        markets,
        followed,
    )


def believing(
    watch: OracleWatch, on_fault: Callable[[Exception], None]
) -> Callable[[View], Doubts]:
    """Return what says on which positions not to act; where that fails, it is told, and none is left."""

    def doubtful(view: View) -> Doubts:
        try:
            return watch.doubtful(view, on_fault)
        except Exception as error:  # noqa: BLE001 - a watch is no reason to send nothing
            on_fault(error)
            return {}

    return doubtful


def following(
    watch: OracleWatch, on_fault: Callable[[Exception], None]
) -> Callable[[Report | Event], None]:
    """Return an observer that gives every head's prices to the watch; where that fails, it is told."""

    def observe(subject: Report | Event) -> None:
        if not isinstance(subject, Report):
            return
        try:
            watch.observe(subject.view, on_fault)
        except Exception as error:  # noqa: BLE001 - nor is it one to end a replay
            on_fault(error)

    return observe


async def recall(watch: OracleWatch, store: FeedStore, chain: str) -> None:
    """Let a watch know what was learned before a restart; a row that is damaged is told of, and left out."""
    kept: dict[tuple[str, Address], Feed] = {}
    for row in await store.kept(chain):
        try:
            asset = bytes.fromhex(row.asset.removeprefix("0x"))
            kept[row.market, Address(asset)] = read(row.record)
        except ValueError as error:
            told = {"market": row.market, "asset": row.asset, "why": str(error)}
            log.warning("feed.forgotten", chain=chain, **told)
    watch.restore(kept)


def remembering(
    watch: OracleWatch, store: FeedStore, chain: str
) -> Callable[[Report | Event], None]:
    """Return an observer that has what a watch learned written to the journal, once a minute."""
    written_at = 0

    def observe(subject: Report | Event) -> None:
        nonlocal written_at
        if not isinstance(subject, Report):
            return
        now = subject.view.head.timestamp
        if abs(now - written_at) < REMEMBER_SECONDS:
            return
        written_at = now
        feeds = dict(watch.learned())
        store.keep(chain, lambda: _rows(feeds), now - FORGET_SECONDS)

    return observe


def _rows(feeds: Mapping[tuple[str, Address], Feed]) -> list[FeedRow]:
    return [
        FeedRow(market, to_hex(asset), feed.looked, written(feed))
        for (market, asset), feed in feeds.items()
    ]


def showing(watch: OracleWatch, metrics: Metrics, chain: str) -> Callable[[Report | Event], None]:
    """Return an observer that moves the metrics of a watch, which saw the head before it."""

    def observe(subject: Report | Event) -> None:
        if not isinstance(subject, Report):
            return
        now = subject.view.head.timestamp
        for each in watch.standing():
            off = None if each.feed.off is None else each.feed.off / WAD
            age, band = each.feed.age(now), each.band / BPS
            metrics.oracle(chain, each.market, each.asset, age, each.heartbeat, band, off)

    return observe
