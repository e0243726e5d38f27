"""Programs that decide: what is said, what is answered, and every way they can fail."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from keeper import (
    PLUGIN_API,
    USD,
    AtRisk,
    Bid,
    Cause,
    Child,
    ConfigError,
    Opportunity,
    Reason,
    Skip,
    Step,
    TransientError,
)
from keeper.child import MISSES
from keeper.plugins import schema
from strategies.process import Process, decode, encode
from tests.fake_market import DAI, USDC, WETH, FakeTerms, position, view
from tests.unit.test_strategy_profitability import make_quote

PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)
OTHER = FakeTerms(WETH, DAI, 500 * 10**18)
QUOTE = replace(make_quote(100), steps=(Step(PAIR, 10**9, PAIR.seize(10**9)),))
HEAD = """
import json, os, sys, time
def say(request, **fields):
    print(json.dumps({"id": request["id"], **fields}), flush=True)
def requests():
    for line in sys.stdin:
        yield json.loads(line)
"""
READY = 'say(request, api=request["api"], extra="unknown")\n'


def loop(select: str, bid: str = 'say(request, refuse={"reason": "denied"})') -> str:
    """Return a program that does this on each kind of request."""
    return f"""{HEAD}
for request in requests():
    if request["type"] == "hello":
        {READY}
    elif request["type"] == "select":
        {select}
    else:
        {bid}
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Make strategies of the texts of programs, and end them."""
    made: list[Process] = []

    def make(text: str, **options: Any) -> Process:
        path = tmp_path / f"program{len(made)}.py"
        path.write_text(text)
        config = Process.Config(command=(sys.executable, "-S", str(path)), **options)
        made.append(Process(config))
        return made[-1]

    yield make
    for each in made:
        each.close()


def seen(deadline_ms: int = 4_000) -> Any:
    """Return two positions, the first with two pairs."""
    risks = (
        AtRisk(position(1, PAIR, OTHER), (PAIR, OTHER), (), Cause.PRICE),
        AtRisk(position(2, PAIR), (PAIR,), (), Cause.INTEREST),
    )
    made = view(*risks)
    return replace(made, deadline_ms=deadline_ms)


def pid_of(strategy: Process) -> int | None:
    return strategy._children["test"].pid


def test_it_takes_refuses_and_bids(program: Callable[..., Process]) -> None:
    strategy = program(
        loop(
            """say(request, take=[{"index": 0, "pairs": [1], "minimum_profit": "500000000",
                "largest_repay": None, "venues": ["uniswap"], "later": 1}],
                refuse=[{"index": 1, "reason": "unprofitable", "detail": "small"}])""",
            """say(request, bid={"priority_fee": "7", "max_fee": str(10**20),
                "deadline": request["market"]["next_block"]["timestamp"] + 9, "tip": "0"})""",
        )
    )
    strategy.open("test")
    now = seen()
    taken, refused = list(strategy.select(now))
    assert isinstance(taken, Opportunity)
    assert taken.position is now.at_risk[0].position
    assert taken.pairs == (OTHER,)
    limits = strategy.limits(taken, now)
    assert (limits.minimum_profit, limits.venues) == (5 * USD, frozenset({"uniswap"}))
    assert isinstance(refused, Skip)
    assert (refused.reason, refused.detail) == (Reason.UNPROFITABLE, "small")
    bid = strategy.bid(QUOTE, now)
    assert isinstance(bid, Bid)
    assert bid == Bid(7, 10**20, now.next_block.timestamp + 9, 0)  # type: ignore[arg-type]


def test_what_is_said_fits_the_schema(program: Callable[..., Process], tmp_path: Path) -> None:
    out = tmp_path / "said"
    record = f"open({str(out)!r}, 'a').write(json.dumps(request) + chr(10))"
    strategy = program(
        f"{HEAD}\nfor request in requests():\n    {record}\n"
        '    say(request, api=1, take=[], bid={"priority_fee": 1, "max_fee": 2, "deadline": 3})\n'
    )
    assert list(strategy.select(seen())) == []
    strategy.bid(QUOTE, seen())
    known = schema()
    for line, kind in zip(out.read_text().splitlines(), ("Hello", "Select", "Offer"), strict=True):
        said = json.loads(line)
        assert_fits(said, known["$defs"][kind], known["$defs"])
        said.pop("id")
        with pytest.raises(AssertionError):
            assert_fits(said, known["$defs"][kind], known["$defs"])
    hello, select, _ = map(json.loads, out.read_text().splitlines())
    assert hello["api"] == PLUGIN_API
    assert (hello["chain"], hello["id"], select["id"]) == ("test", 1, 2)
    pair = select["at_risk"][0]["pairs"][0]
    assert pair["maximum"] == str(PAIR.maximum)
    assert pair["bonus"] == PAIR.bonus
    assert select["deadline_ms"] == 3_400
    json.dumps(known)


def assert_fits(value: Any, shape: Any, known: Any) -> None:
    """Assert that a value is as a schema says: the part of JSON Schema that is used."""
    if "$ref" in shape:
        shape = known[shape["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in shape:
        kinds = [each.get("type") for each in shape["anyOf"]]
        assert "null" in kinds
        (other,) = (each for each in shape["anyOf"] if each.get("type") != "null")
        if value is not None:
            assert_fits(value, other, known)
        return
    if "enum" in shape or "const" in shape:
        assert value in shape.get("enum", [shape.get("const")])
        return
    types: dict[str, type] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
    }
    kind = type(value)
    assert kind is types[shape["type"]], (value, shape)
    for name in shape.get("required", ()):
        assert name in value
    for name, below in shape.get("properties", {}).items():
        if name in value:
            assert_fits(value[name], below, known)
    for each in value if shape["type"] == "array" else ():
        assert_fits(each, shape["items"], known)
    for each in value.values() if "additionalProperties" in shape else ():
        assert_fits(each, shape["additionalProperties"], known)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (loop("os._exit(7)"), "exit code 7"),
        (loop("1 / 0"), "ZeroDivisionError"),
        (loop("print('garbage', flush=True)"), "no answer: 'garbage'"),
        (loop("print('[1]', flush=True)"), "no answer"),
        (loop("print('x' * (17 << 20), flush=True)"), "more than a line"),
        (loop("say({'id': request['id'] + 1})"), "no answer"),
        (loop('say(request, take=[{"index": 9, "minimum_profit": 1}])'), "makes no sense"),
        (loop('say(request, take=[{"index": -1, "minimum_profit": 1}])'), "makes no sense"),
        (loop('say(request, take=[{"index": 0, "minimum_profit": -1}])'), "makes no sense"),
        (loop('say(request, take=[{"index": 0, "minimum_profit": 1.5}])'), "makes no sense"),
        (loop('say(request, take=[{"index": 0}])'), "has no minimum_profit"),
        (loop('say(request, take="all")'), "take is no list"),
        (loop('say(request, refuse=[{"index": 0, "reason": "mood"}])'), "reason is none of"),
        (loop('say(request, refuse=[{"index": 0, "reason": []}])'), "reason is none of"),
        (loop('say(request, take=[{"index": 0, "minimum_profit": 1, "calls": 5}])'), "calls of"),
        (loop("os.close(1)"), "closed its output"),
    ],
)
def test_a_fault_costs_the_head_and_it_is_started_again(
    program: Callable[..., Process], text: str, why: str
) -> None:
    strategy = program(text)
    strategy.open("test")
    first = pid_of(strategy)
    with capture_logs() as logs, pytest.raises(TransientError, match=why):
        strategy.select(seen())
    assert [each["event"] for each in logs] == ["strategy.child_failed"]
    child = strategy._children["test"]
    assert child.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(first or 0, 0)
    with pytest.raises(TransientError):  # it pauses
        strategy.select(seen())
    child._again = 0
    with capture_logs() as logs, pytest.raises(TransientError, match=why):
        strategy.select(seen())
    assert logs == []  # told once
    assert child._pause == 4 * child._first_pause


@pytest.mark.parametrize("stuck", ["while True: pass", "time.sleep(60)"])
def test_a_hung_program_costs_a_deadline_and_is_ended(
    program: Callable[..., Process], stuck: str
) -> None:
    strategy = program(loop(stuck))
    strategy.open("test")
    for _ in range(MISSES):
        assert pid_of(strategy) is not None
        started = time.monotonic()
        with pytest.raises(TransientError, match="no answer within"):
            strategy.select(seen(60))
        assert time.monotonic() - started < 2
    assert pid_of(strategy) is None


def test_a_late_answer_is_dropped(program: Callable[..., Process]) -> None:
    strategy = program(
        loop(
            "time.sleep(0.4 if request['id'] == 2 else 0);"
            " say(request, refuse=[{'index': 0, 'reason': 'dust', 'detail': str(request['id'])}])"
        )
    )
    strategy.open("test")
    with pytest.raises(TransientError):
        strategy.select(seen(100))
    (skip,) = strategy.select(seen())
    assert isinstance(skip, Skip)
    assert skip.detail == "3"


def test_one_that_does_not_read_holds_up_nobody(program: Callable[..., Process]) -> None:
    strategy = program(f"{HEAD}\nrequest = next(requests())\n{READY}\ntime.sleep(60)")
    strategy.open("test")
    big = view(*(seen().at_risk * 200))
    for _ in range(MISSES):
        with pytest.raises(TransientError):
            strategy.select(replace(big, deadline_ms=60))
    assert pid_of(strategy) is None


def test_the_environment_holds_no_secrets(
    program: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEPER_PASSWORD", "KEEPER_CHAINS__X__ENDPOINTS", "RPC_URL", "MODEL"):
        monkeypatch.setenv(name, f"value of {name}")
    strategy = program(
        loop(
            "say(request, refuse=[{'index': 0, 'reason': 'dust', 'detail': str(dict(os.environ))}])"
        ),
        environment=["MODEL"],
    )
    (skip,) = strategy.select(seen())
    assert isinstance(skip, Skip)
    held = skip.detail
    assert "KEEPER" not in held
    assert "RPC_URL" not in held
    child = strategy._children["test"]
    assert child._environment["MODEL"] == "value of MODEL"
    assert not {name for name in child._environment if name.startswith(("KEEPER_", "RPC"))}
    with pytest.raises(ValidationError, match="the keeper's own"):
        Process.Config(command=("x",), environment=("KEEPER_PASSWORD",))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/no/such/program",), "cannot be started"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "exit code 3"),
        ((sys.executable, "-S", "-c", HEAD + "say(next(requests()), api=99)"), "API 99"),
    ],
)
def test_one_that_does_not_start_is_refused_in_one_line(command: Any, why: str) -> None:
    strategy = Process(Process.Config(command=command))
    with pytest.raises(ConfigError, match=why) as caught:
        strategy.open("test")
    assert "\n" not in str(caught.value)
    strategy.close()


def test_a_closed_one_is_not_started_again() -> None:
    child = Child("x", [sys.executable, "-c", ""], PLUGIN_API, "test")
    child.close()
    with pytest.raises(TransientError, match="closed"):
        child.ask({}, 1)


def test_integers_are_exact_both_ways() -> None:
    assert encode(2**255) == str(2**255)
    bid = decode(Bid, {"priority_fee": str(10**30), "max_fee": 5, "deadline": 1, "unknown": []})
    assert bid.priority_fee == 10**30
    for bad in (True, "1e3", "٣", "-1", -1, None, str(2**127), "9" * 5000):
        with pytest.raises(ValueError, match="no amount"):
            decode(Bid, {"priority_fee": bad, "max_fee": 5, "deadline": 1})


def test_a_deadline_that_no_call_can_hold_is_the_program_s_own_fault() -> None:
    last = 2**64 - 1
    bid = decode(Bid, {"priority_fee": 1, "max_fee": 5, "deadline": last})
    assert bid.deadline == last
    for late in (last + 1, str(last + 1)):
        with pytest.raises(ValueError, match="deadline is more than"):
            decode(Bid, {"priority_fee": 1, "max_fee": 5, "deadline": late})
