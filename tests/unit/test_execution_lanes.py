"""Which lane takes which plan."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.execution.flight import Flights
from keeper.execution.lanes import Lane, Lanes, assign, in_lines
from keeper.execution.nonce import NonceLine
from keeper.execution.wallet import needed_up
from keeper.types import FlashKind, FlashSource, Hop, Plan, Portion
from keeper.units import Address, Wei
from tests.plans import Plans, address

ETHER = 10**18


def lane(name: str, pending: int = 0, balance: int = ETHER, *, is_blocked: bool = False) -> Lane:
    return Lane(address(name), Wei(balance), Wei(0), pending, is_blocked)


def plan(plans: Plans, pool: str, *, debt: str = "", flash: FlashKind = FlashKind.AAVE) -> Plan:
    """Return a plan that sells through one pool."""
    made = plans.make()
    token_in, token_out = address(f"{pool}-in"), address(f"{pool}-out")
    quotes = tuple(
        replace(
            quote,
            routes=(Portion((Hop("v3", address(pool), token_in, token_out),)),),
            flash=FlashSource(flash, address("lender"), quote.debt.address, 10**30, 0),
            debt=replace(quote.debt, address=address(debt or f"{pool}-debt")),
        )
        for quote in made.quotes
    )
    return replace(made, quotes=quotes)


def sides(plans: list[Plan]) -> list[Address]:
    return [each.sender for each in plans]


def test_the_free_lane_with_the_fewest_in_flight_then_the_most_balance() -> None:
    lanes = [lane("a", 2), lane("b", 1, ETHER // 2), lane("c", 1), lane("d", is_blocked=True)]
    sent, waiting = assign([plan(Plans(), "p")], lanes, 4)
    assert sides(sent) == [address("c")]
    assert not waiting


def test_independent_plans_spread_and_dependent_ones_stay_in_order() -> None:
    plans = Plans()
    four = [plan(plans, name) for name in ("p", "q", "p", "r")]
    assert in_lines(four) == [0, 1, 0, 3]
    sent, _ = assign(four, [lane("a"), lane("b")], 4)
    assert [each.id for each in sent] == [each.id for each in four]
    first, second, third, fourth = sides(sent)
    assert first == third != second == fourth


def test_a_plan_that_touches_two_lines_joins_them() -> None:
    plans = Plans()
    one, two, both = plan(plans, "p"), plan(plans, "q"), plan(plans, "p")
    hops = (*both.quotes[0].hops, *two.quotes[0].hops)
    both = replace(both, quotes=(replace(both.quotes[0], routes=(Portion(hops),)),))
    assert in_lines([one, two, both]) == [0, 0, 0]


def test_the_pools_behind_an_offer_make_a_line() -> None:
    plans = Plans()
    pooled, offered, other = plan(plans, "p"), plan(plans, "offer"), plan(plans, "q")
    stands_in = tuple(replace(quote, fallback=pooled.quotes[0].routes) for quote in offered.quotes)
    lines = [pooled, replace(offered, quotes=stands_in), other]
    assert in_lines(lines) == [0, 0, 2]


def test_own_capital_and_a_reserve_that_is_filled_and_emptied_make_a_line() -> None:
    plans = Plans()
    inventory = [plan(plans, name, flash=FlashKind.INVENTORY) for name in ("p", "q")]
    assert in_lines(inventory) == [0, 0]
    collateral = plans.make().quotes[0].steps[0].terms.collateral.address
    fills = plan(plans, "r")
    fills = replace(
        fills,
        quotes=tuple(
            replace(quote, debt=replace(quote.debt, address=collateral)) for quote in fills.quotes
        ),
    )
    assert in_lines([fills, plan(plans, "s")]) == [0, 0]


def test_one_lender_for_two_makes_no_line_unless_a_sale_goes_through_it() -> None:
    plans = Plans()
    lent = [plan(plans, name, flash=FlashKind.UNISWAP_V3) for name in ("p", "q")]
    assert in_lines(lent) == [0, 1]
    through = plan(plans, "lender")
    assert in_lines([*lent, through]) == [0, 0, 0]
    assert in_lines([through, *lent]) == [0, 0, 0]


def test_what_does_not_fit_waits_and_so_does_what_rests_on_it() -> None:
    plans = Plans()
    line = [plan(plans, "p") for _ in range(3)] + [plan(plans, "q")]
    sent, waiting = assign(line, [lane("a", 2), lane("b", 3)], 4)
    assert [each.id for each in waiting] == [line[2].id]
    assert sides(sent) == [address("a"), address("a"), address("b")]


def test_blocked_lanes_serve_when_there_are_no_others() -> None:
    sent, _ = assign([plan(Plans(), "p")], [lane("a", 1, is_blocked=True)], 4)
    assert sides(sent) == [address("a")]


def test_a_full_lane_is_not_made_up_for_by_a_blocked_one() -> None:
    lanes = [lane("a", 4), lane("b", 1, is_blocked=True)]
    sent, waiting = assign([plan(Plans(), "p")], lanes, 4)
    assert not sent
    assert len(waiting) == 1


@pytest.mark.parametrize("refill", [0, 5])
def test_one_that_cannot_pay_is_passed_over(refill: int) -> None:
    made = replace(plan(Plans(), "p"), refill=Wei(refill))
    short = needed_up([made]) - 1
    lanes = [lane("a", balance=short), lane("b", 3)]
    (sent,), _ = assign([made], lanes, 4)
    assert sent.sender == address("b"), "it holds back what a replacement and a cancel would cost"
    (sent,), _ = assign([made], [lane("a", balance=short + 1), lane("b", 3)], 4)
    assert sent.sender == address("a")


def test_of_those_that_can_pay_the_poorest_is_refilled() -> None:
    lanes = [lane("a", balance=1), lane("b"), lane("c", 3, ETHER // 2)]
    (sent,), _ = assign([replace(plan(Plans(), "p"), refill=Wei(5))], lanes, 4)
    assert sent.sender == address("c")


def test_whom_a_refill_is_for_can_pay_for_what_was_asked_last() -> None:
    wallets: Any = [
        SimpleNamespace(
            address=address(name),
            balance=balance,
            nonces=NonceLine(),
            is_silent=lambda _: False,
            is_barred=lambda _: False,
        )
        for name, balance in (("empty", 0), ("low", ETHER // 2), ("full", ETHER))
    ]
    lanes = Lanes(wallets, Flights(), 4)
    assert lanes.payee(0) == lanes.poorest() == address("empty"), "nothing was asked yet"
    lanes.assign([plan(Plans(), "p")])
    assert (lanes.payee(0), lanes.poorest()) == (address("low"), address("empty"))
    wallets[1].balance = wallets[2].balance = 1
    assert lanes.payee(0) == address("empty"), "where nobody can pay, as before"


@pytest.mark.parametrize("poorest", [1, ETHER // 2])
def test_no_refill_is_for_a_wallet_whose_signer_is_silent_as_it_sends_nothing(poorest: int) -> None:
    silent = {"low"}
    wallets: Any = [
        SimpleNamespace(
            address=address(name),
            balance=balance,
            nonces=NonceLine(),
            is_silent=lambda timestamp, name=name: timestamp < 100 and name in silent,
            is_barred=lambda _: False,
        )
        for name, balance in (("low", poorest), ("full", 2 * poorest))
    ]
    lanes = Lanes(wallets, Flights(), 4)
    made = replace(plan(Plans(), "p"), refill=Wei(5))
    for at, sender in ((99, "full"), (100, "low")):
        (sent,), _ = lanes.assign([replace(made, head=replace(made.head, timestamp=at))])
        assert sent.sender == lanes.payee(at) == address(sender)
    silent.add("full")
    (sent,), _ = lanes.assign([replace(made, head=replace(made.head, timestamp=99))])
    assert sent.sender == lanes.payee(99) == address("low"), "where all are silent, as before"


def test_a_lane_once_chosen_is_kept() -> None:
    chosen = replace(plan(Plans(), "p"), sender=address("b"))
    sent, _ = assign([chosen], [lane("a"), lane("b", 3)], 4)
    assert sides(sent) == [address("b")]


def test_a_lane_with_a_gap_is_asked_first_and_once() -> None:
    gap = replace(lane("gap", pending=3), has_gap=True)
    made = Plans()
    sent, _ = assign([plan(made, "a"), plan(made, "b")], [lane("free"), gap], 16)
    assert sides(sent) == [address("gap"), address("free")]


def test_a_lane_with_a_gap_that_cannot_pay_does_not_keep_plans_from_one_that_can() -> None:
    gap = replace(lane("gap", pending=3, balance=1), has_gap=True)
    sent, _ = assign([plan(Plans(), "a")], [gap, lane("free")], 16)
    assert sides(sent) == [address("free")], "refused on the other for its funds at every head"
