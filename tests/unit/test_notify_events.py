"""What operators are told of the keeper itself, and how often."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.app.events import WORTH, OperatorEvents
from keeper.book.faults import Fault, FaultKind
from keeper.engine import Report
from keeper.journal.breakers import BreakerChange, write_change
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.notify.note import Note, Severity
from keeper.observers.observation import Event
from keeper.types import Reverted
from keeper.units import Address, Hash, Wei
from tests.plans import Plans

SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "keeper").rglob("*.py"))
    if path.name != "events.py"
)


class Operators:
    """Events of one chain, their clock, and what was posted."""

    def __init__(self, home: Path) -> None:
        self.now = 86_400.0 * 20_000 + 43_200
        self.posted: list[tuple[Note, tuple[str, ...]]] = []
        clock: Any = SimpleNamespace(time=lambda: self.now)
        journal = SqliteJournal(home / "journal.sqlite", clock, 90, lambda _: None)
        journal.open()
        journal.close()
        reader = JournalReader(home / "journal.sqlite")
        dispatcher: Any = SimpleNamespace(post=self._post)
        self.events = OperatorEvents("ethereum", dispatcher, ("desk",), reader, clock, 3_600.0)

    async def _post(self, notes: list[tuple[Note, tuple[str, ...]]]) -> None:
        self.posted += notes

    async def titles(self) -> list[str]:
        await self.events.close()
        return [note.title for note, _ in self.posted]


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    return Operators(tmp_path)


def breaker(*, is_open: bool, time: float = 1.0) -> BreakerChange:
    return BreakerChange(time, "ethereum", "loss", is_open, "lost 120 USD today", "limit")


async def test_one_thing_is_told_once_in_its_time(operators: Operators) -> None:
    for _ in range(5):
        operators.events.breaker(breaker(is_open=True))
    operators.events.breaker(breaker(is_open=False))
    assert await operators.titles() == [
        "breaker loss opened on ethereum",
        "breaker loss closed on ethereum",
    ]
    opened = operators.posted[0][0]
    assert (opened.severity, opened.text) == (Severity.CRITICAL, "lost 120 USD today (limit)")
    operators.now += 3_601
    operators.events.breaker(breaker(is_open=True, time=3_602.0))
    assert len(await operators.titles()) == 3
    assert len({note.key for note, _ in operators.posted}) == 3


async def test_every_opening_of_a_breaker_is_told(operators: Operators) -> None:
    for second in range(3):
        operators.now += 2
        operators.events.breaker(breaker(is_open=True, time=2.0 * second))
        operators.events.breaker(breaker(is_open=True, time=2.0 * second + 0.5))
        operators.events.breaker(breaker(is_open=False, time=2.0 * second + 1))
    assert [title.split()[2] for title in await operators.titles()] == ["opened", "closed"] * 3
    assert len({note.key for note, _ in operators.posted}) == 6
    # they arrive in the order they came about
    assert len({note.subject for note, _ in operators.posted}) == 1


async def test_a_breaker_that_stands_open_over_a_restart_did_not_open_again(
    tmp_path: Path,
) -> None:
    first = Operators(tmp_path)
    opened = breaker(is_open=True, time=first.now)
    first.events.breaker(opened)
    await first.events.close()
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    with db:
        write_change(db, opened)
    db.close()
    again = Operators(tmp_path)
    again.now += 60
    again.events.breaker(breaker(is_open=True, time=again.now))
    again.events.breaker(breaker(is_open=False, time=again.now))
    again.events.breaker(breaker(is_open=True, time=again.now + 1))
    await again.events.close()
    told = [note.key for note, _ in again.posted]
    assert told[0] == first.posted[0][0].key
    assert len(set(told)) == 3


async def test_what_a_restarted_keeper_tells_again_has_the_same_key(tmp_path: Path) -> None:
    keys = []
    for life in range(2):
        (tmp_path / str(life)).mkdir()
        operators = Operators(tmp_path / str(life))
        operators.now += life * 60
        operators.events.breaker(breaker(is_open=True))
        await operators.events.close()
        keys += [note.key for note, _ in operators.posted]
    assert keys[0] == keys[1]


async def test_drift_and_little_gas_are_told(operators: Operators) -> None:
    drift = Fault(FaultKind.DRIFT, "20 of 40 values differ", 99)
    operators.events.fault("market/aave", drift)
    low = {"wallet": "0x1", "ether": 0.01}
    operators.events.observe(Event("ethereum", "wallet.low", low))
    operators.events.observe(Event("ethereum", "plan.submitted", {}))
    assert await operators.titles() == [
        "market/aave stopped on ethereum: drift",
        "the wallet is short of gas on ethereum",
    ]
    assert operators.posted[0][0].severity is Severity.CRITICAL
    assert operators.posted[1][0].text == "wallet 0x1, ether 0.01"


async def test_a_message_says_which_transaction_it_is_about(operators: Operators) -> None:
    plans, tx, wallet = Plans(), Hash(b"\x0a" * 32), Address(b"\x0b" * 20)
    first, second = plans.make(), plans.make()
    for plan in (first, first, second):
        receipt = Reverted(plan.id, tx, 7, 90_000, Wei(1), "ReceivedTooLittle")
        fields = {"plan": plan, "receipt": receipt}
        operators.events.observe(Event("ethereum", "plan.reverted", fields))
    for sender in (wallet, wallet, Address(b"\x0c" * 20)):
        fields = {"wallet": sender, "nonce": 12, "tx": tx}
        operators.events.observe(Event("ethereum", "nonce.foreign", fields))
    reverted, foreign = "a transaction reverted", "somebody else sent with this wallet"
    titles = [f"{reverted} on ethereum"] * 2 + [f"{foreign} on ethereum"] * 2
    assert await operators.titles() == titles
    told = [note for note, _ in operators.posted]
    assert told[0].text.startswith(f"plan {first.id}, items 1, ")
    assert told[0].text.endswith(f"block 7, tx 0x{tx.hex()}, gas 90000, reason ReceivedTooLittle")
    assert told[0].data["plan"] == first.id
    assert told[2].text == f"wallet 0x{wallet.hex()}, nonce 12, tx 0x{tx.hex()}"
    assert {note.data["event"] for note in told} == {"plan.reverted", "nonce.foreign"}
    assert len({note.key for note in told}) == 4


async def test_a_wallet_that_is_low_again_too_soon_is_told_of_when_its_time_is_over(
    operators: Operators,
) -> None:
    report: Any = object.__new__(Report)
    operators.events.observe(report)

    def observe(name: str, wallet: str, ether: float) -> None:
        fields = {"wallet": wallet, "ether": ether}
        operators.events.observe(Event("ethereum", name, fields))

    observe("wallet.low", "0x1", 0.04)
    observe("wallet.low", "0x2", 0.03)
    for wallet in ("0x1", "0x2"):
        observe("wallet.refilled", wallet, 1.0)
        observe("wallet.low", wallet, 0.02)
    observe("wallet.refilled", "0x2", 1.0)
    for seconds in (1_800, 1_700, 200, 12):
        operators.now += seconds
        operators.events.observe(report)
    await operators.events.close()
    low = [note for note, _ in operators.posted if note.data["event"] == "wallet.low"]
    assert [note.text for note in low] == [
        "wallet 0x1, ether 0.04",
        "wallet 0x2, ether 0.03",
        "wallet 0x1, ether 0.02",
    ]
    assert len({note.key for note in low}) == 3


@pytest.mark.parametrize("event", WORTH)
def test_an_event_worth_telling_is_one_the_keeper_has(event: str) -> None:
    assert f'"{event}"' in SOURCES


async def test_the_day_before_is_told_once(operators: Operators) -> None:
    report: Any = object.__new__(Report)
    for seconds in (0, 60, 3_600):
        operators.now += seconds
        operators.events.observe(report)
    assert await operators.titles() == ["2024-10-03 on ethereum: net 0.00 USD"]
    operators.now += 86_400
    operators.events.observe(report)
    assert len(await operators.titles()) == 2
    assert operators.posted[0][0].text == "0 transactions, 0 liquidated."
