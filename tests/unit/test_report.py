"""A report of a journal: what came late to it is no latency, and each loss has its line."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keeper.cli import main
from keeper.config import load
from keeper.journal.liquidations import LiquidationRow
from keeper.journal.report import Spread, summarise
from keeper.journal.sqlite import SqliteJournal
from keeper.units import to_hex
from tests.fake_node import FakeClock
from tests.plans import Plans, address, block_hash, included, signed

DAY = 86_400
TEXT = to_hex(address("one"))
ROW = LiquidationRow(
    *("x", to_hex(block_hash(7)), 0, 7, 10 * DAY, 10 * DAY + 0.25, to_hex(block_hash(70)), 3),
    *("aave", "aave-v3", TEXT, TEXT, TEXT, "5", "6", "500000000", "600000000", TEXT, TEXT, TEXT),
    *("swift", 100_000, "9", str(2 * 10**15), "late", "plan-1"),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keeper.toml").write_text("[journal]\nhome = '.'\n")

    async def write() -> None:
        clock = FakeClock()
        path = load([tmp_path / "keeper.toml"], env={}).settings.journal_file
        journal = SqliteJournal(path, clock, 30, lambda _: None, 64)
        journal.open()
        plan = Plans().make(address("one"))
        await journal.planned(plan)
        await journal.signed(signed(plan))
        clock.now += 0.05
        await journal.sent(signed(plan), None)
        await journal.settled(included(plan))
        down = replace(ROW, log_index=1, seen=11.0 * DAY, reason="not_running", winner="other")
        await journal.liquidations.add([ROW, down, replace(ROW, log_index=2, state="orphaned")])
        journal.close()

    asyncio.run(write())
    return tmp_path


@pytest.fixture
def told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["keeper", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run


def test_what_was_folded_after_downtime_is_no_latency(home: Path) -> None:
    found = summarise(home / "journal.sqlite", 0, 2**40)
    assert found.seen == Spread(1, 250.0, 250.0)
    assert (found.ours, found.orphaned) == (0, 1)
    assert {(each.winner, each.reason, each.count, each.won_usd) for each in found.missed} == {
        ("swift", "late", 1, 10**8),
        ("other", "not_running", 1, 10**8),
    }
    (day,) = found.decided_by_day.values()
    assert day == found.decided
    assert day.p50 == pytest.approx(50, abs=0.01)


def test_each_liquidation_of_others_has_its_line(told: Callable[..., str], home: Path) -> None:
    out = told("--each")
    (late,) = [line for line in out.splitlines() if "late: plan-1" in line and "included" in line]
    assert "1970-01-11 00:00:00" in late
    assert "+0.2 s" in late
    assert "0.002" in late
    assert out.count("orphaned") == 1
    rows = json.loads(told("--json", "--each"))["others"]
    assert [(row["reason"], row["seized_usd"], row["state"]) for row in rows] == [
        ("late", "6", "included"),
        ("not_running", "6", "included"),
        ("late", "6", "orphaned"),
    ]
    told("--html", "page.html", "--each")
    assert (home / "page.html").read_text().count("late: plan-1") == 2


async def test_the_last_blocks_on_record_are_told_without_orphans(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite", FakeClock(), 30, lambda _: None, 64)
    journal.open()
    hashes = {number: to_hex(block_hash(number)) for number in (5, 6, 7)}
    rows = [
        replace(ROW, block_number=number, block_time=number * DAY, block_hash=text, log_index=index)
        for number, text in hashes.items()
        for index in (0, 1)
    ]
    await journal.liquidations.add(rows)
    await journal.liquidations.orphan("x", block_hash(6))
    recent = [(7, block_hash(7)), (5, block_hash(5))]
    assert await journal.liquidations.recent("x", 8) == recent
    assert await journal.liquidations.recent("x", 1) == recent[:1]
    assert await journal.liquidations.recent("y", 8) == []
    journal.close()
