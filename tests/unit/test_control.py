"""The kill switch: what an operator says reaches the breakers, the record and the screens."""

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app import breakers as breakers_module
from keeper.app.breakers import BreakerWatch, make_limits, make_lists
from keeper.app.control import NAME, ControlSocket
from keeper.app.desk import Desk
from keeper.app.unopened import Unopened
from keeper.cli.control import ask
from keeper.config import Settings
from keeper.errors import ConfigError, TransientError
from keeper.journal.breakers import BreakerChange
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import BREAKERS, ChainLabels, Metrics
from keeper.risk import Risk
from keeper.supervisor import supervise
from keeper.types import Reason
from tests.fake_node import FakeClock
from tests.plans import USDC, WETH, Plans


class Bench:
    """One chain's breakers with a journal on disk, and the desk over them."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.clock = FakeClock()
        self.path = home / "journal.sqlite"
        self.journal = SqliteJournal(self.path, self.clock, 90, lambda _: None)
        self.metrics = Metrics(
            version="1",
            commit="",
            mode="live",
            chains={"x": ChainLabels(block_time=12, protocols=["aave-v3"])},
            strategies=[],
        )
        self.watch = BreakerWatch("x", self.journal, self.metrics)
        self.risk = Risk("x", make_limits(settings, 12), self.clock, tell=self.watch.tell)
        self.lines: dict[str, Any] = {"x": SimpleNamespace(risk=self.risk, breakers=self.watch)}
        self.desk = self.make_desk(["x"], self.lines)

    def make_desk(self, chains: list[str], lines: dict[str, Any]) -> Desk:
        """Return a desk over some of the chains' lines and the journal."""
        told = JournalReader(self.path).breakers
        risk = lambda name: lines[name].risk if name in lines else None  # noqa: E731
        return Desk(chains, lines, Unopened(self.journal, told, self.clock, risk))

    def gauge(self, breaker: str) -> float | None:
        """Return what the metrics show of a breaker."""
        labels = {"chain": "x", "breaker": breaker}
        return self.metrics.registry.get_sample_value("keeper_breaker_open", labels)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Open a journal in an empty home."""
    made = Bench(tmp_path, Settings.model_validate({"journal": {"home": tmp_path}}))
    made.journal.open()
    yield made
    await made.watch.flush()
    made.journal.close()


async def told(home: Path, **asked: object) -> dict[str, Any]:
    """Ask as the command line does, which blocks."""
    return await asyncio.to_thread(ask, home / NAME, asked)


async def test_pause_and_resume_over_the_socket(bench: Bench, tmp_path: Path) -> None:
    plan = Plans().make()
    with capture_logs() as logs:
        async with ControlSocket(tmp_path, bench.desk.command):
            assert (await told(tmp_path, command="pause"))["text"] == "paused: x"
            skip = bench.risk.admit(plan)
            assert skip is not None
            assert (skip.reason, skip.detail) == (
                Reason.BREAKER,
                "operator_pause: by keeper pause",
            )
            assert bench.gauge("operator_pause") == 1
            (change,) = JournalReader(bench.path).breakers()
            assert (change.name, change.is_open, change.cause) == (
                "operator_pause",
                True,
                "keeper pause",
            )
            answer = await told(tmp_path, command="resume")
            assert answer["text"] == "resumed: x (operator_pause)"
            assert bench.gauge("operator_pause") == 0
            assert (await told(tmp_path, command="resume"))["text"] == "nothing was paused"
            (tmp_path / "KILL").touch()
            answer = await told(tmp_path, command="resume")
            assert answer["text"] == "nothing was paused; still open: x kill_file"
    events = [(entry["event"], entry["breaker"]) for entry in logs]
    assert events == [
        ("breaker.opened", "operator_pause"),
        ("breaker.closed", "operator_pause"),
        ("breaker.opened", "kill_file"),
    ]


async def test_a_chain_still_loading_is_paused_once_it_is_there(bench: Bench) -> None:
    lines: dict[str, Any] = {}
    desk = bench.make_desk(["x", "y"], lines)
    assert (await desk.command({"command": "pause", "chain": "x"}))["text"] == "paused: x"
    (change,) = JournalReader(bench.path).breakers()
    assert (change.chain, change.name, change.is_open) == ("x", "operator_pause", True)
    lines["x"] = SimpleNamespace(risk=bench.risk, breakers=bench.watch)
    desk.opened("x")
    assert bench.risk.breakers()["operator_pause"]
    desk.pause("SIGUSR1", ["y"])
    answer = await desk.command({"command": "resume"})
    assert answer["text"] == "resumed: x (operator_pause), y (operator_pause)"
    assert not any(change.is_open for change in JournalReader(bench.path).breakers())
    other = Risk("y", make_limits(Settings(), 12), bench.clock)
    lines["y"] = SimpleNamespace(risk=other, breakers=bench.watch)
    desk.opened("y")
    assert not other.breakers()["operator_pause"]


@pytest.mark.parametrize("early", [True, False])
async def test_what_stands_in_the_journal_is_resumed_while_a_chain_loads(
    bench: Bench, early: bool
) -> None:
    bench.risk.pause("keeper pause")
    bench.risk.trip("signer", "it signs something else")
    await bench.watch.flush()
    told = JournalReader(bench.path).breakers
    lines: dict[str, Any] = {}
    desk = bench.make_desk(["x"], lines)
    risk = Risk("x", make_limits(Settings(), 12), bench.clock)
    if early:  # the chain reads the journal before that is said
        risk.restore((), (), told())
    answer = await desk.command({"command": "resume"})
    assert answer["text"] == "resumed: x (operator_pause, signer)"
    if not early:
        risk.restore((), (), told())
    lines["x"] = SimpleNamespace(risk=risk, breakers=bench.watch)
    desk.opened("x")
    assert not any(risk.breakers().values())
    assert (await desk.command({"command": "resume"}))["text"] == "nothing was paused"


@pytest.mark.parametrize("opens", [False, True])
async def test_a_pause_that_comes_while_a_resume_is_written_holds(
    bench: Bench, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.risk.pause("keeper pause")
    await bench.watch.flush()
    told, write = JournalReader(bench.path).breakers, bench.journal.breaker
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(change: BreakerChange) -> None:
        writing.set()
        await go_on.wait()
        await write(change)

    lines: dict[str, Any] = {}
    desk = bench.make_desk(["x"], lines)
    risk = Risk("x", make_limits(Settings(), 12), bench.clock)
    risk.restore((), (), told())
    monkeypatch.setattr(bench.journal, "breaker", slowly)
    resuming = asyncio.ensure_future(desk.command({"command": "resume"}))
    await writing.wait()
    if opens:
        lines["x"] = SimpleNamespace(risk=risk, breakers=bench.watch)
        desk.opened("x")
    pausing = asyncio.ensure_future(desk.command({"command": "pause"}))
    await asyncio.sleep(0)
    go_on.set()
    assert (await resuming)["text"].startswith("nothing was paused")
    assert (await pausing)["text"] == "paused: x"
    if not opens:
        lines["x"] = SimpleNamespace(risk=risk, breakers=bench.watch)
        desk.opened("x")
    assert risk.breakers()["operator_pause"]
    assert [change.is_open for change in told()] == [True]


async def test_the_socket_is_its_user_s_alone_and_outlives_a_kill(
    bench: Bench, tmp_path: Path
) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / NAME))
    stale.close()
    async with ControlSocket(tmp_path, bench.desk.command):
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
        assert stat.S_ISSOCK((tmp_path / NAME).stat().st_mode)
        assert (await told(tmp_path, command="stop"))["text"].startswith("stopping")
        assert bench.desk.stopping.is_set()
    assert not (tmp_path / NAME).exists()
    with pytest.raises(TransientError, match="no keeper answers at"):
        await told(tmp_path, command="pause")


async def test_a_home_of_any_length_has_its_socket(bench: Bench, tmp_path: Path) -> None:
    home = tmp_path / ("a" * 100) / ("b" * 100)
    home.mkdir(parents=True)
    async with ControlSocket(home, bench.desk.command):
        assert (await told(home, command="pause"))["text"] == "paused: x"


async def test_another_user_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.app.control._peer", lambda _: 4_242)
    async with ControlSocket(tmp_path, bench.desk.command):
        assert "another user's" in (await told(tmp_path, command="pause"))["error"]
    assert not bench.risk.breakers()["operator_pause"]


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"{}\n", b"x" * 9_000, b'{"command": 1}\n'])
async def test_nonsense_on_the_socket_does_nothing(
    bench: Bench, tmp_path: Path, line: bytes
) -> None:
    async with ControlSocket(tmp_path, bench.desk.command):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / NAME))
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        assert not answer or "error" in json.loads(answer)
        assert (await told(tmp_path, command="resume", chain="z"))["error"] == (
            "no chain is named 'z'"
        )
    assert not any(bench.risk.breakers().values())


async def test_breakers_nobody_asks_about_are_looked_at(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers_module, "EVERY", 0.01)
    async with AsyncExitStack() as stack:
        bench.watch.start(bench.risk, stack)
        (tmp_path / "KILL").touch()
        async with asyncio.timeout(5):
            while bench.gauge("kill_file") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [change.name for change in JournalReader(bench.path).breakers()] == ["kill_file"]


async def test_signals_pause_and_resume(bench: Bench) -> None:
    desk, seen = bench.desk, []

    async def work() -> None:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
            seen.append(bench.risk.breakers()["operator_pause"])
        desk.stopping.set()
        await asyncio.Event().wait()

    async def drain() -> None:
        seen.append(True)

    signals = {
        signal.SIGUSR1: lambda: desk.pause("SIGUSR1"),
        signal.SIGUSR2: lambda: desk.resume("SIGUSR2"),
    }
    async with asyncio.timeout(5):
        assert await supervise(work, drain, stop=desk.stopping, signals=signals) == 0
    assert seen == [True, False, True]


def test_settings_become_limits() -> None:
    limits = make_limits(Settings(), 12)
    assert limits.stale_seconds == 36.0
    assert limits.reset_seconds is None
    assert (limits.loss_per_day, limits.revert_rate, limits.estimate_band) == (
        100 * 10**8,
        5_000,
        5_000,
    )
    given = Settings.model_validate({"breakers": {"reset": 30}, "limits": {"kill_file": "/k"}})
    assert make_limits(given, 2).reset_seconds == 1_800.0
    assert make_limits(given, 2).stale_seconds == 6.0
    assert make_limits(given, 1).stale_seconds == 6.0, "heads' times are whole seconds"
    assert (
        make_limits(
            Settings.model_validate({"breakers": {"stale_head_blocks": 9}}), 1
        ).stale_seconds
        == 9.0
    )


def test_lists_are_resolved_on_the_chain_s_tokens() -> None:
    tokens = {token.address: token for token in (USDC, WETH)}
    market = {"protocol": "aave-v3", "pool": "0x" + "11" * 20}
    table = {"chain_id": 1, "endpoints": ["ws://a"], "markets": {"m": market}}

    def lists(**more: object) -> Any:
        settings = Settings.model_validate({"chains": {"x": {**table, **more}}})
        return make_lists("x", settings.chains["x"], tokens)

    assert lists().refusal("aave-v3", WETH, USDC) == ""
    denying = lists(deny={"tokens": ["WETH"]})
    assert denying.refusal("aave-v3", WETH, USDC) == "token WETH is not allowed here"
    allowing = lists(allow={"tokens": ["USDC", "WETH"], "protocols": ["aave-v3"]})
    assert allowing.refusal("aave-v3", WETH, USDC) == ""
    with pytest.raises(ConfigError) as caught:
        lists(allow={"tokens": ["WETTH"]})
    assert str(caught.value) == (
        "chains.x.allow.tokens: no market here has a token WETTH → did you mean WETH?"
    )


def test_every_breaker_has_a_gauge(tmp_path: Path) -> None:
    made = Bench(tmp_path, Settings.model_validate({"journal": {"home": tmp_path}}))
    assert {name: made.gauge(name) for name in BREAKERS} == dict.fromkeys(BREAKERS, 0.0)
    assert set(made.risk.breakers()) == set(BREAKERS)
