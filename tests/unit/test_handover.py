"""What goes to a strategy's own process comes there as it was."""

import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from keeper.handover import pack, unpack
from keeper.types import AtRisk, Cause, DebtLeg
from tests.chaos.test_strategy_process import QUOTE
from tests.fake_market import DAI, USDC, WETH, FakeTerms, position, view


@dataclass(frozen=True, slots=True)
class One:
    """A noun of one field."""

    value: int


@dataclass(frozen=True, slots=True)
class Derived:
    """A noun whose constructor does not take all it holds."""

    value: int
    twice: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.value)


@dataclass(frozen=True)
class Open:
    """A noun with a dictionary, where more may stand than its fields."""

    value: int


@dataclass(frozen=True, slots=True)
class Own:
    """A noun that says itself what is kept of it."""

    value: int

    def __getstate__(self) -> int:
        return self.value + 1

    def __setstate__(self, state: int) -> None:
        object.__setattr__(self, "value", state)


def seen(count: int) -> Any:
    pairs = (FakeTerms(WETH, USDC, 5_000 * 10**6), FakeTerms(WETH, DAI, 5_000 * 10**18))
    risks = tuple(
        AtRisk(position(number, *pairs), pairs, (), Cause.PRICE) for number in range(1, count + 1)
    )
    return replace(view(), at_risk=risks)


@pytest.mark.parametrize(
    "value", [One(1), Derived(2), Open(3), DebtLeg(USDC, 1, 2), QUOTE, seen(3), (), None]
)
def test_it_comes_as_it_was(value: object) -> None:
    assert unpack(pack(value)) == value


def test_a_type_that_looks_after_itself_is_asked() -> None:
    assert unpack(pack(Own(1))) == Own(2) == pickle.loads(pickle.dumps(Own(1)))


def test_what_is_one_object_stays_one() -> None:
    back = unpack(pack(seen(2)))
    assert back.at_risk[0].pairs[0].collateral is back.at_risk[1].pairs[0].collateral
    assert len({back.at_risk[0].position, back.at_risk[0].position}) == 1
    with pytest.raises(AttributeError):
        back.at_risk[0].position.health = 1
