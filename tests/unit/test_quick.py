"""Quick constructors: what a class takes stays the same."""

from dataclasses import InitVar, dataclass, field, replace

import pytest

from keeper.quick import quick, remade


@quick
@dataclass(frozen=True, slots=True)
class Noun:
    """One of every kind of field."""

    first: int
    second: int = 2
    third: list[int] = field(default_factory=list)
    sum: int = field(init=False)

    def __post_init__(self) -> None:
        """Add up."""
        object.__setattr__(self, "sum", self.first + self.second)


def test_fields_are_taken_in_order_by_name_and_by_default() -> None:
    found = Noun(1)
    assert (found.first, found.second, found.third, found.sum) == (1, 2, [], 3)
    assert found.third is not Noun(1).third
    assert Noun(1, 5, [7]) == Noun(third=[7], second=5, first=1) != found
    assert replace(found, second=4).sum == 5
    with pytest.raises(TypeError, match="first"):
        Noun()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="fourth"):
        Noun(1, fourth=4)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        found.first = 3  # type: ignore[misc]


def test_a_noun_is_remade_as_replace_would() -> None:
    noun = Noun(1, 2, [3])
    assert remade(noun, second=5) == replace(noun, second=5) == Noun(1, 5, [3])
    assert remade(noun, second=5).sum == 6
    assert remade(noun).third is noun.third
    for wrong in ("sum", "fourth"):
        with pytest.raises(TypeError, match=f"Noun takes no {wrong}"):
            remade(noun, **{wrong: 1})


def test_a_class_that_takes_more_than_its_fields_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Other:
        number: int
        hint: InitVar[int]

    with pytest.raises(TypeError, match="Other takes other arguments"):
        quick(Other)
