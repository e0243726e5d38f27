"""A chain that starts with a market not loaded: what rests on that market's tokens."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.line import make_converter
from keeper.app.watched import Watched
from keeper.errors import ConfigError, IncompleteError
from keeper.types import Token
from keeper.units import Address
from tests.fake_market import TOKENS, USDC, WETH
from tests.plans import make_head


def convert(unloaded: dict[str, str], *, to: str = "GHO") -> Any:
    """Make what sells profit for a token, with one market loaded."""
    market = SimpleNamespace(tokens=lambda: {token.address: token for token in TOKENS})
    watched: Any = SimpleNamespace(
        markets={"core": market}, venues={}, coin=WETH.address, unloaded=unloaded
    )
    table = SimpleNamespace(convert_to=to, slippage=50, sweep_gas_multiple=10)
    chain: Any = SimpleNamespace(contract=b"\1" * 20)
    settings: Any = SimpleNamespace(treasury=table)
    parts: Any = SimpleNamespace(stopped={})
    return make_converter("x", chain, settings, watched, parts, parts, parts, lambda *_: None)


class Market:
    """A market that is loaded, or fails as it is told, the next thing first."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []
        self.oracle = SimpleNamespace(bootstrap=self.nothing)

    def tokens(self) -> dict[Address, Token]:
        return {token.address: token for token in TOKENS}

    async def bootstrap(self, *_: object) -> None:
        if self.fails:
            raise self.fails.pop(0)

    async def nothing(self, *_: object) -> None:
        """Load nothing."""


async def test_sums_have_to_differ_several_times_in_a_row_for_each_load() -> None:
    good, bad, head = Market(), Market(), make_head(7)
    chain: Any = SimpleNamespace(venues={}, contract=None)
    markets: Any = {"good": good, "bad": bad}
    watched = Watched(SimpleNamespace(), "x", chain, WETH.address, markets)  # type: ignore[arg-type]
    bad.fails = [IncompleteError("sums differ")] * 2
    for _ in range(2):
        with pytest.raises(IncompleteError):
            await watched.bootstrap(head, head)
    await watched.bootstrap(head, head)
    bad.fails = [IncompleteError("sums differ")] * 3
    for _ in range(2):
        with pytest.raises(IncompleteError):
            await watched.bootstrap(head, head)
        assert watched.unloaded == {}
    await watched.bootstrap(head, head)
    assert watched.unloaded == {"market/bad": "sums differ"}


def test_profit_is_not_sold_for_a_token_whose_market_may_not_be_loaded() -> None:
    with capture_logs() as lines:
        assert convert({"market/prime": "sums differ"}) is None
    (line,) = lines
    assert (line["event"], line["log_level"], line["chain"]) == ("conversion.off", "warning", "x")
    assert line["not_loaded"] == ["market/prime"]
    assert "no market here has a token GHO" in line["why"]


def test_a_token_that_no_market_has_is_the_operators() -> None:
    with pytest.raises(ConfigError, match="no market here has a token GHO"):
        convert({})


def test_a_token_of_a_loaded_market_is_sold_for_all_the_same() -> None:
    assert convert({"market/prime": "sums differ"}, to=USDC.symbol) is not None


def test_markets_that_know_their_code_are_told_a_snapshots_first_page() -> None:
    told: list[bytes] = []
    knowing: Any = SimpleNamespace(remember=told.append)
    markets: Any = {"knowing": knowing, "new": knowing, "other": Market()}
    chain: Any = SimpleNamespace(venues={}, contract=None)
    watched = Watched(SimpleNamespace(), "x", chain, WETH.address, markets)  # type: ignore[arg-type]
    pages = {"market/knowing": [b"header", b"holders"], "market/other": [b"no"]}
    watched.remember(lambda source: iter(pages.get(source, [])))
    assert told == [b"header"]
