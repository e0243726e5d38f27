"""SIGHUP: other strategies from the next head on, or the old ones and one line."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.strategies import Strategies, changed_keys
from keeper.config import load
from keeper.metrics import ChainLabels, Metrics
from keeper.strategist import Strategist
from keeper.supervisor import supervise
from tests.chaos.test_strategy_process import seen
from tests.fake_node import FakeClock

CHAIN = "[chains.test]\nchain_id = 1\nendpoints = ['http://user:secret@localhost:1/key']\n"


class Bench:
    """A keeper's strategies and one chain that asks them, on a configuration that can be edited."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keeper.toml"
        self.write()
        settings = load([self.path], env={}).settings
        self.metrics = Metrics(
            version="1",
            commit="",
            mode="live",
            chains={"test": ChainLabels(block_time=12, protocols=["aave-v3"])},
            strategies=[],
        )
        self.lines: dict[str, Any] = {}
        self.made = Strategies(settings, self.lines, FakeClock(), lambda: load([self.path], env={}))
        self.made.show(self.metrics)

    async def open(self) -> None:
        """Load the strategies, and let a chain ask them."""
        await self.made.open()
        strategist = Strategist([], lambda error: pytest.fail(str(error)))
        self.lines["test"] = SimpleNamespace(
            strategist=strategist, book=SimpleNamespace(markets={})
        )
        self.made.seat("test")

    def write(self, minimum: str = "1", more: str = "") -> None:
        """Write the configuration."""
        self.path.write_text(
            f"[strategies.a]\nuse = 'profitability'\nmin_profit_usd = {minimum}\n{CHAIN}{more}"
        )

    async def minimum(self) -> list[int]:
        """Ask for one head; return the least profit of each choice."""
        choices, _ = await self.lines["test"].strategist.select(seen())
        return [choice.limits.minimum_profit for choice in choices]

    def value(self, name: str) -> float | None:
        """Return a metric."""
        return self.metrics.registry.get_sample_value(name)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Open the strategies of a configuration."""
    made = Bench(tmp_path)
    await made.open()
    yield made
    await made.made.close()
    made.lines["test"].strategist.close()


async def test_a_parameter_holds_from_the_next_head_on(bench: Bench) -> None:
    assert set(await bench.minimum()) == {10**8}
    bench.write(minimum="7")
    with capture_logs() as logs:
        await bench.made.reload()
    assert [each["event"] for each in logs] == ["strategies.reloaded"]
    assert bench.lines["test"].strategist.is_exchanging
    assert set(await bench.minimum()) == {7 * 10**8}
    assert not bench.lines["test"].strategist.is_exchanging
    assert bench.made.as_json()["generation"] == 2
    assert bench.value("keeper_strategies_generation") == 2
    assert bench.value("keeper_strategies_reload_failed") == 0


@pytest.mark.parametrize(
    ("minimum", "why"),
    [
        ("-1", "min_profit_usd"),
        ("'much'", "min_profit_usd"),
        ("1\nuse2 = 1", "use2"),
        ("= 1", "keeper.toml"),
        ("1\n[strategies.b]\nuse = 'profitabilty'", "did you mean profitability"),
        ("1\n[strategies.b]\nuse = './none.py:None'", "no such file"),
        ("1\n[strategies.b]\nuse = './ends.py:Ends'", "exit code 5"),
    ],
)
async def test_an_invalid_file_keeps_the_old_settings_and_says_why_in_one_line(
    bench: Bench, minimum: str, why: str
) -> None:
    ends = bench.path.parent / "ends.py"
    ends.write_text("import os\nos._exit(5)\n")
    ends.chmod(0o644)
    bench.write(minimum)
    with capture_logs() as logs:
        await bench.made.reload()
    failed = [each for each in logs if each["event"] == "strategies.not_reloaded"]
    assert len(failed) == 1
    assert why in failed[0]["why"]
    assert "\n" not in failed[0]["why"]
    assert set(await bench.minimum()) == {10**8}
    assert why in bench.made.as_json()["not_reloaded"]
    assert bench.value("keeper_strategies_reload_failed") == 1
    assert bench.value("keeper_strategies_generation") == 1
    bench.write()
    await bench.made.reload()
    assert bench.made.as_json()["not_reloaded"] is None
    assert bench.value("keeper_strategies_reload_failed") == 0


async def test_other_settings_need_a_restart_and_are_named_without_their_values(
    bench: Bench,
) -> None:
    bench.write(minimum="2", more="[http]\nport = 1\n[limits]\nminimum_profit_usd = 9\n")
    with capture_logs() as logs:
        await bench.made.reload()
    told = [each for each in logs if each["event"] == "settings.need_restart"]
    assert [each["settings"] for each in told] == [["http.port", "limits.minimum_profit_usd"]]
    settings = load([bench.path], env={}).settings
    assert changed_keys(settings, load([bench.path], env={}).settings) == []
    bench.path.write_text(bench.path.read_text().replace("secret@localhost", "secret@elsewhere"))
    changed = changed_keys(settings, load([bench.path], env={}).settings)
    assert len(changed) == 1
    assert changed[0].startswith("chains.test.endpoints")
    assert "secret" not in changed[0]


async def test_a_head_ends_with_the_strategies_it_began_with(bench: Bench) -> None:
    strategist = bench.lines["test"].strategist
    assert await bench.minimum()
    bench.path.write_text(f"[strategies.b]\nuse = 'full_close'\n{CHAIN}")
    await bench.made.reload()
    assert strategist.enabled == ("a",)
    choices, _ = await strategist.select(seen())
    assert strategist.enabled == ("b",)
    assert {choice.opportunity.strategy for choice in choices} <= {"b"}


async def test_the_signal_reloads_and_the_keeper_goes_on(bench: Bench) -> None:
    stop = asyncio.Event()
    bench.write(minimum="3")

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        while bench.made.generation < 2:  # noqa: ASYNC110 - nothing to wait for but the state
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.Event().wait()

    async def drain() -> None:
        pass

    signals = {signal.SIGHUP: bench.made.request}
    async with asyncio.timeout(20):
        assert await supervise(work, drain, stop=stop, signals=signals) == 0
    assert set(await bench.minimum()) == {3 * 10**8}
