"""The journal: what is written, when it is on disk, and what it tells afterwards."""

import asyncio
import csv
import io
import os
import signal
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from keeper.errors import ConfigError, InvariantError
from keeper.execution.executor import Executor
from keeper.execution.signer import KeySigner
from keeper.journal import rows
from keeper.journal.history import decimal, history, write_csv
from keeper.journal.home import HomeLock, home_path, open_home
from keeper.journal.migration import migrations
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import DAY, SqliteJournal
from keeper.planning.contest import Contest
from keeper.types import (
    OUTRUN,
    Cancelled,
    Conversion,
    Dropped,
    Holding,
    Reason,
    Replaced,
    Reverted,
    Skip,
)
from keeper.units import USD, Hash, Usd, Wei, to_hex
from tests.fake_node import Events, FakeAdmission, FakeClock, FakeNode, decode_runs
from tests.forked import run_script
from tests.plans import (
    GWEI,
    OPERATOR_KEY,
    SENDER,
    USDC,
    WETH,
    PairTerms,
    Plans,
    address,
    included,
    make_head,
    make_opportunity,
    make_view,
    signed,
    tx_of,
)


class Notebook:
    """A journal in a folder, with a clock that is set."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.db"
        self.clock = FakeClock()
        self.dropped: list[int] = []
        self.plans = Plans()
        self.journal = self.open()

    def open(self, capacity: int = 64) -> SqliteJournal:
        """Open the file (again)."""
        journal = SqliteJournal(self.path, self.clock, 30, self.dropped.append, capacity)
        journal.open()
        return journal

    def reader(self) -> JournalReader:
        """Return the read side, once everything queued is written."""
        self.journal.close()
        self.journal = self.open()
        return JournalReader(self.path)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return what a query finds."""
        self.reader()
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(query).fetchall()


@pytest.fixture
async def notebook(tmp_path: Path) -> AsyncIterator[Notebook]:
    """Return a journal in an empty folder."""
    book = Notebook(tmp_path)
    yield book
    book.journal.close()


def test_no_amount_is_an_integer_column() -> None:
    counts = {
        "id",
        "chain_id",
        "is_open",
        "cancels",
        "private",
        "final",
        "head",
        "position",
        "nonce",
        "gas",
        "gas_limit",
        "gas_used",
    }
    blocks = {"block_number", "block_time", "looked", "snapshot", "page", "pages", "bytes"}
    blocks |= {"first", "last", "anchor", "width"}
    counts |= {"attempts", "changes", "acknowledged", "reminded"}
    times = {"time", "signed", "sent", "settled", "until"}
    counts |= {"log_index", "transaction_index"}
    times |= {"seen", "due", "delivered", "given_up", "since", "better_since"}
    with closing(sqlite3.connect(":memory:")) as db:
        for _, sql in migrations():
            db.executescript(sql)
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        assert set(tables) == {
            "opportunities",
            "skips",
            "plans",
            "items",
            "transactions",
            "receipts",
            "snapshots",
            "snapshot_pages",
            "scans",
            "breakers",
            "notices",
            "margin_standings",
            "price_samples",
            "margin_heads",
            "liquidations",
            "feeds",
        }
        for table in tables:
            for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})"):
                assert kind in {"INTEGER", "TEXT", "REAL", "BLOB"}
                assert kind != "INTEGER" or name in counts | blocks, f"{table}.{name}"
                assert kind != "REAL" or name in times, f"{table}.{name}"


async def test_amounts_beyond_64_bits_come_back_exact(notebook: Notebook) -> None:
    plan = replace(notebook.plans.make(), gas_cost=Wei(2**200 + 1), net_usd=Usd(-(2**70)))
    await notebook.journal.planned(plan)
    record = notebook.reader().explain(plan.id)
    assert record is not None
    assert record.plans[0].gas_cost == 2**200 + 1
    assert record.plans[0].net_usd == -(2**70)


async def test_every_commit_is_durable(notebook: Notebook) -> None:
    def pragmas(db: sqlite3.Connection) -> tuple[object, ...]:
        return (
            *db.execute("PRAGMA journal_mode").fetchone(),
            *db.execute("PRAGMA synchronous").fetchone(),
        )

    assert await notebook.journal._writer.write(pragmas) == ("wal", 2)


async def test_what_waits_together_is_committed_together_and_apart_in_failure(
    notebook: Notebook,
) -> None:
    first, second = notebook.plans.make(), notebook.plans.make()
    results = await asyncio.gather(
        notebook.journal.planned(first),
        notebook.journal.signed(signed(notebook.plans.make())),
        notebook.journal.planned(second),
        return_exceptions=True,
    )
    assert results[0] is results[2] is None
    assert isinstance(results[1], InvariantError)
    assert notebook.rows("SELECT id FROM plans ORDER BY id") == [(first.id,), (second.id,)]


async def test_pending_gives_back_the_very_bytes_and_plan(notebook: Notebook) -> None:
    plans = [notebook.plans.make(address("one"), address("two")), notebook.plans.make()]
    for nonce, plan in enumerate(plans):
        await notebook.journal.planned(plan)
        await notebook.journal.signed(signed(plan, nonce))
        await notebook.journal.sent(signed(plan, nonce), None)
    notebook.journal.close()
    notebook.journal = notebook.open()
    found = await notebook.journal.pending()
    assert [(one.nonce, one.raw, one.hash, one.sender) for one in found] == [
        (nonce, signed(plan, nonce).raw, tx_of(plan), SENDER) for nonce, plan in enumerate(plans)
    ]
    again = found[0].plan
    assert again.calldata == plans[0].calldata
    assert again.prices == plans[0].prices
    assert again.head == plans[0].head
    assert [quote.opportunity.key for quote in again.quotes] == [
        quote.opportunity.key for quote in plans[0].quotes
    ]
    assert again.quotes[0].steps[0].terms.seize(again.quotes[0].steps[0].terms.maximum) == plans[
        0
    ].quotes[0].steps[0].terms.seize(1_000 * 10**6)
    with pytest.raises(InvariantError, match="sized again"):
        again.quotes[0].steps[0].terms.seize(1)
    await notebook.journal.settled(included(plans[0]))
    await notebook.journal.settled(Replaced(plans[1].id, tx_of(plans[1]), Hash(bytes(32))))
    assert await notebook.journal.pending() == []


async def test_a_drafted_plan_is_recorded_as_it_ends_and_what_lasts_is_not_written_again(
    notebook: Notebook,
) -> None:
    plan = notebook.plans.make(address("one"), address("two"))
    notebook.journal.draft(plan)
    asked: list[int] = []
    quotes = tuple(replace(quote, net=7 + place) for place, quote in enumerate(plan.quotes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairTerms, "seize", lambda _, repay: asked.append(repay))
        await notebook.journal.planned(replace(plan, quotes=quotes, gas=5))
    assert not asked
    await notebook.journal.signed(signed(plan, 0))
    (found,) = await notebook.journal.pending()
    assert [quote.net for quote in found.plan.quotes] == [7, 8]
    assert [quote.opportunity.key for quote in found.plan.quotes] == [
        quote.opportunity.key for quote in plan.quotes
    ]
    assert found.plan.gas == 5
    assert [quote.routes for quote in found.plan.quotes] == [quote.routes for quote in quotes]


async def test_a_skip_is_news_when_its_reason_changes(notebook: Notebook) -> None:
    borrower = address("one")
    reasons = [
        Reason.UNPROFITABLE,
        Reason.UNPROFITABLE,
        Reason.NO_ROUTE,
        Reason.NO_ROUTE,
        Reason.UNPROFITABLE,
    ]
    for number, reason in enumerate(reasons):
        skip = Skip("aave-v3", "aave-v3", borrower, reason, f"at {number}", "profitability")
        notebook.journal.observe(make_view(make_head(number), (borrower,)), [], [skip])
    assert notebook.rows("SELECT head, reason, detail FROM skips ORDER BY id") == [
        (0, "unprofitable", "at 0"),
        (2, "no_route", "at 2"),
        (4, "unprofitable", "at 4"),
    ]


async def test_an_opportunity_is_news_once_an_episode(notebook: Notebook) -> None:
    borrower = address("one")
    for number, at_risk in enumerate([True, True, False, True]):
        view = make_view(make_head(number), (borrower,) if at_risk else ())
        found = [make_opportunity(borrower)] if at_risk else []
        notebook.journal.observe(view, found, [])
    rows = notebook.rows("SELECT head, health, debt_value FROM opportunities ORDER BY id")
    assert rows == [
        (0, str(98 * 10**16), str(1_694 * USD)),
        (3, str(98 * 10**16), str(1_694 * USD)),
    ]


async def test_a_full_queue_drops_and_counts_but_never_blocks(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    notebook.journal.close()
    notebook.journal = notebook.open(capacity=2)
    gate, held = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        held.set()
        gate.wait(10)

    blocked = asyncio.create_task(notebook.journal._writer.write(hold))
    await asyncio.to_thread(held.wait, 10)
    notebook.journal._pruned = notebook.clock.now
    borrower = address("one")
    for number in range(5):
        view = make_view(make_head(number), (borrower,))
        notebook.journal.observe(view, [make_opportunity(borrower)], [])
    assert notebook.dropped == [1, 1, 1]
    gate.set()
    await blocked
    notebook.journal.close()


async def test_old_observations_are_pruned_and_money_is_kept(notebook: Notebook) -> None:
    borrower = address("one")
    sent, unsent = notebook.plans.make(borrower), notebook.plans.make()
    skip = Skip("aave-v3", "aave-v3", borrower, Reason.DUST)
    notebook.journal.observe(
        make_view(make_head(1), (borrower,)), [make_opportunity(borrower)], [skip]
    )
    for plan in (sent, unsent):
        await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(sent))
    await notebook.journal.settled(included(sent))
    notebook.reader()
    notebook.clock.now += 30 * DAY + 1
    notebook.journal.observe(make_view(make_head(2), (borrower,)), [], [])
    assert notebook.rows("SELECT count(*) FROM opportunities") == [(0,)]
    assert notebook.rows("SELECT count(*) FROM skips") == [(0,)]
    assert notebook.rows("SELECT id FROM plans") == [(sent.id,)]
    assert notebook.rows("SELECT count(*) FROM receipts") == [(1,)]


async def test_explain_tells_by_borrower_opportunity_plan_and_hash(notebook: Notebook) -> None:
    one, two, three = (address(name) for name in ("one", "two", "three"))
    view = make_view(make_head(99), (one, two, three))
    skip = Skip(
        "aave-v3", "aave-v3", three, Reason.UNPROFITABLE, "gas 11 > bonus 8", "profitability"
    )
    notebook.journal.observe(view, [make_opportunity(one), make_opportunity(two)], [skip])
    plan = notebook.plans.make(one, two)
    notebook.reader()
    await notebook.journal.planned(plan)
    reader = notebook.reader()
    assert verdict(reader, plan.id) == "planned at head 100, not signed"
    await notebook.journal.signed(signed(plan))
    await notebook.journal.sent(signed(plan), None)
    assert "sent in 0x" in verdict(notebook.reader(), to_hex(one))
    await notebook.journal.settled(included(plan, two))
    reader = notebook.reader()
    tx = to_hex(tx_of(plan))
    assert verdict(reader, tx) == f"liquidated 1 of 2 in block 101, transaction {tx}"
    assert verdict(reader, plan.id) == verdict(reader, tx)
    assert verdict(reader, to_hex(one)) == f"liquidated in block 101, transaction {tx}"
    assert verdict(reader, to_hex(two)).startswith(f"failed in block 101, transaction {tx}")
    assert verdict(reader, to_hex(three)) == "skipped since head 99: unprofitable: gas 11 > bonus 8"
    assert verdict(reader, "1") == verdict(reader, to_hex(one))
    text = to_hex(one)
    for short in (text[:10], f"{text[:6]}…{text[-4:]}", f"{text[:6]}..{text[-4:]}", text.upper()):
        assert verdict(reader, short.replace("0X", "0x")) == verdict(reader, text)
    record = reader.explain(text)
    assert record is not None
    assert record.opportunities[0].health == 98 * 10**16
    assert record.plans[0].items[0].gain == 40_400_000
    assert record.plans[0].record["quotes"][0]["routes"][0]["route"][0]["venue"] == "uniswap-v3"
    for unknown in ("0x" + "12" * 20, "0x" + "12" * 32, "77", "nothing", "0x", "%"):
        assert reader.explain(unknown) is None


def verdict(reader: JournalReader, name: str) -> str:
    """Return an explanation's line."""
    record = reader.explain(name)
    assert record is not None
    return record.verdict


async def test_an_ambiguous_name_says_so(notebook: Notebook) -> None:
    for _ in range(2):
        await notebook.journal.planned(notebook.plans.make())
    with pytest.raises(ConfigError, match="not unique"):
        notebook.reader().explain("plan-")


async def test_history_and_csv_add_up(notebook: Notebook) -> None:
    good, bad = notebook.plans.make(address("one"), address("two")), notebook.plans.make()
    for plan in (good, bad, notebook.plans.make()):
        await notebook.journal.planned(plan)
        await notebook.journal.signed(signed(plan))
    await notebook.journal.settled(included(good, address("two")))
    tx, gas = tx_of(bad), Usd(30_000_000)
    await notebook.journal.settled(Reverted(bad.id, tx, 102, 150_000, Wei(GWEI), "Expired", gas))
    reader = notebook.reader()
    entries = list(history(reader.paid(0, 2_000_000_000)))
    assert [entry.outcome for entry in entries] == ["included", "reverted"]
    first = entries[0]
    assert (first.borrowers, first.block, first.time) == (1, 101, 1_800_001_212)
    (flow,) = first.flows
    assert flow.paid == 800_400_000
    assert flow.received - flow.paid == 40_400_000
    assert flow.price_usd == USD
    assert first.gas == 400_000 * 2 * GWEI
    assert sum(entry.net_usd for entry in entries) == 38_80000000 - 30_000_000
    file = io.StringIO()
    assert write_csv(entries, file) == 2
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert rows[0]["date"] == "2027-01-15T08:20:12Z"
    assert (rows[0]["token"], rows[0]["amount_in"], rows[0]["amount_out"]) == (
        "USDC",
        "840.8",
        "800.4",
    )
    assert (rows[0]["gas_native"], rows[0]["net_usd"]) == ("0.0008", "38.8")
    assert rows[0]["price_source"] == "oracle of aave-v3 at block 100"
    assert (rows[1]["token"], rows[1]["net_usd"]) == ("", "-0.3")
    assert not list(history(reader.paid(0, 1_000_000_000)))
    assert [(one.gas, one.reverted) for one in reader.spent(0)] == [
        (400_000 * 2 * GWEI, False),
        (150_000 * GWEI, True),
    ]


async def test_a_borrower_of_two_markets_was_liquidated_in_both(notebook: Notebook) -> None:
    plan = notebook.plans.make(address("one"), address("one"), address("one"))
    first, again, other = plan.quotes
    position = replace(other.opportunity.position, market="other")
    other = replace(other, opportunity=replace(other.opportunity, position=position))
    plan = replace(plan, quotes=(first, again, other))
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))
    await notebook.journal.settled(included(plan))
    (entry,) = history(notebook.reader().paid(0, 2_000_000_000))
    assert entry.borrowers == 2


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [(0, 18, "0"), (1, 18, "0.000000000000000001"), (-15, 1, "-1.5"), (7, 0, "7"), (100, 2, "1")],
)
def test_decimals_are_exact(amount: int, decimals: int, text: str) -> None:
    assert decimal(amount, decimals) == text


async def test_files_are_private(notebook: Notebook, tmp_path: Path) -> None:
    await notebook.journal.planned(notebook.plans.make())
    assert {mode(path) for path in contents(tmp_path)} == {0o600}
    assert mode(open_home(tmp_path / "a" / "home")) == 0o700


def contents(folder: Path) -> list[Path]:
    """Return the files of a folder."""
    return list(folder.iterdir())


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_home_follows_the_environment() -> None:
    assert home_path({"KEEPER_HOME": "/k", "XDG_DATA_HOME": "/x"}) == Path("/k")
    assert home_path({"XDG_DATA_HOME": "/x"}) == Path("/x/keeper")
    assert home_path({}) == Path.home() / ".local/share/keeper"


def test_an_unusable_home_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        open_home(tmp_path / "file" / "home")


def test_two_keepers_do_not_share_a_home(tmp_path: Path) -> None:
    with HomeLock(tmp_path), pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        HomeLock(tmp_path).acquire()
    with HomeLock(tmp_path):
        pass


def test_a_journal_of_a_newer_keeper_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(ConfigError, match="version 999"):
        SqliteJournal(tmp_path / "journal.db", FakeClock(), 30, lambda _: None).open()


def test_reading_where_nothing_is_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no journal at"):
        JournalReader(tmp_path / "journal.db").spent(0)


async def test_a_dropped_plan_tells_its_reason(notebook: Notebook) -> None:
    plan = notebook.plans.make()
    await notebook.journal.planned(plan)
    await notebook.journal.settled(Dropped(plan.id, None, "dry"))
    assert verdict(notebook.reader(), plan.id) == "dropped: dry"


async def test_a_newer_skip_is_the_newer_word_unless_it_is_about_the_plan(
    notebook: Notebook,
) -> None:
    one = address("one")
    plan = notebook.plans.make(one)
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))

    def skip_at(number: int, reason: Reason) -> None:
        notebook.clock.now += 12
        skip = Skip("aave-v3", "aave-v3", one, reason, "told", "profitability")
        notebook.journal.observe(make_view(make_head(number), (one,)), [], [skip])

    skip_at(100, Reason.NO_ROUTE)
    skip_at(101, Reason.IN_FLIGHT)
    assert "signed in 0x" in verdict(notebook.reader(), to_hex(one))
    await notebook.journal.settled(included(plan))
    assert "liquidated in block 101" in verdict(notebook.reader(), to_hex(one))
    skip_at(9_000, Reason.UNPROFITABLE)
    assert verdict(notebook.reader(), to_hex(one)) == "skipped since head 9000: unprofitable: told"


async def test_a_receipt_told_twice_counts_once(notebook: Notebook) -> None:
    plan = notebook.plans.make()
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))
    for _ in range(2):
        await notebook.journal.settled(included(plan))
    assert len(notebook.reader().spent(0)) == 1


async def test_the_same_bytes_may_be_signed_again_after_a_refusal(notebook: Notebook) -> None:
    first = notebook.plans.make()
    again = replace(notebook.plans.make(), id="again")
    await notebook.journal.planned(first)
    await notebook.journal.signed(signed(first))
    await notebook.journal.settled(Dropped(first.id, tx_of(first), "refused: underpriced"))
    await notebook.journal.planned(again)
    await notebook.journal.signed(replace(signed(first), plan=again))
    (open_again,) = await notebook.journal.pending()
    assert open_again.plan.id == "again"


async def test_one_borrower_in_two_markets_of_a_plan_ends_twice(notebook: Notebook) -> None:
    one = address("one")
    plan = notebook.plans.make(one, one)
    receipt = included(plan)
    failed = replace(receipt.items[1], ok=False, gain=0, reason="undone")
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))
    await notebook.journal.settled(replace(receipt, items=(receipt.items[0], failed)))
    assert notebook.rows("SELECT outcome FROM items ORDER BY position") == [
        ("liquidated",),
        ("failed",),
    ]


async def test_a_write_that_fails_after_its_caller_gave_up_does_not_end_the_journal(
    notebook: Notebook,
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> None:
        began.set()
        go_on.wait(10)
        raise sqlite3.OperationalError("disk full")

    writing = asyncio.ensure_future(notebook.journal._writer.write(slow))
    await asyncio.to_thread(began.wait, 10)
    writing.cancel()
    await asyncio.wait({writing})
    waiting = asyncio.ensure_future(notebook.journal.planned(notebook.plans.make()))
    for _ in range(1_000):
        if notebook.journal._writer._urgent:
            break
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({waiting}, timeout=10)
    assert waiting.done()


CRASH = """
import asyncio, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from tests.plans import Plans, included, signed
from keeper.journal.sqlite import SqliteJournal

async def main(folder, step):
    journal = SqliteJournal(Path(folder) / "journal.db", SimpleNamespace(time=lambda: 1.0), 30, lambda _: None)
    journal.open()
    plan = Plans().make()
    for number, write in enumerate((
        lambda: journal.planned(plan),
        lambda: journal.signed(signed(plan)),
        lambda: journal.sent(signed(plan), None),
        lambda: journal.settled(included(plan)),
    )):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        await write()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("step", "pending", "state"),
    [(0, 0, []), (1, 0, []), (2, 1, ["signed"]), (3, 1, ["seen"]), (4, 0, ["included"])],
)
async def test_what_was_written_before_a_kill_is_there_after_it(
    tmp_path: Path, step: int, pending: int, state: list[str]
) -> None:
    ended = await asyncio.to_thread(run_script, CRASH, str(tmp_path), str(step))
    assert ended == -signal.SIGKILL
    notebook = Notebook(tmp_path)
    assert len(await notebook.journal.pending()) == pending
    assert [name for (name,) in notebook.rows("SELECT state FROM transactions")] == state
    restarted = await restart(notebook)
    assert restarted.pending == pending
    assert len(restarted.in_flight()) == pending
    with HomeLock(tmp_path):
        pass
    notebook.journal.close()


LIFE = """
import asyncio, os, signal, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from tests.plans import SENDER, Plans, included, signed
from keeper.journal.sqlite import SqliteJournal
from keeper.types import Cancelled, Replaced

async def main(folder, step, cancels):
    clock = SimpleNamespace(time=lambda: 1.0)
    journal = SqliteJournal(Path(folder) / "journal.db", clock, 30, lambda _: None)
    journal.open()
    plan = Plans().make()
    first = signed(plan)
    second = replace(first, raw=b"again", hash=bytes(31) + b"\\2", cancels=cancels)
    receipt = replace(included(plan), tx_hash=second.hash)
    loser, winner = Replaced(plan.id, first.hash, second.hash), receipt
    if cancels:
        loser = Cancelled(plan.id, first.hash, second.hash)
        winner = Cancelled(plan.id, second.hash, second.hash, 101, receipt.block_hash, 21000, 1)
    for number, write in enumerate((
        lambda: journal.planned(plan),
        lambda: journal.signed(first),
        lambda: journal.sent(first, None),
        lambda: journal.signed(second),
        lambda: journal.sent(second, None),
        lambda: journal.settled(loser),
        lambda: journal.settled(winner),
        lambda: journal.reopened(plan.id, SENDER, 0),
        lambda: journal.settled(loser),
        lambda: journal.settled(winner),
        lambda: journal.finished("test", SENDER, 0),
    )):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        await write()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "cancel"))
"""


@pytest.mark.parametrize("how", ["replace", "cancel"])
@pytest.mark.parametrize(
    ("step", "open_versions", "unfinal"),
    [(3, 1, 0), (4, 2, 0), (5, 2, 0), (6, 1, 1), (7, 0, 2), (8, 2, 0), (10, 0, 2), (11, 0, 0)],
)
async def test_a_replaced_life_goes_on_where_it_was_killed(
    tmp_path: Path, how: str, step: int, open_versions: int, unfinal: int
) -> None:
    ended = await asyncio.to_thread(run_script, LIFE, str(tmp_path), str(step), how)
    assert ended == -signal.SIGKILL
    notebook = Notebook(tmp_path)
    found = await notebook.journal.pending(), await notebook.journal.unfinal()
    assert (len(found[0]), len(found[1])) == (open_versions, unfinal)
    restarted = await restart(notebook)
    assert restarted.pending == min(open_versions, 1), "both versions are one flight"
    assert {each.nonce for each in found[0]} <= {0}
    assert [lane.pending for lane in restarted.lanes] == [0], "a former wallet's, only watched"


async def restart(notebook: Notebook) -> Executor:
    """Return an executor started over what a journal holds."""
    executor = Executor(
        "test",
        31337,
        FakeNode(),
        [KeySigner(OPERATOR_KEY)],
        notebook.journal,
        FakeAdmission(),
        decode_runs,
        bytes.hex,
        lambda _: True,
        notebook.clock,
        Events(),
        live=True,
    )
    await executor.start()
    return executor


@pytest.mark.parametrize("late", [False, True])
async def test_the_same_bytes_for_two_plans_are_one_transaction_of_the_latter(
    notebook: Notebook, late: bool
) -> None:
    first, second = notebook.plans.make(), notebook.plans.make()
    cancel = replace(signed(first), cancels=True)
    gone = Dropped(first.id, cancel.hash, "given up, and past its deadline")
    again = replace(cancel, plan=second)
    for each in (cancel, again):
        await notebook.journal.planned(each.plan)
        await notebook.journal.signed(each)
        if not late and each is cancel:
            await notebook.journal.settled(gone)
    if late:
        await notebook.journal.settled(gone)
    (open_one,) = await notebook.journal.pending()
    assert (open_one.plan.id, open_one.hash) == (second.id, cancel.hash), "it did not end"
    await notebook.journal.settled(Cancelled(second.id, cancel.hash, cancel.hash, 102, 21_000))
    ((settled, block, _),) = await notebook.journal.unfinal()
    assert (settled.plan.id, block) == (second.id, 102)


async def test_how_bids_ended_outlives_the_process(notebook: Notebook) -> None:
    journal, plans = notebook.journal, notebook.plans
    both, failed = plans.make(address("one"), address("two")), plans.make(address("three"))
    dropped, elsewhere = plans.make(), replace(plans.make(), chain="other")
    for plan in (both, failed, dropped, elsewhere):
        await journal.planned(plan)
        await journal.signed(signed(plan, plans.made))
    await journal.settled(replace(included(both, address("two")), relay="a+b"))
    await journal.settled(Reverted(failed.id, tx_of(failed), 9, 1, Wei(1), "gone"))
    await journal.settled(Dropped(dropped.id, None, "refused"))
    await journal.settled(included(elsewhere))
    reader = notebook.reader()
    found = reader.contested("test", 10)
    assert [(plan.id, *rest) for plan, *rest in found] == [
        (both.id, [both.quotes[0].key], "a+b"),
        (failed.id, [], ""),
    ]
    contest = Contest()
    contest.restore(found)
    assert [each.won for each in contest.record.outcomes] == [True, False, False]
    assert [each.relay for each in contest.record.outcomes] == ["a+b", "a+b", ""]
    assert len({each.share for each in contest.record.outcomes}) == 1
    assert [plan.id for plan, *_ in reader.contested("test", 1)] == [failed.id]
    with closing(sqlite3.connect(notebook.path)) as db:
        db.execute("UPDATE plans SET record = '{}' WHERE id = ?", (both.id,))
        db.commit()
    assert [plan.id for plan, *_ in reader.contested("test", 10)] == [failed.id]
    await notebook.journal.lost(dropped.id, "a")
    *_, (last, won, relay) = notebook.reader().contested("test", 10)
    assert (last.id, won, relay) == (dropped.id, [], "a"), "lost without a receipt"


async def test_a_rollups_data_fee_is_part_of_what_was_paid(notebook: Notebook) -> None:
    plan, bad = notebook.plans.make(address("one"), address("two")), notebook.plans.make()
    for each in (plan, bad):
        await notebook.journal.planned(each)
        await notebook.journal.signed(signed(each))
    await notebook.journal.settled(replace(included(plan, address("two")), data_fee=Wei(10**30)))
    await notebook.journal.settled(
        Reverted(bad.id, tx_of(bad), 102, 100, Wei(GWEI), "no", data_fee=Wei(7))
    )
    reader = notebook.reader()
    gas = [400_000 * 2 * GWEI + 10**30, 100 * GWEI + 7]
    spent = reader.spent(0)
    assert [one.gas for one in spent] == gas
    assert [entry.gas for entry in history(reader.paid(0, 2_000_000_000))] == gas
    assert spent[0].won == {plan.quotes[0].key}
    assert spent[0].planned_usd == plan.net_usd
    assert spent[0].estimated == tuple((quote.key, 4_040_000_000) for quote in plan.quotes)


async def test_what_took_a_nonce_back_liquidated_nothing(notebook: Notebook) -> None:
    plan = notebook.plans.make()
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))
    tx = tx_of(plan)
    await notebook.journal.settled(Cancelled(plan.id, tx, tx, 101, 21_000, Wei(GWEI)))
    assert notebook.reader().contested("test", 9) == [], "a cancel by itself was no rival's doing"
    (spent,) = notebook.reader().spent(0)
    assert (spent.liquidates, spent.repaid_usd, spent.gas) == (False, 0, 21_000 * GWEI)


async def test_what_a_faster_one_took_is_told_from_other_reverts(notebook: Notebook) -> None:
    for reason in (OUTRUN, "no"):
        plan = notebook.plans.make()
        await notebook.journal.planned(plan)
        await notebook.journal.signed(signed(plan))
        receipt = Reverted(plan.id, tx_of(plan), 101, 100, Wei(GWEI), reason)
        await notebook.journal.settled(receipt)
    assert [(each.reverted, each.outrun) for each in notebook.reader().spent(0)] == [
        (True, True),
        (True, False),
    ]


async def test_a_sale_of_profit_is_no_sweep(notebook: Notebook) -> None:
    swept = replace(notebook.plans.make(), quotes=(), sweep=Holding(WETH, 5))
    sold = replace(notebook.plans.make(), quotes=(), sweep=Holding(WETH, 5))
    sold = replace(sold, conversion=Conversion(USDC, 1, 2))
    times = []
    for plan in (swept, sold):
        await notebook.journal.planned(plan)
        await notebook.journal.signed(signed(plan))
        await notebook.journal.settled(included(plan))
        times.append(notebook.clock.now)
        notebook.clock.now += 100
    assert notebook.reader().last_sweep("test") == times[0]
    assert notebook.reader().last_sweep("other") == 0


async def test_the_ends_of_a_nonce_are_written_together_or_not_at_all(notebook: Notebook) -> None:
    plan = notebook.plans.make()
    await notebook.journal.planned(plan)
    await notebook.journal.signed(signed(plan))
    other = replace(included(plan), plan_id="unknown")
    with pytest.raises(InvariantError):
        await notebook.journal.settled(Dropped(plan.id, tx_of(plan), "replaced"), other)
    assert [each.hash for each in await notebook.journal.pending()] == [tx_of(plan)]
    assert notebook.rows("SELECT count(*) FROM receipts") == [(0,)]


async def test_a_journal_of_an_older_release_is_named_in_one_line(notebook: Notebook) -> None:
    notebook.reader()
    with closing(sqlite3.connect(notebook.path)) as db:
        db.execute("PRAGMA user_version = 6")
    with pytest.raises(ConfigError, match="older release"):
        JournalReader(notebook.path).spent(0)


async def test_a_journal_with_rows_is_brought_up_to_date_and_read(tmp_path: Path) -> None:
    path, plan = tmp_path / "journal.db", Plans().make()
    with closing(sqlite3.connect(path)) as db:
        for number, sql in migrations():
            if number < 7:
                db.executescript(sql)
        db.execute("PRAGMA user_version = 6")
        rows.write_plan(db, 1.0, plan)
        rows.write_signed(db, 1.0, signed(plan))
        db.execute(
            "INSERT INTO receipts (time, plan, hash, outcome, block_number, gas_used, gas_price, "
            "gas_cost_usd, net_usd) VALUES (2, ?, ?, 'reverted', 9, 1000, '5', '1', '-1')",
            (plan.id, to_hex(tx_of(plan))),
        )
        db.commit()
    journal = SqliteJournal(path, FakeClock(), 30, lambda _: None)
    journal.open()
    try:
        await journal.lost(plan.id, "one")
    finally:
        journal.close()
    told = JournalReader(path)
    (spent,) = told.spent(0)
    assert (spent.gas, spent.reverted, spent.net_usd) == (5_000, True, -1)
    ((read, won, relay),) = told.contested("test", 9)
    assert (read.id, won, relay) == (plan.id, [], "")
    assert [each.data_fee for each in told.paid(0, 9)[0].receipts] == [0]
