"""Put together what warns people: channels, watch lists, and the caller of each chain."""

from collections.abc import Callable
from functools import partial
from zoneinfo import ZoneInfo

from keeper.book.book import Book
from keeper.config import Settings
from keeper.config.margin import WatchTable, wad
from keeper.config.notify import ChannelTable
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.journal.sqlite import SqliteJournal
from keeper.margin.caller import MarginCaller
from keeper.margin.levels import Habits, Ladder
from keeper.margin.outlook import Chances
from keeper.margin.watch import Watch
from keeper.metrics import Metrics
from keeper.notify.channel import Channel, RefusedError
from keeper.notify.dispatcher import Dispatcher
from keeper.notify.note import Note, Severity
from keeper.notify.quiet import Quiet
from keeper.notify.services import Services
from keeper.notify.webhook import Webhook
from keeper.observers.observation import Event, Observer
from keeper.ports import Clock, Reader
from keeper.units import Bps

HOUR, MINUTE = 3_600.0, 60.0


def open_channel(name: str, table: ChannelTable, now: Callable[[], float]) -> Channel:
    """Return what sends through one channel; raise `ConfigError` for a URL nobody knows."""
    url = table.url.get_secret_value()
    if table.kind == "apprise":
        return Services(name, url)
    secret = "" if table.secret is None else table.secret.get_secret_value()
    return Webhook(name, url, secret, now)


async def try_channel(name: str, table: ChannelTable, now: Callable[[], float]) -> str:
    """Send a test message through a channel; return why it did not arrive, empty when it did."""
    channel = open_channel(name, table, now)
    text = f"Channel {name} of the keeper works: margin calls and events arrive here."
    note = Note(f"test/{now()}", now(), "test", Severity.INFO, "", "keeper: a test", text)
    try:
        await channel.send([note])
    except (TransientError, RefusedError) as error:
        return str(error)
    finally:
        await channel.close()
    return ""


def make_dispatcher(
    settings: Settings, journal: SqliteJournal, clock: Clock, metrics: Metrics
) -> Dispatcher:
    """Return what delivers messages; it has no channel where none is configured."""
    tables = settings.notify.channels
    quiet = {
        name: Quiet(*table.hours, ZoneInfo(table.timezone))
        for name, table in tables.items()
        if table.hours is not None
    }
    dispatcher = Dispatcher(
        [open_channel(name, table, clock.time) for name, table in tables.items()],
        journal.outbox,
        clock,
        metrics.notified,
        quiet=quiet,
    )
    metrics.channels(dispatcher.channels, dispatcher.waiting)
    return dispatcher


def make_caller(
    settings: Settings,
    chain: str,
    book: Book,
    reader: Reader,
    journal: SqliteJournal,
    dispatcher: Dispatcher,
    clock: Clock,
    metrics: Metrics,
) -> MarginCaller | None:
    """Return what makes the margin calls of a chain; None where nothing is watched."""
    watches = [
        make_watch(name, table)
        for name, table in settings.margin.watch.items()
        if table.chains is None or chain in table.chains
    ]
    if not watches:
        return None
    return MarginCaller(
        chain,
        watches,
        book,
        reader,
        journal.outbox,
        dispatcher,
        clock,
        partial(metrics.margin, chain),
        sample_seconds=float(settings.margin.sample_seconds),
        digest=settings.notify.digest_time,
    )


def watching_heads(caller: MarginCaller) -> Observer:
    """Return an observer that has each head looked at that was decided on."""

    def observe(subject: Report | Event) -> None:
        if isinstance(subject, Report):
            caller.see(subject.view)

    return observe


def make_watch(name: str, table: WatchTable) -> Watch:
    """Return a watch list as the caller takes it."""
    escalate = table.escalate_minutes
    chances = table.chances
    return Watch(
        name=name,
        channels=table.channels,
        ladder=Ladder(wad(table.warning), wad(table.call), wad(table.critical)),
        habits=Habits(
            slack=Bps(int(table.hysteresis.scaleb(4))),
            cooldown=table.cooldown_minutes * MINUTE,
            escalate=None if escalate is None else escalate * MINUTE,
        ),
        chances=None if chances is None else Chances(*chances, table.horizon_hours * HOUR),
        target=wad(table.target_health),
        pagers=table.escalate,
        addresses=table.addresses,
        above=table.above,
        chains=table.chains,
        protocols=table.protocols,
        markets=table.markets,
    )
