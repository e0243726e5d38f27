"""What an owner signs is the amount that was written."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given, strategies as st

from keeper.cli.treasury import _wei
from keeper.errors import ConfigError


@given(st.integers(0, 2**120 - 1), st.integers(0, 36))
def test_every_amount_is_read_to_the_wei(amount: int, decimals: int) -> None:
    with localcontext(prec=80):
        text = f"{Decimal(amount).scaleb(-decimals):f}"
    assert _wei(text, decimals) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("1.0000000000000000000000000001", "0.0000000000000000001", "1" + "0" * 30, "1e999999"),
        *("-1", "NaN", "sNaN", "Infinity", "one", ""),
    ],
)
def test_what_is_finer_or_larger_or_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no amount"):
        _wei(text, 18)
