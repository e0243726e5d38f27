"""Which protocols `keeper demo --protocols` plays, and what it says to names it does not know."""

import pytest

from keeper.cli.demo.street import chosen
from keeper.devnet.lending import LENDING
from keeper.errors import ConfigError
from keeper.plugins import PROTOCOLS, SHIPPED


def test_every_shipped_protocol_can_be_played() -> None:
    assert LENDING.keys() == SHIPPED[PROTOCOLS].keys()
    assert chosen("all") == tuple(LENDING)


def test_names_are_taken_in_the_order_of_the_story() -> None:
    assert chosen("liquity-v1, aave-v3,aave-v3") == ("aave-v3", "liquity-v1")


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ("aave-v2", "no protocol named 'aave-v2'", "did you mean aave-v3?"),
        ("aave-v3,euler", "no protocol named 'euler'", "known here: aave-v3, "),
        (" , ", "--protocols names none", "known here: aave-v3, "),
    ],
)
def test_an_unknown_name_is_one_line(text: str, why: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        chosen(text)
    assert "\n" not in str(told.value)
    assert hint in told.value.hint
