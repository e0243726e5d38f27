"""`keeper explain` and `keeper history` on a journal that a keeper wrote."""

import csv
import io
import json
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from keeper.cli import main
from keeper.config import load
from keeper.journal.outbox import StandingRow, write_standings
from keeper.journal.sqlite import SqliteJournal
from keeper.types import Reason, Skip
from keeper.units import to_hex
from tests.fake_node import FakeClock
from tests.plans import (
    Plans,
    address,
    included,
    make_head,
    make_opportunity,
    make_view,
    signed,
    tx_of,
)

Keeper = Callable[..., tuple[int, str]]
ONE, TWO, THREE = (address(name) for name in ("one", "two", "three"))
PLAN = Plans().make(ONE, TWO)


@pytest.fixture
async def written(tmp_path: Path) -> Path:
    """Write a plan that liquidated one of two borrowers, and a skip of a third."""
    (tmp_path / "keeper.toml").write_text("[journal]\nhome = '.'\n")
    path = load([tmp_path / "keeper.toml"], env={}).settings.journal_file
    journal = SqliteJournal(path, FakeClock(), 30, lambda _: None, 64)
    journal.open()
    skip = Skip("aave-v3", "aave-v3", THREE, Reason.UNPROFITABLE, "gas 11 > bonus 8", "mine")
    view = make_view(make_head(99), (ONE, TWO, THREE))
    journal.observe(view, [make_opportunity(ONE), make_opportunity(TWO)], [skip])
    await journal.planned(PLAN)
    await journal.signed(signed(PLAN))
    await journal.settled(included(PLAN, TWO))
    journal.close()
    return tmp_path


@pytest.fixture
def cli(
    written: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Keeper:
    monkeypatch.chdir(written)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["keeper", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out

    return run


def test_explain_tells_the_story_in_order(cli: Keeper) -> None:
    code, out = cli("explain", to_hex(ONE))
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith(f"borrower {to_hex(ONE)}: liquidated in block 101, transaction 0x")
    assert "chose" in lines[1]
    story = "\n".join(lines[2:])
    assert (
        story.index("plan ") < story.index("transaction 0x") < story.index("included in block 101")
    )
    assert cli("explain", to_hex(tx_of(PLAN)))[1].startswith("transaction 0x")


def test_explain_gives_the_reason_of_a_skip(cli: Keeper) -> None:
    code, out = cli("explain", to_hex(THREE))
    assert code == 0
    assert "skipped since head 99: unprofitable: gas 11 > bonus 8" in out.splitlines()[0]
    record = json.loads(cli("explain", to_hex(THREE), "--json")[1])
    assert record["skips"][0]["reason"] == "unprofitable"


def test_what_is_unknown_exits_4(cli: Keeper) -> None:
    assert cli("explain", "0x" + "12" * 20)[0] == 4
    assert cli("history", "--until", "2001-01-01")[0] == 4


def test_history_is_a_table_json_or_csv(cli: Keeper) -> None:
    code, out = cli("history")
    assert code == 0
    assert "included" in out
    assert out.splitlines()[-1] == "1 transactions, net 38.80 USD"
    entry = json.loads(cli("history", "--json")[1])[0]
    assert entry["block"] == 101
    assert "gas" not in entry
    text = [entry[name] for name in ("gas_native", "gas_usd", "tip_usd", "net_usd")]
    text += [flow[name] for flow in entry["flows"] for name in ("received", "paid", "price_usd")]
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", each) for each in text), text
    (row,) = csv.DictReader(io.StringIO(cli("history", "--csv")[1]))
    assert (row["token"], row["net_usd"], row["outcome"]) == ("USDC", "38.8", "included")


def test_bad_date_is_refused(cli: Keeper) -> None:
    assert cli("history", "--since", "yesterday")[0] == 2


@pytest.mark.parametrize("command", ["history", "report"])
def test_a_span_that_ends_before_it_begins_is_refused(cli: Keeper, command: str) -> None:
    assert cli(command, "--since", "2026-05-01", "--until", "2026-05-01")[0] == 2
    assert cli(command, "--since", "2026-05-01", "--until", "2026-01-01")[0] == 2


def test_without_a_keeper_the_least_healthy_is_listed_first(cli: Keeper, written: Path) -> None:
    healths = {"aa": "1080000000000000000", "bb": "1010000000000000000", "cc": None}
    rows = [
        StandingRow(
            *("x", "whales", "aave", "0x" + digits * 20, "call", 1, 7.0, None, False, False),
            json.dumps({"health": health} if health else {}),
        )
        for digits, health in healths.items()
    ]
    with closing(sqlite3.connect(written / "journal.sqlite")) as db, db:
        write_standings(db, rows)
    code, out = cli("margin", "list")
    assert code == 0
    assert [line.split()[2][:4].lower() for line in out.splitlines()[2:5]] == [
        "0xbb",
        "0xaa",
        "0xcc",
    ]
