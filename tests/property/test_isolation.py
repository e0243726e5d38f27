"""Strategies that do harm: each costs itself, and nothing else."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keeper.config import Settings, StrategyTable, load
from keeper.errors import ConfigError, PluginError, TransientError
from keeper.isolation import MISSES, Isolated, close_strategies, open_strategies
from keeper.strategist import Seat, Strategist
from keeper.types import Bid, Opportunity, Reason
from tests.chaos.test_strategy_process import PAIR, QUOTE, seen
from tests.fake_market import view
from tests.plugins import BID_LIES, GOOD, LIES, LIMIT_LIES, harmful, write

Make = Callable[..., Isolated]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Put strategies of these texts into processes, and end those."""
    made: list[Isolated] = []

    def isolated(text: str, **options: Any) -> Isolated:
        path = write(tmp_path, text, f"mine{len(made)}")
        table = StrategyTable.model_validate({"use": f"{path}:Mine", **options})
        made.append(Isolated("mine", table))
        made[-1].open("test")
        return made[-1]

    yield isolated
    for each in made:
        each.close()


def test_it_chooses_and_bids_as_it_would_in_the_process(make: Make) -> None:
    strategy = make(GOOD, minimum=5)
    now = seen()
    first, second = list(strategy.select(now))
    assert isinstance(first, Opportunity)
    assert isinstance(second, Opportunity)
    assert first.position is now.at_risk[0].position
    assert all(a is b for a, b in zip(first.pairs, now.at_risk[0].pairs, strict=True))
    assert strategy.limits(second, now).minimum_profit == 5
    for _ in range(2):  # the second time it holds the view
        bid = strategy.bid(QUOTE, now)
        assert isinstance(bid, Bid)
        assert bid.deadline == now.next_block.timestamp + 24


def test_it_sees_no_secret(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPER_PASSWORD", "correct horse")
    monkeypatch.setenv("RPC", "wss://node/key")
    strategy = make(harmful("select", "import os\nraise RuntimeError(sorted(os.environ))"))
    with pytest.raises(PluginError) as caught:
        strategy.select(seen())
    assert "PATH" in str(caught.value)
    assert "KEEPER" not in str(caught.value)
    assert "RPC" not in str(caught.value)


TWO = """
risk = view.at_risk[0]
return [Opportunity(risk.position, (pair,), risk.cause) for pair in risk.pairs]"""


async def test_limits_stand_with_the_choice_they_were_set_for(make: Make) -> None:
    text = harmful("select", TWO).replace(
        "        return Limits(Usd(self.config.minimum))\n",
        "        some = opportunity.pairs[0].debt.symbol == 'USDC'\n"
        "        return Limits(Usd(1), largest_repay=Usd(5_000) if some else None)\n",
    )
    bare, alone = made(text), make(text)
    expected = [("USDC", 5_000), ("DAI", None)]
    for strategy in (bare, alone):
        strategist = Strategist([Seat("two", strategy)], lambda error: pytest.fail(str(error)))
        choices, _ = await strategist.select(seen())
        strategist.close()
        assert [
            (choice.opportunity.pairs[0].debt.symbol, choice.limits.largest_repay)
            for choice in choices
        ] == expected
    now = seen()
    both = [each for each in alone.select(now) if isinstance(each, Opportunity)]
    assert [alone.limits(each, now).largest_repay for each in both] == [5_000, None]


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("select", "raise ZeroDivisionError('one by none')"),
        ("select", "raise SystemExit(1)"),
        ("limits", "raise KeyboardInterrupt"),
        ("bid", "raise RecursionError"),
    ],
)
async def test_what_raises_is_switched_off_and_the_other_goes_on(
    make: Make, where: str, code: str
) -> None:
    await assert_harmless(make(harmful(where, code)), made(GOOD), disabled=True)


@pytest.mark.parametrize(
    ("where", "lies"), [("select", LIES), ("limits", LIMIT_LIES), ("bid", BID_LIES)]
)
async def test_who_lies_is_switched_off_and_the_other_goes_on(
    make: Make, where: str, lies: dict[str, str]
) -> None:
    name, code = next(iter(lies.items()))
    print(name)
    await assert_harmless(make(harmful(where, code)), made(GOOD), disabled=True)


@pytest.mark.parametrize(
    ("where", "lies"), [("select", LIES), ("limits", LIMIT_LIES), ("bid", BID_LIES)]
)
async def test_a_lie_is_found_out_in_the_keeper_s_own_process_too(
    where: str, lies: dict[str, str]
) -> None:
    good = made(GOOD)
    for name, code in lies.items():
        print(name)
        await assert_harmless(made(harmful(where, code)), good, disabled=True)


def made(text: str) -> Any:
    names: dict[str, Any] = {"__name__": "mine"}
    exec(text, names)
    return names["Mine"](names["Mine"].Config())


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("select", "while True: pass"),
        ("bid", "while True: pass"),
        # in C, and it keeps the interpreter's lock
        ("select", "import re\nre.fullmatch('(a+)+b', 'a' * 64)"),
        ("limits", "import time\ntime.sleep(3600)"),
        ("select", "import os\nos._exit(0)"),
        ("bid", "import os\nos._exit(9)"),
        ("select", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"),
    ],
)
async def test_what_hangs_or_dies_costs_its_heads_and_the_other_goes_on(
    make: Make, where: str, code: str
) -> None:
    bad = make(harmful(where, code))
    await assert_harmless(bad, made(GOOD), disabled=False)


async def assert_harmless(bad: Any, good: Any, *, disabled: bool) -> None:
    """Ask two strategies for two heads; assert that the good one is heard both times, in time."""
    faults: list[PluginError] = []
    strategist = Strategist([Seat("bad", bad), Seat("good", good)], faults.append)
    now = replace(seen(), deadline_ms=1500)
    for _ in range(2):
        started = time.monotonic()
        choices, skips = await strategist.select(now)
        chosen = [c for c in choices if c.opportunity.strategy == "good"]
        assert len(chosen) == len(now.at_risk), faults
        quotes = [
            replace(QUOTE, opportunity=replace(choice.opportunity, pairs=(PAIR,)))
            for choice in choices
        ]
        mine = [q for q in quotes if q.opportunity.strategy == "good"]
        theirs = [q for q in quotes if q.opportunity.strategy == "bad"]
        bids, _ = await strategist.bid(mine, now)
        assert len(bids) == len(mine)
        more, late = await strategist.bid(theirs, now)
        assert more == []
        silent = {skip.reason for skip in (*skips, *late) if skip.strategy == "bad"}
        assert silent <= {Reason.TIMEOUT}
        assert time.monotonic() - started < 6
    assert ("bad" not in strategist.enabled) is disabled
    assert bool(faults) is disabled
    strategist.close()


def test_what_hangs_is_ended_and_started_again(make: Make) -> None:
    strategy = make(harmful("select", "while True: pass"))
    child = strategy._children["test"]
    pid = child.pid
    for _ in range(MISSES):
        with pytest.raises(TransientError):
            strategy.select(replace(seen(), deadline_ms=50))
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)
    child._again = 0
    assert child.open()
    assert child.pid not in {None, pid}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit('no')", "does not load"),
        ("import os\nos._exit(3)", "exit code 3"),
        (GOOD.replace("minimum: int", "other: int"), "minimum"),
        ("class Mine: pass", "no method"),
    ],
)
def test_one_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, text: str, why: str
) -> None:
    write(tmp_path, text)
    path = tmp_path / "keeper.toml"
    path.write_text(
        "[strategies.mine]\nuse = './mine.py:Mine'\nminimum = 3\n"
        "[chains.x]\nchain_id = 1\nendpoints = ['http://localhost:1']\n"
    )
    loaded = load([path], env={})
    with pytest.raises(ConfigError, match=why) as caught:
        open_strategies(loaded.settings, loaded.origins.blame)
    assert "\n" not in str(caught.value)
    assert "strategies.mine" in str(caught.value)


def test_what_is_shipped_stays_in_the_process() -> None:
    opened = open_strategies(Settings())
    assert [type(each.strategy).__name__ for each in opened] == ["Profitability"]
    close_strategies(opened)
    assert list(opened[0].strategy.select(view())) == []
