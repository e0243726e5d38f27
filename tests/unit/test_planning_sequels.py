"""Calls behind others on one position are told apart, also on two debts of one token."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.planning import calling
from keeper.planning.sequels import Sequel, Trial
from tests.fake_market import MARKET, USDC, WETH, FakeTerms, choice, view


@dataclass(frozen=True)
class TwinTerms(FakeTerms):
    """Terms on one of several debts in a token."""

    way: int = 0


class Desk:
    """Offers what a pair's terms say, and remembers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def stand(self, calls: Any) -> None:
        """Sell nothing."""

    def offer(self, sequel: Sequel) -> Any:
        (terms,) = sequel.opportunity.pairs
        self.asked.append(terms.maximum)
        return SimpleNamespace(largest=terms.maximum)

    def bound(self, offer: Any) -> int:
        return int(offer.largest)

    def best(self, offer: Any) -> int:
        return int(offer.largest) // 2


def test_two_debts_in_one_token_have_offers_of_their_own() -> None:
    twins = TwinTerms(WETH, USDC, 600, way=1), TwinTerms(WETH, USDC, 80, way=2)
    desk, made = Desk(), choice(1, *twins)
    trial = Trial(desk, made)  # type: ignore[arg-type]
    for terms in twins * 2:
        assert trial.most(made.opportunity.position, terms) == terms.maximum
        assert trial.best(made.opportunity.position, terms) == terms.maximum // 2
    assert desk.asked == [600, 80]


def test_no_search_begins_behind_those_that_took_the_sizes_of_a_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loans = SimpleNamespace(source=lambda _: 0, available=lambda *_: 0)
    appraisal = SimpleNamespace(size=lambda *_, hopeless: None)
    parts: Any = (None, {MARKET: None}, view(), None, None, loans, appraisal)
    desk = calling.Calling(*parts)
    unused: Any = None
    searched: list[int] = []

    def search(position: Any, *_: object) -> tuple[()]:
        searched.append(position.borrower[-1])
        for _each in range(calling._SIZINGS // 2):
            assert desk.best(unused) == 0
        return ()

    monkeypatch.setattr(calling, "best_sequence", search)
    offers: list[Any] = [
        [
            SimpleNamespace(
                choice=choice(n, FakeTerms(WETH, USDC, 600)), terms=FakeTerms(WETH, USDC, 1)
            )
        ]
        for n in range(4)
    ]
    for each in (*offers, *offers):
        assert desk.sequence(each) == ()
    assert searched == [0, 1]
