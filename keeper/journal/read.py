"""What the journal tells: explanations, history, and what a restart needs to know."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from keeper.errors import ConfigError, InvariantError
from keeper.journal.breakers import BreakerChange, last_changes
from keeper.journal.codec import load
from keeper.journal.explanation import (
    Ended,
    Explanation,
    Item,
    Planned,
    Seen,
    Sent,
    Skipped,
    verdict,
)
from keeper.journal.migration import migrations
from keeper.types import OUTRUN, Opportunity, Plan
from keeper.units import Address, Hash, Usd, Wei

SKIPS_SHOWN = 100
"""Newest skips of one borrower in an explanation."""


CallKey = tuple[str, Address, int]
"""A call of a plan, as `Quote.key`."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Gas one of our transactions paid for, and what it brought.

    `liquidates` is false of sweeps and of what took a nonce back. `estimated` is what the plan was to
    bring by call before costs, `planned_usd` in all after them, `won` are the calls that held. `outrun`
    is what reverted because another transaction of its block was faster.
    """

    chain: str
    time: float
    gas: Wei
    reverted: bool
    plan: str = ""
    net_usd: Usd = Usd(0)
    repaid_usd: Usd = Usd(0)
    tx_hash: Hash | None = None
    liquidates: bool = True
    planned_usd: Usd = Usd(0)
    estimated: tuple[tuple[CallKey, int], ...] = ()
    won: frozenset[CallKey] = frozenset()
    outrun: bool = False


class JournalReader:
    """Read a journal while a keeper writes it; opens the file anew for each question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def explain(self, name: str) -> Explanation | None:
        """Explain a borrower, opportunity number, plan or transaction; None when unknown.

        Addresses, hashes and plan ids may be shortened to a prefix or written `0x19…02bb`.
        """
        with closing(self.open()) as db:
            return _explain(db, name.strip().lower(), name.strip())

    def spent(self, since: float) -> list[Spent]:
        """Return the gas paid for since a time, oldest first, a rollup's data fee counted in."""
        with closing(self.open()) as db:
            rows = db.execute(
                "SELECT plans.chain, receipts.time, gas_used, gas_price, data_fee, outcome, "
                "plans.id, receipts.net_usd, plans.repaid_usd, receipts.hash, plans.net_usd, "
                "plans.record, receipts.reason FROM receipts JOIN plans ON plans.id = receipts.plan "
                "WHERE receipts.time >= ? AND gas_price IS NOT NULL ORDER BY receipts.time",
                (since,),
            ).fetchall()
            won = {
                plan: _liquidated(db, plan)
                for *_, outcome, plan, _, _, _, _, _, _ in rows
                if outcome == "included"
            }
        found = []
        for row in rows:
            chain, time, used, price, data, outcome, plan, net, repaid, tx, *rest = row
            planned, record, reason = rest
            estimated = _estimated(record)
            spent = Spent(
                chain,
                time,
                Wei(used * int(price) + int(data)),
                outcome == "reverted",
                plan,
                Usd(int(net or 0)),
                Usd(int(repaid) if outcome == "included" else 0),
                None if tx is None else Hash(bytes.fromhex(tx[2:])),
                bool(estimated) and outcome != "cancelled",
                Usd(int(planned)),
                estimated,
                frozenset(estimated[place][0] for place in won.get(plan, ())),
                outcome == "reverted" and reason == OUTRUN,
            )
            found.append(spent)
        return found

    def last_sweep(self, chain: str) -> float:
        """Return when profit of a chain was last swept, 0 when it never was; a sale is no sweep."""
        with closing(self.open()) as db:
            (time,) = db.execute(
                "SELECT max(receipts.time) FROM receipts JOIN plans ON plans.id = receipts.plan "
                "WHERE chain = ? AND outcome = 'included' "
                "AND json_extract(plans.record, '$.conversion') IS NULL AND NOT EXISTS "
                "(SELECT 1 FROM items WHERE items.plan = plans.id)",
                (chain,),
            ).fetchone()
        return float(time or 0)

    def contested(self, chain: str, most: int) -> list[tuple[Plan, list[CallKey], str]]:
        """Return a chain's newest plans that were mined, or lost their purpose before.

        Each with its calls that held and the relay, oldest first, at most `most` of them.
        """
        with closing(self.open()) as db:
            rows = db.execute(
                "SELECT plans.id, plans.record, coalesce(ended.relay, plans.lost), max(ended.id) "
                "FROM plans LEFT JOIN receipts AS ended ON ended.plan = plans.id "
                "AND ended.outcome IN ('included', 'reverted') "
                "WHERE plans.chain = ? AND (ended.id IS NOT NULL OR plans.lost IS NOT NULL) "
                "GROUP BY plans.id ORDER BY plans.time DESC, plans.rowid DESC LIMIT ?",
                (chain, most),
            ).fetchall()
            won = {plan: _liquidated(db, plan) for plan, *_ in rows}
        found = []
        for plan, record, relay, _ in reversed(rows):
            with suppress(InvariantError, KeyError, TypeError, ValueError):  # of an older release
                made = load(Plan, orjson.loads(record))
                found.append((made, [made.quotes[place].key for place in won[plan]], relay))
        return found

    def breakers(self) -> list[BreakerChange]:
        """Return how every breaker last changed, oldest first."""
        with closing(self.open()) as db:
            return last_changes(db)

    def paid(self, since: float, until: float) -> list[Planned]:
        """Return the plans whose transaction paid gas in a span of time, oldest first."""
        with closing(self.open()) as db:
            found = db.execute(
                "SELECT plan FROM receipts WHERE gas_price IS NOT NULL "
                "AND coalesce(block_time, time) >= ? AND coalesce(block_time, time) < ? "
                "GROUP BY plan ORDER BY min(id)",
                (since, until),
            ).fetchall()
            return _plans(db, [plan for (plan,) in found])

    def open(self) -> sqlite3.Connection:
        """Open the journal to read from; raise `ConfigError` when there is none that fits."""
        if not self._path.exists():
            raise ConfigError(
                f"there is no journal at {self._path}",
                "run the keeper first, or set KEEPER_HOME to where it ran",
            )
        db = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        db.execute("PRAGMA query_only = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < migrations()[-1][0]:
            db.close()
            raise ConfigError(
                f"the journal at {self._path} was last written by an older release",
                "start the keeper once: it brings the journal up to date",
            )
        return db


def _liquidated(db: sqlite3.Connection, plan: str) -> list[int]:
    """Return the places in a plan of its calls that held."""
    rows = db.execute(
        "SELECT position FROM items WHERE plan = ? AND outcome = 'liquidated' ORDER BY position",
        (plan,),
    ).fetchall()
    return [place for (place,) in rows]


def _estimated(record: str) -> tuple[tuple[CallKey, int], ...]:
    """Return what each call of a recorded plan was to bring before costs, in dollars."""
    return tuple(
        (_call(quote), int(quote["gross_usd"])) for quote in orjson.loads(record)["quotes"]
    )


def _call(quote: Mapping[str, Any]) -> CallKey:
    """Return a recorded quote's key."""
    position = quote["opportunity"]["position"]
    borrower = Address(bytes.fromhex(position["borrower"][2:]))
    return position["market"], borrower, int(quote.get("part", 0))


def _explain(db: sqlite3.Connection, name: str, exact: str) -> Explanation | None:
    if name.isdecimal():
        return _of_opportunity(db, int(name))
    if name.startswith("0x"):
        return _of_hex(db, name)
    plans = _matching(db, "plans", "id", exact)
    return _of_plans("plan", exact, _plans(db, plans[:1])) if plans else None


def _of_hex(db: sqlite3.Connection, name: str) -> Explanation | None:
    if len(name) != 42 and (found := _matching(db, "transactions", "hash", name)):
        (plan,) = db.execute("SELECT plan FROM transactions WHERE hash = ?", found[:1]).fetchone()
        return _of_plans("transaction", found[0], _plans(db, [plan]))
    for table in ("opportunities", "items", "skips"):
        if found := _matching(db, table, "borrower", name):
            return _of_borrower(db, found[0])
    return None


def _matching(db: sqlite3.Connection, table: str, column: str, name: str) -> list[str]:
    """Return the values that equal a name, or match its start (and end, around `…` or `..`)."""
    head, _, tail = name.replace("…", "..").partition("..")
    if len(head) < 4 or any(mark in name for mark in "%_"):
        return []
    rows = db.execute(
        f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE ? LIMIT 2",  # noqa: S608
        (f"{head}%{tail}",),
    ).fetchall()
    values = [str(value) for (value,) in rows]
    if len(values) > 1 and name not in values:
        raise ConfigError(f"{name} is not unique in the journal", "write more of it")
    return [name] if name in values else values


def _of_borrower(db: sqlite3.Connection, borrower: str) -> Explanation:
    seen = _seen(db, "borrower", borrower)
    skips = _skips(db, borrower)
    ids = db.execute(
        "SELECT DISTINCT plans.id FROM items JOIN plans ON plans.id = items.plan "
        "WHERE borrower = ? ORDER BY plans.time, plans.id",
        (borrower,),
    ).fetchall()
    plans = _plans(db, [plan for (plan,) in ids])
    line = verdict(seen, skips, tuple(plans), borrower)
    return Explanation("borrower", borrower, line, seen, skips, tuple(plans))


def _of_opportunity(db: sqlite3.Connection, number: int) -> Explanation | None:
    """Explain one episode: what followed it until the borrower's next one."""
    seen = _seen(db, "id", number)
    if not seen:
        return None
    whole = _of_borrower(db, seen[0].borrower)
    later = [other.time for other in whole.opportunities if other.time > seen[0].time]
    end = min(later, default=float("inf"))
    skips = tuple(skip for skip in whole.skips if seen[0].time <= skip.time < end)
    plans = tuple(plan for plan in whole.plans if seen[0].time <= plan.time < end)
    line = verdict(seen, skips, plans, seen[0].borrower)
    return Explanation("opportunity", str(number), line, seen, skips, plans)


def _of_plans(kind: str, name: str, plans: list[Planned]) -> Explanation:
    return Explanation(kind, name, verdict((), (), tuple(plans), None), (), (), tuple(plans))


def _seen(db: sqlite3.Connection, column: str, value: object) -> tuple[Seen, ...]:
    query = (
        "SELECT id, time, chain, head, market, protocol, borrower, strategy, cause, health, "
        "collateral_value, debt_value, record FROM opportunities WHERE {} = ? ORDER BY id"
    )
    rows = db.execute(query.format(column), (value,)).fetchall()
    found = []
    for row in rows:
        record = orjson.loads(row[12])
        figures = (int(figure) for figure in row[9:12])
        found.append(Seen(*(*row[:9], *figures, record, load(Opportunity, record).toxic)))
    return tuple(found)


def _skips(db: sqlite3.Connection, borrower: str) -> tuple[Skipped, ...]:
    rows = db.execute(
        "SELECT time, chain, head, market, protocol, borrower, strategy, reason, detail "
        "FROM skips WHERE borrower = ? ORDER BY id DESC LIMIT ?",
        (borrower, SKIPS_SHOWN),
    ).fetchall()
    return tuple(Skipped(*row) for row in reversed(rows))


def _plans(db: sqlite3.Connection, ids: Iterable[str]) -> list[Planned]:
    return [_plan(db, name) for name in ids]


def _plan(db: sqlite3.Connection, name: str) -> Planned:
    row = db.execute(
        "SELECT id, time, chain, head, contract, gas_limit, gas, gas_cost, gross_usd, net_usd, "
        "repaid_usd, record FROM plans WHERE id = ?",
        (name,),
    ).fetchone()
    items = db.execute(
        "SELECT market, protocol, borrower, strategy, debt, repaid, proceeds, premium, net, "
        "net_usd, outcome, gain, reason FROM items WHERE plan = ? ORDER BY position",
        (name,),
    ).fetchall()
    sent = db.execute(
        "SELECT hash, sender, nonce, state, error, signed, sent, settled FROM transactions "
        "WHERE plan = ? ORDER BY signed, nonce",
        (name,),
    ).fetchall()
    ended = db.execute(
        "SELECT time, hash, outcome, reason, block_number, block_time, gas_used, gas_price, gas_cost_usd, "
        "revenue_usd, tip_usd, net_usd, gains, data_fee FROM receipts WHERE plan = ? ORDER BY id",
        (name,),
    ).fetchall()
    figures = (int(value) for value in row[7:11])
    return Planned(
        *(
            *row[:7],
            *figures,
            orjson.loads(row[11]),
            tuple(_item(item) for item in items),
            tuple(Sent(*entry) for entry in sent),
            tuple(_ended(entry) for entry in ended),
        )
    )


def _item(row: tuple[Any, ...]) -> Item:
    return Item(*(*row[:5], *map(int, row[5:10]), row[10], _amount(row[11]), row[12]))


def _ended(row: tuple[Any, ...]) -> Ended:
    return Ended(*(*row[:7], *map(_amount, row[7:12]), _gains(row[12]), int(row[13])))


def _amount(value: Any) -> int | None:
    return None if value is None else int(value)


def _gains(text: str) -> dict[str, int]:
    return {token: int(gain) for token, gain in orjson.loads(text).items()}
