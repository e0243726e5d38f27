"""What a span of time came to: money by day, the funnel, what others had, latency and gas."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection
from statistics import quantiles

from keeper.journal.history import Entry, history
from keeper.journal.liquidations import INCLUDED, LiquidationRow, read_liquidations
from keeper.journal.read import JournalReader
from keeper.metrics import CATCHING_UP, NOT_RUNNING

_LATER = frozenset({NOT_RUNNING, CATCHING_UP})


@dataclass(slots=True)
class Day:
    """One day (UTC); dollars have 8 decimals, gas is native wei."""

    date: str
    included: int = 0
    failed: int = 0
    liquidated: int = 0
    gas: int = 0
    gas_usd: int = 0
    tip_usd: int = 0
    net_usd: int = 0


@dataclass(frozen=True, slots=True)
class Missed:
    """Liquidations of one winner for one reason; `won_usd` is seized less repaid, before any cost."""

    winner: str
    reason: str
    count: int
    won_usd: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds: how many were measured, and the middle and the slow end of them."""

    count: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A report's figures; `by_strategy` and `by_market` are net dollars.

    `seen` leaves out what was folded late, after a start or behind heads nobody decided on.
    """

    days: Sequence[Day]
    funnel: Mapping[str, int]
    missed: Sequence[Missed]
    ours: int
    orphaned: int
    decided: Spread | None
    seen: Spread | None
    by_strategy: Mapping[str, int]
    by_market: Mapping[str, int]
    decided_by_day: Mapping[str, Spread]

    def total(self) -> Day:
        """Return the sum of all days."""
        found = Day("total")
        for day in self.days:
            found.included += day.included
            found.failed += day.failed
            found.liquidated += day.liquidated
            found.gas += day.gas
            found.gas_usd += day.gas_usd
            found.tip_usd += day.tip_usd
            found.net_usd += day.net_usd
        return found


@dataclass(slots=True)
class _Sums:
    days: dict[str, Day] = field(default_factory=dict)
    strategies: Counter[str] = field(default_factory=Counter)
    markets: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        date = day_of(entry.time)
        day = self.days.setdefault(date, Day(date))
        day.included += entry.outcome == "included"
        day.failed += entry.outcome != "included"
        day.liquidated += entry.borrowers
        day.gas += entry.gas
        day.gas_usd += entry.gas_usd
        day.tip_usd += entry.tip_usd
        day.net_usd += entry.net_usd
        self.strategies["+".join(entry.strategies) or "none"] += entry.net_usd
        self.markets["+".join(entry.markets) or "none"] += entry.net_usd


def summarise(path: Path, since: float, until: float) -> Summary:
    """Return what a journal holds of a span of time; raise `ConfigError` when there is none."""
    reader = JournalReader(path)
    sums = _Sums()
    for entry in history(reader.paid(since, until)):
        sums.add(entry)
    rows = read_liquidations(path, since, until)
    included = [row for row in rows if row.state == INCLUDED]
    with closing(reader.open()) as db:
        funnel = _funnel(db, since, until)
        decided = [
            (day_of(time), 1_000 * seconds)
            for time, seconds in db.execute(
                "SELECT plans.time, min(transactions.sent) - plans.time FROM transactions "
                "JOIN plans ON plans.id = transactions.plan "
                "WHERE transactions.sent IS NOT NULL AND plans.time >= ? AND plans.time < ? "
                "GROUP BY plans.id ORDER BY plans.time",
                (since, until),
            )
        ]
    by_day: defaultdict[str, list[float]] = defaultdict(list)
    for date, milliseconds in decided:
        by_day[date].append(milliseconds)
    return Summary(
        [sums.days[date] for date in sorted(sums.days)],
        funnel,
        _missed(included),
        sum(row.is_ours for row in included),
        len(rows) - len(included),
        spread(milliseconds for _, milliseconds in decided),
        spread(1_000 * (row.seen - row.block_time) for row in included if row.reason not in _LATER),
        dict(sums.strategies.most_common()),
        dict(sums.markets.most_common()),
        {date: found for date, each in by_day.items() if (found := spread(each)) is not None},
    )


def day_of(time: float) -> str:
    """Return the day (UTC) of a time, as 2026-01-31."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def _funnel(db: Connection, since: float, until: float) -> dict[str, int]:
    """Count positions by the furthest they came; each of them once a stage and day."""
    span = (since, until)
    day = "CAST(time / 86400 AS INTEGER)"
    asked = {
        "chosen": f"SELECT DISTINCT {day}, chain, market, borrower FROM opportunities "  # noqa: S608
        "WHERE time >= ? AND time < ?",
        "planned": f"SELECT DISTINCT {day}, chain, market, borrower FROM items "  # noqa: S608
        "JOIN plans ON plans.id = items.plan WHERE time >= ? AND time < ?",
        "sent": f"SELECT DISTINCT {day}, plans.chain, market, borrower FROM items "  # noqa: S608
        "JOIN plans ON plans.id = items.plan WHERE time >= ? AND time < ? "
        "AND plans.id IN (SELECT plan FROM transactions WHERE sent IS NOT NULL)",
        "liquidated": f"SELECT DISTINCT {day}, chain, market, borrower FROM items "  # noqa: S608
        "JOIN plans ON plans.id = items.plan WHERE time >= ? AND time < ? "
        "AND outcome = 'liquidated'",
    }
    return {
        stage: db.execute(f"SELECT count(*) FROM ({query})", span).fetchone()[0]  # noqa: S608
        for stage, query in asked.items()
    }


def _missed(rows: Iterable[LiquidationRow]) -> list[Missed]:
    won: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        if not row.is_ours:
            known = row.seized_usd is not None and row.repaid_usd is not None
            gain = int(row.seized_usd or 0) - int(row.repaid_usd or 0) if known else 0
            won[row.winner, row.reason].append(gain)
    found = [Missed(*key, len(gains), sum(gains)) for key, gains in won.items()]
    return sorted(found, key=lambda each: (-each.count, each.winner, each.reason))


def spread(milliseconds: Iterable[float]) -> Spread | None:
    """Return the middle and the slow end of measurements, None without any."""
    values = sorted(milliseconds)
    if not values:
        return None
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return Spread(len(values), cuts[49], cuts[94])
