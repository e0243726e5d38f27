"""States of one transaction, and the fees of what takes its place."""

import pytest
from hypothesis import given, strategies as st

from keeper.errors import InvariantError
from keeper.execution.bump import bumped_up, first_down, highest, replaced_down, replacement_fees
from keeper.execution.gas import fees
from keeper.execution.life import SETTLED, TRANSITIONS, Event, State, after
from keeper.execution.recheck import at_fees, minimum_usd_up, most_per_gas_down
from keeper.types import Fees
from keeper.units import USD, ZERO_ADDRESS, Wei
from tests.plans import GWEI, Plans

OPEN = (State.SIGNED, State.SENT, State.SEEN)


def test_the_usual_life() -> None:
    state = State.BUILT
    for event in (Event.SIGN, Event.HAND_OVER, Event.SIGHT, Event.SUCCEED):
        state = after(state, event)
    assert state is State.INCLUDED
    assert state.is_settled


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_a_decided_one_only_a_reorg_brings_back(state: State) -> None:
    for event in set(Event) - {Event.REORG}:
        with pytest.raises(InvariantError, match="cannot happen"):
            after(state, event)
    assert after(state, Event.REORG) is State.SENT


@pytest.mark.parametrize("state", OPEN)
def test_an_open_one_is_not_reorged_nor_signed_again(state: State) -> None:
    for event in (Event.REORG, Event.SIGN):
        with pytest.raises(InvariantError):
            after(state, event)


def test_what_is_not_signed_is_never_handed_over_nor_mined() -> None:
    allowed = {event for state, event in TRANSITIONS if state is State.BUILT}
    assert allowed == {Event.SIGN, Event.LOSE}


@pytest.mark.parametrize(("fee", "least"), [(0, 1), (1, 2), (10, 11), (11, 13), (100, 110)])
def test_a_tenth_more_is_rounded_up(fee: int, least: int) -> None:
    assert bumped_up(fee) == least


def test_the_highest_of_each_fee_counts() -> None:
    offered = [Fees(Wei(5), Wei(3)), Fees(Wei(9), Wei(1))]
    assert highest(offered) == Fees(Wei(9), Wei(3))


def test_a_replacement_outlives_full_blocks_where_it_may() -> None:
    held = Fees(Wei(3 * GWEI), Wei(GWEI))
    found = replacement_fees(held, Wei(4 * GWEI), Wei(100 * GWEI))
    assert found is not None
    assert found.priority_fee == 5 * GWEI // 4
    assert found.max_fee > 8 * GWEI


def test_a_replacement_stops_at_its_ceiling() -> None:
    held = Fees(Wei(3 * GWEI), Wei(GWEI))
    least = Wei(33 * GWEI // 10)
    assert replacement_fees(held, Wei(GWEI), Wei(least - 1)) is None
    assert replacement_fees(held, Wei(5 * GWEI), Wei(4 * GWEI)) is None, "below the base fee"
    found = replacement_fees(held, Wei(GWEI), least)
    assert found == Fees(least, Wei(5 * GWEI // 4))


def test_the_whole_gas_limit_never_costs_more_than_the_plan_brings() -> None:
    plan = Plans().make()
    # 40 USD net, 1.60 USD of gas in it, 5.05 USD to be left, at 2,000 USD a coin
    assert minimum_usd_up(plan) == 4_95098040
    left = plan.net_usd + 2_000 * plan.gas_cost * USD // 10**18 - minimum_usd_up(plan)
    ceiling = most_per_gas_down(plan, Wei(10**18))
    assert ceiling * plan.gas_limit * 2_000 * USD // 10**18 <= left
    assert (ceiling + 1) * plan.gas_limit * 2_000 * USD > left * 10**18
    assert most_per_gas_down(plan, Wei(7)) == 7


def test_what_fees_cost_more_is_taken_off_the_net() -> None:
    plan = Plans().make()
    dear = at_fees(plan, Fees(Wei(30 * GWEI), Wei(9 * GWEI)), Wei(GWEI))
    assert dear.gas_cost == plan.gas * 10 * GWEI
    more = (dear.gas_cost - plan.gas_cost) * plan.prices[ZERO_ADDRESS] // 10**18
    assert dear.net_usd == plan.net_usd - more
    assert dear.calldata == plan.calldata


@given(st.integers(0, 10**15))
def test_what_is_sent_first_leaves_room_for_two_bumps_and_no_more(cap: int) -> None:
    first = first_down(Wei(cap))
    assert first == 0 or bumped_up(bumped_up(first)) <= cap
    assert cap - bumped_up(bumped_up(first)) < 8, "and is cut no further than that"


@given(st.integers(1, 10**15))
def test_what_replaces_it_leaves_room_for_a_cancel_and_no_less(cap: int) -> None:
    most = replaced_down(Wei(cap))
    assert bumped_up(most) <= cap
    assert bumped_up(most + 1) > cap


@given(st.integers(100, 10**15), st.integers(0, 10**15), st.data())
def test_what_is_sent_first_can_be_raised_and_then_cancelled(
    cap: int, priority: int, data: st.DataObject
) -> None:
    first = fees(
        Wei(data.draw(st.integers(0, first_down(Wei(cap))))), Wei(priority), first_down(Wei(cap))
    )
    assert first is not None
    # the base fee moves meanwhile, at most to where the last replacement may pay it
    bases = data.draw(st.lists(st.integers(0, replaced_down(Wei(cap))), min_size=2, max_size=2))
    raised = replacement_fees(first, Wei(bases[0]), replaced_down(Wei(cap)))
    assert raised is not None
    again = replacement_fees(raised, Wei(bases[1]), replaced_down(Wei(cap)))
    for held in (raised, again or raised):
        assert held.priority_fee <= held.max_fee
        assert replacement_fees(held, Wei(bases[1]), Wei(cap)) is not None, "a cancel"
