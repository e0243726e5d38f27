"""What people are still to be told, how watched positions stand, and the prices seen lately."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from keeper.errors import InvariantError
from keeper.journal.writer import Writer

Change = Callable[[sqlite3.Connection], None]
_LOST = (
    "SELECT json_extract(record, '$.title') FROM notices "
    "WHERE channel = ? AND given_up IS NOT NULL ORDER BY id DESC LIMIT 5"
)


@dataclass(frozen=True, slots=True)
class Posting:
    """A message for one channel; `key` is told once there, `record` is the message as JSON."""

    channel: str
    key: str
    time: float
    due: float
    record: str


@dataclass(frozen=True, slots=True)
class Posted:
    """A posting on disk that was not delivered yet."""

    id: int
    posting: Posting
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class StandingRow:
    """How one watched position stands; `record` is what was told of it last, as JSON."""

    chain: str
    watch: str
    market: str
    borrower: str
    level: str
    changes: int
    since: float
    better_since: float | None
    acknowledged: bool
    reminded: bool
    record: str


class SqliteOutbox:
    """Keep messages in the journal's file until they are delivered or given up."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def post(self, postings: Sequence[Posting], change: Change | None = None) -> list[Posted]:
        """Add messages that are not there yet, and what they tell of, all or nothing.

        On disk when this returns; what was posted before is left out of the answer.
        """

        def write(db: sqlite3.Connection) -> list[Posted]:
            if change is not None:
                change(db)
            added = []
            for posting in postings:
                cursor = db.execute(
                    "INSERT OR IGNORE INTO notices (channel, key, time, due, record) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (posting.channel, posting.key, posting.time, posting.due, posting.record),
                )
                if cursor.rowcount:
                    added.append(Posted(int(cursor.lastrowid or 0), posting))
            return added

        return await self._writer.write(write)

    async def waiting(self) -> list[Posted]:
        """Return what is neither delivered nor given up, oldest first."""

        def read(db: sqlite3.Connection) -> list[Posted]:
            found = db.execute(
                "SELECT id, channel, key, time, due, record, attempts FROM notices "
                "WHERE delivered IS NULL AND given_up IS NULL ORDER BY id"
            ).fetchall()
            return [
                Posted(number, Posting(*posting), attempts) for number, *posting, attempts in found
            ]

        return await self._writer.write(read)

    async def keys(self, prefix: str, since: float) -> set[str]:
        """Return the keys of messages posted since a time that begin like this."""

        def read(db: sqlite3.Connection) -> set[str]:
            sql = "SELECT key FROM notices WHERE time >= ? AND substr(key, 1, ?) = ?"
            return {key for (key,) in db.execute(sql, (since, len(prefix), prefix))}

        return await self._writer.write(read)

    async def delivered(self, posted: Sequence[Posted], time: float) -> None:
        """Record that messages arrived."""
        await self._mark("delivered = ?, attempts = attempts + 1, error = ''", (time,), posted)

    async def failed(self, posted: Sequence[Posted], due: float, error: str) -> None:
        """Record that messages did not arrive, and when they are tried again."""
        await self._mark("due = ?, attempts = attempts + 1, error = ?", (due, error), posted)

    async def given_up(self, posted: Sequence[Posted], time: float, error: str) -> None:
        """Record that messages are not tried any more."""
        await self._mark("given_up = ?, attempts = attempts + 1, error = ?", (time, error), posted)

    async def _mark(
        self, assignments: str, values: tuple[float | str, ...], posted: Sequence[Posted]
    ) -> None:
        rows = [(*values, each.id) for each in posted]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(f"UPDATE notices SET {assignments} WHERE id = ?", rows)  # noqa: S608

        await self._writer.write(write)

    async def standings(self, chain: str) -> list[StandingRow]:
        """Return how the watched positions of a chain stood last."""
        return await self._writer.write(lambda db: read_standings(db, chain))

    def looked(self, chain: str, market: str, number: int) -> None:
        """Record up to which block liquidations were looked for, soon; a kill may lose the last ones."""
        self._writer.offer(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO margin_heads VALUES (?, ?, ?)", (chain, market, number)
            )
        )

    async def look_from(self, chain: str, market: str, number: int) -> None:
        """Record the block after which liquidations are looked for; on disk when this returns."""

        def write(db: sqlite3.Connection) -> None:
            values = (chain, market, number)
            db.execute("INSERT OR IGNORE INTO margin_heads VALUES (?, ?, ?)", values)

        await self._writer.write(write)

    async def looked_up_to(self, chain: str) -> dict[str, int]:
        """Return by market up to which block liquidations were looked for."""

        def read(db: sqlite3.Connection) -> dict[str, int]:
            sql = "SELECT market, block_number FROM margin_heads WHERE chain = ?"
            return dict(db.execute(sql, (chain,)).fetchall())

        return await self._writer.write(read)

    def sample(
        self, chain: str, market: str, time: float, prices: Mapping[str, str], keep_after: float
    ) -> None:
        """Add one sample of a market's prices, soon, and forget those before a time."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO price_samples VALUES (?, ?, ?, ?)",
                (chain, market, time, orjson.dumps(prices).decode()),
            )
            db.execute(
                "DELETE FROM price_samples WHERE chain = ? AND market = ? AND time < ?",
                (chain, market, keep_after),
            )

        self._writer.offer(write)

    async def samples(
        self, chain: str, market: str, since: float
    ) -> list[tuple[float, dict[str, str]]]:
        """Return the samples of a market's prices since a time, oldest first."""

        def read(db: sqlite3.Connection) -> list[tuple[float, dict[str, str]]]:
            found = db.execute(
                "SELECT time, prices FROM price_samples "
                "WHERE chain = ? AND market = ? AND time >= ? ORDER BY time",
                (chain, market, since),
            ).fetchall()
            return [(time, orjson.loads(prices)) for time, prices in found]

        return await self._writer.write(read)

    async def prune(self, before: float) -> None:
        """Forget messages that arrived, or were given up, before a time."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "DELETE FROM notices WHERE coalesce(delivered, given_up, 1e18) < ?", (before,)
            )

        self._writer.offer(write)


def write_standings(db: sqlite3.Connection, rows: Sequence[StandingRow]) -> None:
    """Record how positions stand."""
    db.executemany(
        "INSERT OR REPLACE INTO margin_standings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(row.chain, row.watch, row.market, row.borrower, row.level, row.changes),
                *(row.since, row.better_since, int(row.acknowledged), int(row.reminded)),
                row.record,
            )
            for row in rows
        ],
    )


def forget_standings(db: sqlite3.Connection, rows: Sequence[StandingRow]) -> None:
    """Forget positions that are not watched any more."""
    db.executemany(
        "DELETE FROM margin_standings WHERE chain = ? AND watch = ? AND market = ? AND borrower = ?",
        [(row.chain, row.watch, row.market, row.borrower) for row in rows],
    )


def read_standings(db: sqlite3.Connection, chain: str | None) -> list[StandingRow]:
    """Return how the watched positions of one chain, or of all, stood last."""
    found = db.execute(
        "SELECT chain, watch, market, borrower, level, changes, since, better_since, "
        "acknowledged, reminded, record FROM margin_standings "
        "WHERE ? IS NULL OR chain = ? ORDER BY chain, watch, market, borrower",
        (chain, chain),
    ).fetchall()
    return [
        StandingRow(*about, bool(acknowledged), bool(reminded), record)  # type: ignore[call-arg]
        for *about, acknowledged, reminded, record in found
    ]


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What a channel still has to deliver, why an attempt failed, and titles of what it lost last."""

    channel: str
    waiting: int
    given_up: int
    error: str
    lost: tuple[str, ...]


class OutboxReader:
    """Read standings and channels while a keeper writes; opens the file anew for each question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def standings(self) -> list[StandingRow]:
        """Return how every watched position stood last; none where there is no journal yet."""
        with closing(self._open()) as db:
            return read_standings(db, None)

    def channels(self) -> list[ChannelState]:
        """Return the channels that have something waiting or given up."""
        with closing(self._open()) as db:
            found = db.execute(
                "SELECT channel, sum(given_up IS NULL), sum(given_up IS NOT NULL), max(error) "
                "FROM notices WHERE delivered IS NULL GROUP BY channel ORDER BY channel"
            ).fetchall()
            lost = {
                channel: tuple(
                    title for (title,) in reversed(db.execute(_LOST, (channel,)).fetchall())
                )
                for channel, *_ in found
            }
        return [
            ChannelState(channel, waiting, given_up, error, lost[channel])
            for channel, waiting, given_up, error in found
        ]

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            db.execute("SELECT 1 FROM margin_standings LIMIT 1")
        except sqlite3.Error as error:
            raise InvariantError("journal", f"{self._path} cannot be read ({error})") from error
        return db
