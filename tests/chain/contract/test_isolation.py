"""Items fail alone, groups are undone alone, a starved batch reverts as a whole."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from keeper.errors import RpcError
from keeper.planning import owner_calls
from keeper.planning.encoding import (
    GAINED,
    Call,
    Check,
    Item,
    exactly,
    explain_reason,
)
from keeper.units import Address
from tests.chain.contract.stage import ITEM_GAS, selector

pytestmark = pytest.mark.chain

HEALTHY = bytes.fromhex("930bb771")
SKIPPED = selector("DebtBelowMinimum()")


def test_a_healthy_borrower_fails_alone(stage, crashed) -> None:
    healthy = stage.net.borrowers(1, health=2.0, size_usd=20_000)[0]
    one, two = crashed(2)
    half = stage.debt("USDC", one) // 2
    items = [stage.item(b, "USDC", half) for b in (one, healthy, two)]
    batch = stage.batch(stage.group(items))
    result = stage.simulate(batch)
    assert [item.ok for item in result.items] == [True, False, True]
    assert result.items[1].reason == HEALTHY
    assert "HealthFactorNotBelowThreshold" in explain_reason(result.items[1].reason)
    assert result.items[0].gain > 0
    assert result.groups[0].ok
    assert result.gains[1] > 0
    assert result.gains[0] == 0
    owed = stage.debt("USDC", one)
    stage.run(batch)
    assert stage.debt("USDC", one) < owed
    assert stage.held("WETH") == 0
    assert abs(stage.held("USDC") - result.gains[1]) <= result.gains[1] // 10_000
    assert stage.allowance("USDC", stage.market.pool) == 0


def test_items_a_rival_took_are_skipped_for_little_gas(stage, crashed) -> None:
    borrowers = crashed(20)
    half = stage.debt("USDC", borrowers[0]) // 2
    items = [stage.item(b, "USDC", half) for b in borrowers]
    batch = stage.batch(stage.group(items))
    for borrower in borrowers[:19]:
        stage.net.liquidate_as_rival(borrower, "WETH", "USDC", half)
    result = stage.simulate(replace(batch, funds=(stage.aave_fund("USDC", half),)))
    assert [item.ok for item in result.items] == [False] * 19 + [True]
    assert {item.reason for item in result.items[:19]} == {SKIPPED}
    stage.net.liquidate_as_rival(borrowers[19], "WETH", "USDC", half)
    mined = stage.run(batch)
    assert mined.gas_used / 20 <= 25_000
    assert stage.simulate(batch).groups[0].reason == selector("NothingLeft()")


def test_an_unscaled_check_skips_too_and_no_check_tries(stage, crashed) -> None:
    (borrower,) = crashed(1)
    debt = stage.debt("USDC", borrower)
    group = stage.group([Item(Address(borrower), debt // 2, debt * 2)])
    stage.net.give("USDC", stage.address, 10**10)
    batch = replace(stage.batch(group), funds=())
    balance = replace(batch, groups=(replace(group, check=Check.BALANCE),))
    assert stage.simulate(balance).items[0].reason == SKIPPED
    tried = replace(batch, groups=(replace(group, check=Check.NONE),))
    assert stage.simulate(tried).items[0].ok


def test_a_losing_group_is_undone_and_the_others_stay(stage, crashed) -> None:
    borrowers = crashed(3)
    half = stage.debt("USDC", borrowers[0]) // 2
    good = stage.group([stage.item(borrowers[0], "USDC", half, 10**6)])
    greedy = stage.group([stage.item(b, "USDC", half, 10**12) for b in borrowers[1:]])
    batch = stage.batch(good, greedy, good)
    result = stage.simulate(batch)
    assert [group.ok for group in result.groups] == [True, False, False]
    assert result.groups[1].reason == selector("GroupLoss(uint256[])")
    assert [item.ok for item in result.items] == [True, False, False, False]
    assert all(item.undone and item.gain > 0 for item in result.items[1:3])
    # The third group names the first one's borrower again: its debt is below the minimum by then.
    assert result.items[3].reason == SKIPPED
    owed = stage.debt("USDC", borrowers[1])
    stage.run(batch)
    assert stage.debt("USDC", borrowers[1]) >= owed


def test_minimums_of_dead_items_do_not_count(stage, crashed) -> None:
    (borrower,) = crashed(1)
    healthy = stage.net.borrowers(1, health=2.0, size_usd=20_000)[0]
    half = stage.debt("USDC", borrower) // 2
    items = [stage.item(borrower, "USDC", half, 10**6), stage.item(healthy, "USDC", half, 10**12)]
    result = stage.simulate(stage.batch(stage.group(items)))
    assert result.groups[0].ok
    assert result.groups[0].gain >= 10**6


def test_no_sale_is_tried_when_no_item_survived(stage) -> None:
    healthy = stage.net.borrowers(2, health=2.0, size_usd=20_000)
    stage.net.give("USDC", stage.address, 10**10)
    items = [stage.item(b, "USDC", 10**9) for b in healthy]
    result = stage.simulate(replace(stage.batch(stage.group(items)), funds=()))
    assert result.groups[0].reason == selector("NothingLeft()")
    assert [item.reason for item in result.items] == [HEALTHY] * 2


def test_a_failing_sale_undoes_its_group_only(stage, crashed) -> None:
    borrowers = crashed(2)
    half = stage.debt("USDC", borrowers[0]) // 2
    dear = stage.swap("WETH", "USDC", minimum_received=10**15)
    groups = (
        stage.group([stage.item(borrowers[0], "USDC", half)], actions=(dear,)),
        stage.group([stage.item(borrowers[1], "USDC", half)]),
    )
    result = stage.simulate(stage.batch(*groups))
    assert [group.ok for group in result.groups] == [False, True]
    assert result.groups[0].reason == selector("ReceivedTooLittle()")
    assert result.items[0].undone
    assert result.items[1].ok


def test_a_starved_batch_reverts_instead_of_losing_groups(stage, crashed) -> None:
    borrowers = crashed(3)
    half = stage.debt("USDC", borrowers[0]) // 2
    groups = [stage.group([stage.item(b, "USDC", half)]) for b in borrowers]
    batch = stage.batch(*groups)
    whole = stage.simulate(batch)
    assert all(group.ok for group in whole.groups)
    outcomes = []
    for gas in range(200_000, 3_400_000, 100_000):
        try:
            outcomes.append(stage.simulate(batch, gas=gas) == whole)
        except RpcError:
            outcomes.append(None)
    assert outcomes.count(None) > 5
    assert outcomes.count(True) > 5
    assert False not in outcomes


def test_an_item_never_gets_less_gas_than_planned(stage, crashed) -> None:
    borrowers = crashed(4)
    half = stage.debt("USDC", borrowers[0]) // 2
    items = [stage.item(b, "USDC", half) for b in borrowers]
    stage.net.give("USDC", stage.address, 10**11)
    short = stage.group(items, group_gas=ITEM_GAS + 200_000)
    result = stage.simulate(replace(stage.batch(short), funds=()))
    assert result.groups[0].reason == selector("Starved()")


def test_a_poisoned_item_costs_its_own_gas_only(stage, crashed, mock) -> None:
    """A pool that burns all gas, or answers with a bomb, harms only its own group."""
    venue = mock("venue")
    stage.by_owner(owner_calls.encode_allow(Address(venue), owner_calls.LIQUIDATION_CALL))
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    good = stage.group([stage.item(borrower, "USDC", half)])
    poison = replace(good, pool=Address(venue), item_gas=200_000, group_gas=600_000)
    poison = replace(
        poison,
        items=(replace(poison.items[0], minimum_debt=0),),
        actions=(stage.swap("WETH", "USDC", amount=GAINED),),
    )
    for mode in (9, 10):
        stage.net.send(venue, venue, "set_mode(uint256)", [mode])
        if mode == 10:
            stage.net.send(
                venue, venue, "arm(address,bytes)", [venue, b"\xab" * 8200], gas=16_000_000
            )
            poison = replace(poison, item_gas=2_000_000, group_gas=3_000_000)
        result = stage.simulate(stage.batch(poison, good))
        assert [group.ok for group in result.groups] == [False, True], result
        assert result.items[0].reason == (selector("NoReason()") if mode == 9 else b"\xab" * 4)


def test_a_hundred_groups_tell_each_its_own_result(stage, crashed) -> None:
    borrowers = crashed(3)
    half = stage.debt("USDC", borrowers[0]) // 2
    gone = replace(stage.item(borrowers[0], "USDC", half), minimum_debt=2**100)
    live = {0: borrowers[0], 70: borrowers[1], 99: borrowers[2]}
    groups = [
        stage.group([stage.item(live[i], "USDC", half) if i in live else gone]) for i in range(100)
    ]
    stage.net.give("USDC", stage.address, 10 * half)
    batch = replace(stage.batch(*groups), funds=())
    result = stage.simulate(batch)
    assert [i for i, item in enumerate(result.items) if item.ok] == list(live)
    assert [i for i, group in enumerate(result.groups) if group.ok] == list(live)
    assert {item.reason for item in result.items if not item.ok} == {SKIPPED}
    (event,) = stage.events(stage.run(batch))
    assert event.items == event.groups == tuple(live)


def test_a_target_cannot_pass_its_undone_group_off_as_held(stage, crashed, mock) -> None:
    """A call of the sale reverts with what looks like the group's own loss, its words marked ok."""
    venue = Address(mock("venue"))
    exchange = selector("exchange(address,address,uint256)")
    stage.by_owner(owner_calls.encode_allow(venue, exchange))
    stage.net.give("USDC", stage.address, 10**11)
    borrowers = crashed(2)
    half = stage.debt("USDC", borrowers[0]) // 2
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    call = Call(venue, exchange + bytes(96), weth, usdc, exactly(1))
    items = [stage.item(borrower, "USDC", half) for borrower in borrowers]
    batch = replace(stage.batch(stage.group(items, actions=(call,))), funds=())
    held, dirty = 1 << 255 | 10**12, (1 << 255) - 1
    lie = selector("GroupLoss(uint256[])") + encode(["uint256[]"], [[held, held, dirty]])
    stage.net.send(
        venue, venue, "arm(address,bytes)", [venue, lie.ljust(8192, b"\0")], gas=16_000_000
    )
    stage.net.send(venue, venue, "set_mode(uint256)", [10])
    result = stage.simulate(batch)
    assert not result.groups[0].ok
    assert result.groups[0].reason == selector("GroupLoss(uint256[])")
    assert result.items[0].undone
    assert not result.items[1].ok
    mined = stage.run(batch)
    (event,) = stage.events(mined)
    assert (event.groups, event.items) == ((), ())
