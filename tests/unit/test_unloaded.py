"""A chain that starts with a market not loaded: what rests on that market's tokens."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.line import make_converter
from keeper.errors import ConfigError
from tests.fake_market import TOKENS, USDC, WETH


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
