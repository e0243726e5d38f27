"""No balance falls, minimums hold, the tip and the refill stay under their caps."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from keeper.devnet import RevertedError
from keeper.planning import owner_calls
from keeper.planning.encoding import (
    Amount,
    AmountMode,
    Check,
    Item,
    Minimum,
    share_of_gain,
)
from keeper.units import WAD, ZERO_ADDRESS, Address
from tests.chain.contract.stage import reverts, selector

pytestmark = pytest.mark.chain

DAY = 86_400


def native(stage, holder: bytes) -> int:
    return int(stage.rpc("eth_getBalance", "0x" + holder.hex(), "latest"), 16)


def spend_usdc(stage, crashed, **more):
    """A batch that repays from what is held and keeps the collateral."""
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    group = stage.group([stage.item(borrower, "USDC", half, -half)], actions=())
    return replace(stage.batch(group, **more), funds=()), half


def test_a_token_may_fall_only_within_its_budget_of_the_day(stage, crashed) -> None:
    batch, half = spend_usdc(stage, crashed)
    usdc = stage.token("USDC")
    stage.net.give("USDC", stage.address, 10 * half)
    reverts(stage, batch, "BalanceFell")
    stage.by_owner(owner_calls.encode_set_budget(usdc, half - 1))
    reverts(stage, batch, "BalanceFell")
    stage.by_owner(owner_calls.encode_set_budget(usdc, half))
    result = stage.simulate(batch)
    assert result.gains == (result.items[0].gain, -half)
    stage.run(batch)
    day = stage.net.chain.timestamp() // DAY
    spent = stage.ask(owner_calls.encode_spent(usdc, day), stage.operator)
    assert int.from_bytes(spent, "big") == half
    healthy_again = stage.net.borrowers(1, health=1.05, size_usd=20_000)[0]
    stage.net.set_price("WETH", stage.net.price("WETH") * 9 // 10)
    item = stage.item(healthy_again, "USDC", half // 2, -half)
    more = replace(batch, groups=(replace(batch.groups[0], items=(item,)),))
    reverts(stage, more, "BalanceFell")
    stage.net.mine(1, DAY)
    item = stage.item(healthy_again, "USDC", half // 2, -half)
    more = replace(batch, groups=(replace(batch.groups[0], items=(item,)),))
    assert stage.simulate(more).items[0].ok


def test_minimum_gains_are_per_token_and_after_repayment(stage, crashed) -> None:
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    batch = stage.batch(stage.group([stage.item(borrower, "USDC", half)]))
    gain = stage.simulate(batch).gains[1]
    usdc, weth = stage.token("USDC"), stage.token("WETH")
    assert stage.simulate(replace(batch, minimums=(Minimum(usdc, gain),))).gains[1] == gain
    reverts(stage, replace(batch, minimums=(Minimum(usdc, gain + 1),)), "GainBelowMinimum")
    reverts(stage, replace(batch, minimums=(Minimum(weth, 1),)), "GainBelowMinimum")


def test_the_tip_is_capped_and_comes_from_the_wrapped_gain_only(stage, crashed) -> None:
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    item = stage.item(borrower, "USDC", half)
    sell_most = stage.swap("WETH", "USDC", amount=share_of_gain(WAD * 97 // 100))
    keeps_some = replace(stage.batch(stage.group([item], actions=(sell_most,))), tip=WAD)
    sells_all = replace(stage.batch(stage.group([item])), tip=WAD)
    stage.net.give("WETH", stage.address, 5 * WAD)
    assert stage.simulate(keeps_some).tip == 0
    stage.by_owner(owner_calls.encode_set_tip_cap(10**15))
    assert stage.simulate(keeps_some).tip == 10**15
    assert stage.simulate(sells_all).tip == 0
    stage.by_owner(owner_calls.encode_set_tip_cap(100 * WAD))
    kept = stage.simulate(replace(keeps_some, tip=0)).gains[0]
    assert 0 < kept < WAD
    assert stage.simulate(keeps_some).tip == kept
    assert stage.simulate(replace(keeps_some, tip_share=2500)).tip == kept // 4
    assert stage.simulate(replace(keeps_some, tip_share=65_535)).tip == kept
    needs = replace(keeps_some, minimums=(Minimum(stage.token("WETH"), 1),))
    reverts(stage, needs, "GainBelowMinimum")

    miner = b"\x11" * 20
    stage.rpc("anvil_setCoinbase", "0x" + miner.hex())
    before, held = native(stage, miner), native(stage, stage.address)
    stage.run(replace(keeps_some, tip_share=5000))
    paid = native(stage, miner) - before
    assert kept // 2 <= paid <= kept // 2 + 10**15  # and the block's own fees
    assert native(stage, stage.address) == held
    assert stage.held("WETH") >= 5 * WAD + kept // 2 - 1


@pytest.mark.parametrize("code", ["5f5ffd", "5b5f56", "621000005ffd", "61c0005ffd"])
def test_a_producer_that_cannot_be_paid_undoes_nothing(stage, crashed, code) -> None:
    """It reverts, burns all gas it gets, or answers with a bomb: the tip stays as gain."""
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    sell_most = stage.swap("WETH", "USDC", amount=share_of_gain(WAD * 97 // 100))
    group = stage.group([stage.item(borrower, "USDC", half)], actions=(sell_most,))
    batch = replace(stage.batch(group), tip=WAD)
    stage.by_owner(owner_calls.encode_set_tip_cap(10**15))
    paid = stage.simulate(batch)
    assert paid.tip == 10**15
    miner = b"\x12" * 20
    stage.rpc("anvil_setCoinbase", "0x" + miner.hex())
    stage.rpc("anvil_setCode", "0x" + miner.hex(), "0x" + code)
    refused = stage.simulate(batch)
    assert refused.tip == 0
    assert refused.gains[0] == paid.gains[0] + paid.tip
    assert refused.groups[0].ok
    mined = stage.run(batch)
    (event,) = stage.events(mined)
    assert event.tip == 0
    assert native(stage, stage.address) == 0


def test_the_tip_needs_the_wrapped_token_listed(stage, crashed) -> None:
    (borrower,) = crashed(1, collateral="WBTC")
    half = stage.debt("USDC", borrower) // 2
    group = stage.group([stage.item(borrower, "USDC", half, -half)], collateral="WBTC", actions=())
    stage.net.give("USDC", stage.address, 2 * half)
    stage.by_owner(owner_calls.encode_set_budget(stage.token("USDC"), half))
    stage.by_owner(owner_calls.encode_set_tip_cap(WAD))
    stage.by_owner(owner_calls.encode_set_refill_cap(WAD))
    stage.net.give("WETH", stage.address, 5 * WAD)
    result = stage.simulate(replace(stage.batch(group), funds=(), tip=WAD, refill=WAD))
    assert (result.tip, result.refill) == (0, 0)


def test_operators_are_refilled_from_the_gain_up_to_the_days_cap(stage, crashed) -> None:
    borrowers = crashed(2)
    half = stage.debt("USDC", borrowers[0]) // 2
    actions = (stage.swap("WETH", "USDC", amount=share_of_gain(WAD * 97 // 100)),)

    def batch(borrower: bytes):
        group = stage.group([stage.item(borrower, "USDC", half)], actions=actions)
        return replace(stage.batch(group), refill=WAD)

    assert stage.simulate(batch(borrowers[0])).refill == 0
    cap = 6 * 10**16
    stage.by_owner(owner_calls.encode_set_refill_cap(cap))
    stage.net.give("WETH", stage.address, 5 * WAD)
    first = stage.simulate(batch(borrowers[0]))
    assert first.refill == cap
    assert first.gains[0] == stage.simulate(replace(batch(borrowers[0]), refill=0)).gains[0] - cap
    stage.run(batch(borrowers[0]))
    assert stage.simulate(batch(borrowers[1])).refill == 0
    stage.net.mine(1, DAY)
    assert stage.simulate(batch(borrowers[1])).refill == cap
    assert stage.held("WETH") > 5 * WAD


def test_usdt_is_repaid_and_sold_for(stage, crashed) -> None:
    borrowers = crashed(2, debt="USDT")
    half = stage.debt("USDT", borrowers[0]) // 2
    if {stage.token("WETH"), stage.token("USDT")} in [
        {p.token0, p.token1} for p in stage.net.uniswap.pools
    ]:
        actions = [stage.swap("WETH", "USDT")]
    else:
        actions = [stage.swap("WETH", "USDC"), stage.swap("USDC", "USDT")]
    group = stage.group(
        [stage.item(b, "USDT", half) for b in borrowers], debt="USDT", actions=tuple(actions)
    )
    batch = stage.batch(group, tokens=(stage.token("USDC"),))
    result = stage.simulate(batch)
    assert all(item.ok for item in result.items)
    assert result.groups[0].ok
    stage.run(batch)
    assert stage.held("USDT") > 0
    assert stage.allowance("USDT", stage.market.pool) == 0


def test_a_left_allowance_of_usdt_is_zeroed_first(stage, crashed) -> None:
    (borrower,) = crashed(1, debt="USDT")
    half = stage.debt("USDT", borrower) // 2
    stage.net.send(
        stage.address, stage.token("USDT"), "approve(address,uint256)", [stage.market.pool, 7]
    )
    stage.net.give("USDT", stage.address, 2 * half)
    item = stage.item(borrower, "USDT", half, -half)
    group = stage.group([item], debt="USDT", actions=())
    stage.by_owner(owner_calls.encode_set_budget(stage.token("USDT"), half))
    stage.run(replace(stage.batch(group), funds=()))
    assert stage.allowance("USDT", stage.market.pool) == 0


def test_a_token_that_charges_or_refuses_is_refused(stage, mock) -> None:
    token, venue = mock("token"), mock("venue")
    stage.by_owner(owner_calls.encode_allow(Address(venue), owner_calls.LIQUIDATION_CALL))
    stage.by_owner(owner_calls.encode_allow(Address(venue), owner_calls.AAVE_FLASH))
    net = stage.net
    for holder in (venue, stage.address):
        net.send(token, token, "mint(address,uint256)", [holder, 10**24])
    group = replace(
        stage.group(
            [Item(Address(b"\1" * 20), 10**18, 0, -(10**18))],
            collateral="WETH",
            debt="USDC",
            actions=(),
        ),
        pool=Address(venue),
        debt=Address(token),
        check=Check.NONE,
    )
    batch = replace(stage.batch(group), funds=())
    fund = replace(stage.aave_fund("USDC", 10**18), token=Address(token), source=Address(venue))
    flashed = replace(batch, funds=(fund,))
    reverts(stage, batch, "BalanceFell")
    net.send(token, token, "charge(uint256)", [100])
    reverts(stage, flashed, "BalanceFell")
    net.send(token, token, "charge(uint256)", [0])
    net.send(token, token, "freeze(address)", [stage.address])
    assert not stage.simulate(batch).items[0].ok


def test_the_event_tells_what_was_gained(stage, crashed) -> None:
    borrowers = crashed(2)
    half = stage.debt("USDC", borrowers[0]) // 2
    healthy = stage.net.borrowers(1, health=2.0, size_usd=20_000)[0]
    items = [stage.item(b, "USDC", half) for b in (borrowers[0], healthy, borrowers[1])]
    mined = stage.run(stage.batch(stage.group(items)))
    (event,) = stage.events(mined)
    assert event.operator == stage.operator
    assert (event.items, event.groups) == ((0, 2), (0,))
    assert event.gains == {stage.token("WETH"): 0, stage.token("USDC"): stage.held("USDC")}
    assert (event.tip, event.refill) == (0, 0)


def test_anyone_sweeps_to_the_treasury_what_is_not_kept(stage) -> None:
    net, usdc = stage.net, stage.token("USDC")
    net.give("USDC", stage.address, 1000)
    stage.by_owner(owner_calls.encode_set_budget(usdc, 0, 400))
    stage.send(owner_calls.encode_sweep(usdc), net.users[9].address)
    assert (stage.held("USDC"), net.balance(usdc, stage.treasury)) == (400, 600)
    stage.send(owner_calls.encode_sweep(usdc), net.users[9].address)
    assert stage.held("USDC") == 400
    stage.by_owner(owner_calls.encode_withdraw(usdc, 400))
    assert net.balance(usdc, stage.treasury) == 1000
    net.rpc("anvil_setBalance", "0x" + stage.address.hex(), hex(WAD))
    before = native(stage, stage.treasury)
    stage.send(owner_calls.encode_sweep(ZERO_ADDRESS), net.users[9].address)
    assert native(stage, stage.treasury) == before + WAD
    net.give("USDT", stage.address, 5)
    stage.send(owner_calls.encode_sweep(stage.token("USDT")), net.users[9].address)
    assert net.balance(stage.token("USDT"), stage.treasury) == 5


def test_a_builder_that_calls_back_gets_its_tip_and_nothing_else(stage, crashed, mock) -> None:
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    actions = (stage.swap("WETH", "USDC", amount=Amount(AmountMode.SHARE, WAD * 97 // 100)),)
    batch = replace(
        stage.batch(stage.group([stage.item(borrower, "USDC", half)], actions=actions)), tip=10**15
    )
    stage.by_owner(owner_calls.encode_set_tip_cap(10**15))
    builder = mock("builder")
    sweep = selector("sweep(address)") + encode(["address"], [stage.token("WETH")])
    stage.net.send(builder, builder, "arm(address,bytes)", [stage.address, sweep])
    stage.rpc("anvil_setCoinbase", "0x" + builder.hex())
    try:
        stage.run(batch)
    except RevertedError:
        return  # the stipend did not reach for both
    assert stage.net.call(builder, "ok()", returns=["bool"]) is False
    assert stage.held("WETH") > 0
