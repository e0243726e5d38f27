"""The blocks of strategies/README.md run as they stand."""

import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from keeper import BPS, USD, AtRisk, Bid, Cause, Opportunity, Reason, Skip
from strategies.process import Process
from tests.fake_market import GWEI, USDC, WETH, FakeTerms, borrower, position, token, view

TEXT = (Path(__file__).parents[2] / "strategies" / "README.md").read_text(encoding="utf-8")
ALL = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
BLOCKS = [block for block in ALL if not block.startswith("# program.py")]
(PROGRAM,) = (block for block in ALL if block.startswith("# program.py"))
PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)


def names() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, made)
    return made


def test_every_block_runs() -> None:
    assert len(BLOCKS) == 2
    assert {"Patient", "bonus_value"} <= names().keys()


def test_the_example_chooses_and_bids() -> None:
    patient = names()["Patient"]
    settings = tomllib.loads(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0])
    table = settings["strategies"]["patient"]
    assert table.pop("use") == "./patient.py:Patient"
    strategy = patient(patient.Config(**table))
    refusal = Skip("market", "aave-v3", borrower(2), Reason.PAUSED)
    seen = view(
        AtRisk(position(1, PAIR), (PAIR,), (), Cause.PRICE),
        AtRisk(position(2), (), (refusal,), Cause.PRICE),
    )
    chosen, refused = list(strategy.select(seen))
    assert isinstance(chosen, Opportunity)
    assert refused is refusal
    assert strategy.limits(chosen, seen).minimum_profit == 40 * USD
    with pytest.raises(ValidationError):
        patient.Config(min_profit_usd=0)


def test_the_example_waits_for_a_calmer_block() -> None:
    from tests.unit.test_strategy_profitability import make_quote

    patient = names()["Patient"]
    strategy = patient(patient.Config())
    quote = make_quote(net=100 * 10**6)
    calm, busy = view(), view(base_fee=60 * GWEI)
    bid = strategy.bid(quote, calm)
    assert bid.max_fee == 2 * calm.next_block.base_fee + GWEI
    assert bid.deadline == calm.next_block.timestamp + 12
    assert strategy.bid(quote, busy).reason is Reason.UNPROFITABLE


def test_the_example_values_a_bonus() -> None:
    assert names()["bonus_value"](PAIR, USD) == 10_000 * USD * (PAIR.bonus - BPS) // BPS
    cheap = FakeTerms(WETH, token(9, "GUSD", 2), 10_000_00)
    assert names()["bonus_value"](cheap, USD) == 500 * USD


def test_the_example_program_chooses_and_bids(tmp_path: Path) -> None:
    from tests.chaos.test_strategy_process import QUOTE, seen

    assert len(PROGRAM.splitlines()) <= 30
    settings = tomllib.loads(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1])
    table = settings["strategies"]["other"]
    assert (table["use"], table["command"][1]) == ("process", "./program.py")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    strategy = Process(Process.Config(command=(sys.executable, str(path))))
    strategy.open("test")
    now = seen()
    refused = replace(now.at_risk[1], pairs=())
    now = replace(now, at_risk=(now.at_risk[0], refused))
    chosen, skip = strategy.select(now)
    assert isinstance(chosen, Opportunity)
    assert strategy.limits(chosen, now).minimum_profit == 5 * USD
    assert isinstance(skip, Skip)
    bid = strategy.bid(QUOTE, now)
    assert isinstance(bid, Bid)
    assert bid.max_fee == 2 * now.next_block.base_fee + GWEI // 10
    strategy.close()
