"""Debt tokens lent for a premium each have a turn of their own in a batch of several."""

from dataclasses import replace

from keeper.planning.gas import FUND, run_gas_limit
from keeper.planning.grouping import group_quotes, take_turns, turns_of
from keeper.types import FlashKind, Plan
from tests.fake_market import DAI, USDC, WETH, FakeTerms
from tests.unit.test_planning_plans import PAIR, plan_all

IN_DAI = FakeTerms(WETH, DAI, 9_000 * 10**18)
APART = 0x80


def kinds_of(plan: Plan) -> list[int]:
    """Return the kind byte of each fund as the contract reads it."""
    packed = plan.calldata[4 + 64 :]
    addresses, funds = packed[9], packed[10]
    first = 48 + 20 * addresses
    return [packed[first + 23 * n] for n in range(funds)]


def test_each_of_two_tokens_lent_at_a_premium_has_its_turn() -> None:
    (plan,) = plan_all(PAIR, IN_DAI, PAIR)[0]
    assert kinds_of(plan) == [1 | APART, 1 | APART]
    # the dearer DAI would have gone first: what is priced is what runs
    assert [quote.debt for quote in plan.quotes] == [USDC, USDC, DAI]
    assert take_turns(plan.quotes) == {USDC.address, DAI.address}


def test_one_token_has_no_turn_and_neither_has_a_free_loan() -> None:
    (plan,) = plan_all(PAIR, PAIR)[0]
    assert kinds_of(plan) == [1]
    (both,) = plan_all(PAIR, IN_DAI)[0]
    free = [
        replace(quote, flash=replace(quote.flash, fee_ppm=0)) if quote.debt == USDC else quote
        for quote in both.quotes
    ]
    assert take_turns(free) == turns_of(group_quotes(free)) == {DAI.address}
    # what lends for nothing goes first
    assert [group[0].debt for group in group_quotes(free)] == [USDC, DAI]


def test_a_turn_does_not_change_what_was_priced() -> None:
    (plan,) = plan_all(PAIR, IN_DAI)[0]
    usdc, dai = plan.quotes
    later = replace(usdc, stage=1)
    # other positions, other pools: the token of the higher stage may run first
    assert turns_of(group_quotes([dai, later])) == {USDC.address, DAI.address}
    same = replace(later, opportunity=dai.opportunity)
    assert turns_of(group_quotes([dai, same])) == frozenset()
    through = replace(later, routes=dai.routes)
    assert turns_of(group_quotes([dai, through])) == frozenset()


def test_a_turn_keeps_a_64th_of_the_gas() -> None:
    work, held = [10**6], FUND[FlashKind.INVENTORY]
    for kind, more in ((FlashKind.AAVE, 10**6 // 63), (FlashKind.MORPHO, 0)):
        alone = run_gas_limit(work, [kind]) + held
        both = run_gas_limit(work, [kind, FlashKind.INVENTORY])
        assert alone + more <= both <= alone + 2 * more
