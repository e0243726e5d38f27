"""Calls behind others on one position are told apart, also on two debts of one token."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from keeper.planning.sequels import Sequel, Trial
from tests.fake_market import USDC, WETH, FakeTerms, choice


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
