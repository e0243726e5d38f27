"""A loan's gas is carried by those that borrow, whoever else repays nothing beside them."""

from dataclasses import dataclass, replace

import pytest

from keeper.planning.fitting import Item, Load
from keeper.planning.gas import DEFICIT, FUND, called_gas, item_gas
from keeper.planning.grouping import group_quotes, moving_gas, share_gas
from keeper.planning.quoting import Sizing
from keeper.planning.size import Extent
from keeper.planning.taken import every_call
from keeper.planning.worth import worth
from keeper.types import FlashKind, Seizure
from keeper.units import Usd
from tests.fake_market import MARKET, USDC, WETH, FakeLender, FakeTerms, choice, pool, venue, view
from tests.unit.test_planning_plans import RULES

BORROWS = FakeTerms(WETH, USDC, 5_000 * 10**6)


@dataclass(frozen=True)
class Paid(FakeTerms):
    """Terms of a call that repays nothing and is paid for."""

    def seize(self, repay: int) -> Seizure:
        return Seizure(0, 10**17, 0)


SHARED = 300_000


@dataclass(frozen=True)
class Shared(Paid):
    """Terms of a call that is made once for all of a group."""

    def seize(self, repay: int) -> Seizure:
        return Seizure(0, 10**17, 0, shared_gas=SHARED)


def run(terms: type[Paid]) -> Sizing:
    """Return three calls that borrow nothing and share a sale."""
    calls = [choice(n, terms(WETH, USDC, 10**6)) for n in (2, 3, 4)]
    venues = {"uniswap": venue(pool(1, WETH, USDC, 500, 90_000_000))}
    sizing = Sizing(RULES, venues, {MARKET: FakeLender()}, view(), calls)  # type: ignore[dict-item]
    sizing.run()
    return sizing


def test_what_a_call_for_all_takes_is_shared_once() -> None:
    apart, together = run(Paid), run(Shared)
    before, after = group_quotes(apart.quotes), group_quotes(together.quotes)
    assert [len(group) for group in before] == [len(group) for group in after] == [3]
    assert sum(share_gas(after)) - sum(share_gas(before)) == SHARED
    assert moving_gas(after[0]) - moving_gas(before[0]) == SHARED
    loads = []
    for group in (before[0], after[0]):
        load = Load(RULES, 10**9)
        for quote in group:
            gas = item_gas(quote.opportunity.position, quote.steps[0])
            assert load.add(Item(quote, 0, 0, gas, 0, Usd(0), Extent(frozenset(), 0)))
        loads.append(load)
    assert loads[1].overhead - loads[0].overhead == SHARED
    room = called_gas(SHARED * 5 // 4)
    assert loads[1]._limit - loads[0]._limit in (room - 1, room)
    assert apart.worth() > together.worth()


def test_a_debt_that_a_call_does_not_repay_is_no_deficit() -> None:
    quote = run(Paid).quotes[0]
    position, step = quote.opportunity.position, quote.steps[0]
    whole = replace(position, collateral=position.collateral[:1])
    assert len(whole.collateral) == 1
    emptied = Seizure(-1, whole.collateral[0].amount, 0)
    owed = replace(step, seizure=emptied)
    repaid = replace(step, seizure=replace(emptied, repaid=1))
    assert item_gas(whole, repaid) - item_gas(whole, owed) == DEFICIT * len(whole.debt)


def sized() -> Sizing:
    """Return one call that borrows USDC and three that owe as little and borrow nothing."""
    calls = [choice(1, BORROWS), *(choice(n, Paid(WETH, USDC, 10**6)) for n in (2, 3, 4))]
    venues = {"uniswap": venue(pool(1, WETH, USDC, 500, 90_000_000))}
    sizing = Sizing(RULES, venues, {MARKET: FakeLender()}, view(), calls)  # type: ignore[dict-item]
    sizing.run()
    return sizing


@pytest.mark.parametrize("by_means", [False, True])
def test_who_borrows_carries_the_whole_loan(by_means: bool) -> None:
    quotes = sized().quotes
    assert sorted(quote.flash.kind for quote in quotes) == [FlashKind.AAVE, *[FlashKind.NONE] * 3]
    able = {quote.key: 10**9 for quote in quotes} if by_means else None
    groups = group_quotes(quotes)
    nothing = replace(quotes[0].flash, kind=FlashKind.NONE)
    free = [[replace(quote, flash=nothing) for quote in group] for group in groups]
    more = [
        (quote.flash.kind, gas - without)
        for quote, gas, without in zip(
            (quote for group in groups for quote in group),
            share_gas(groups, able),
            share_gas(free, able),
            strict=True,
        )
    ]
    assert sum(gas for _, gas in more) in range(FUND[FlashKind.AAVE], FUND[FlashKind.AAVE] + 4)
    if not by_means:
        assert [gas for kind, gas in more if kind is FlashKind.AAVE] == [FUND[FlashKind.AAVE]]


def test_two_lenders_of_one_kind_are_two_loans() -> None:
    calls = [choice(n, BORROWS) for n in (1, 2)]
    venues = {"uniswap": venue(pool(1, WETH, USDC, 500, 90_000_000))}
    sizing = Sizing(RULES, venues, {MARKET: FakeLender()}, view(), calls)  # type: ignore[dict-item]
    sizing.run()
    one, two = sizing.quotes
    other = replace(two.flash, source=USDC.address)
    apart = share_gas([[one, replace(two, flash=other)]])
    assert sum(apart) - sum(share_gas([[one, two]])) == FUND[FlashKind.AAVE]


def test_the_worth_of_all_has_the_loan_in_it_whoever_comes_last() -> None:
    sizing = sized()
    calls = list(every_call(sizing._settled))
    assert len({call.quote.flash.kind for call in calls}) == 2
    found = {
        worth(order, sizing._selling, sizing._costs, sizing._sales, lambda: sizing._sales)
        for order in (calls, calls[::-1])
    }
    assert found == {sizing.worth()}
    nothing = next(c.quote.flash for c in calls if c.quote.flash.kind is FlashKind.NONE)
    free = [replace(call, quote=replace(call.quote, flash=nothing)) for call in calls]
    alone = worth(free, sizing._selling, sizing._costs, sizing._sales, lambda: sizing._sales)
    assert alone > sizing.worth()
