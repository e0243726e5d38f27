"""Troves of the real mUSD, from a price to a receipt, through the batch contract and without capital."""

from dataclasses import replace
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from keeper.chain import parse
from keeper.devnet import Devnet
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.musd import Musd, deploy_musd
from keeper.devnet.operator import deploy_operator
from keeper.planning.batch import Batch, Check, Group, Item, Protocol, Template, Wrap
from keeper.planning.decoding import RunEvent, RunResult, decode_receipt_logs
from keeper.planning.encoding import encode_run
from keeper.planning.planner import Planner
from keeper.planning.settle import Settled, settle_plan
from keeper.protocols.liquity_v1.market import LIQUIDATE
from keeper.types import Plan, Reason
from keeper.units import USD, WAD, Address, to_hex
from tests.line import assert_clean
from tests.musd import open_pool, owner, playing_musd

pytestmark = pytest.mark.chain

PRICE = 2_500 * WAD
WHALE = owner(0)


@pytest.fixture
def musd(net: Devnet) -> Musd:
    """MUSD with a large trove, a pool that buys the coin for mUSD, and deposits for some debts."""
    system = deploy_musd(net.chain, PRICE)
    net.rpc("anvil_setBalance", "0x" + WHALE.hex(), hex(10**23))
    system.set_price(PRICE)
    net.chain.send_all([system.opening(WHALE, 4_000 * WAD, 3_000_000 * WAD)])
    open_pool(net, system, WHALE, PRICE, 1_000_000)
    system.deposit(WHALE, 60_000 * WAD)
    return system


def crowd(musd: Musd, count: int, debt: int, percent: int, first: int) -> list[bytes]:
    """Open troves of so much mUSD at a ratio in percent."""
    owners = [owner(first + number) for number in range(count)]
    coins = (debt * 1001 // 1000 + 200) * WAD * percent * WAD // (100 * PRICE) + 1
    musd.set_price(PRICE)
    musd.chain.send_all([musd.opening(each, coins, debt * WAD) for each in owners])
    return owners


def open_of(net: Devnet, musd: Musd, owners: list[bytes]) -> list[bytes]:
    calls = [(musd.manager, "getTroveStatus(address)", [each]) for each in owners]
    status = net.chain.call_many(calls, ["uint8"], "latest")
    return [each for each, open_ in zip(owners, status, strict=True) if open_ == 1]


@pytest.mark.parametrize("count", [1, 20, 50])
async def test_troves_under_their_ratio_are_liquidated_and_pay(
    net: Devnet, musd: Musd, tmp_path: Path, count: int
) -> None:
    taken = crowd(musd, count, 12_000, 113, 100)
    tiny = crowd(musd, 2, 2_000, 113, 800)
    safe = crowd(musd, 3, 4_000, 140, 900)
    async with playing_musd(net, musd, tmp_path, minimum_profit_usd=230) as play:
        await play.stage.step(lambda: musd.set_price(PRICE * 96 // 100))
        await play.stage.mine(3)
        play.assert_taken(taken)
        assert_clean(play.tally)
        assert play.reasons(tiny) == {Reason.UNPROFITABLE}
        assert open_of(net, musd, [*taken, *tiny, *safe]) == [*tiny, *safe]
        assert await play.audit() == []
        # The reserve of 200 and half a percent of 13,000 dollars each, less gas.
        assert 240 * USD * count < play.tally.net_usd < 280 * USD * count


@pytest.mark.parametrize(("count", "deposits", "pending"), [(1, 6_000, False), (20, 200_000, True)])
async def test_what_troves_are_planned_to_take_is_a_bound_and_near(
    net: Devnet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    deposits: int,
    pending: bool,
) -> None:
    """One that the pool pays in part is the dearest alone; in a crowd, those who owe for others."""
    system = deploy_musd(net.chain, PRICE)
    net.rpc("anvil_setBalance", "0x" + WHALE.hex(), hex(10**23))
    system.set_price(PRICE)
    net.chain.send_all([system.opening(WHALE, 4_000 * WAD, 3_000_000 * WAD)])
    open_pool(net, system, WHALE, PRICE, 1_000_000)
    taken = crowd(system, count, 12_000, 113, 100)
    if pending:
        (gone,) = crowd(system, 1, 12_000, 113, 300)
        system.set_price(PRICE * 96 // 100)
        net.send(WHALE, system.manager, "liquidate(address)", [gone])
        system.set_price(PRICE)
    system.deposit(WHALE, deposits * WAD)
    proved: list[tuple[int, int, int]] = []

    def settled(_: Planner, plan: Plan, gas_used: int, result: RunResult) -> Settled:
        proved.append((len(plan.quotes), plan.gas, gas_used))
        return settle_plan(plan, gas_used, result)

    monkeypatch.setattr(Planner, "settle", settled)
    async with playing_musd(net, system, tmp_path, minimum_profit_usd=230) as play:
        await play.stage.step(lambda: system.set_price(PRICE * 96 // 100))
        await play.stage.mine(2)
        play.assert_taken(taken)
        assert_clean(play.tally)
    print(proved)
    assert {troves for troves, *_ in proved} == {count}
    for _, planned, used in proved:
        assert used < planned < used * 5 // 4


def poison(net: Devnet, musd: Musd, who: bytes) -> None:
    """Give a trove more stake than all have: taking it from their sum, as a liquidation does, fails."""
    stake = net.call(musd.manager, "getTroveStake(address)", [who])
    asked = {"to": to_hex(musd.manager), "data": to_hex(calldata("getTroveStake(address)", [who]))}
    read = {
        (entry["address"], slot)
        for entry in net.rpc("eth_createAccessList", asked, "latest")["accessList"]
        for slot in entry["storageKeys"]
    }
    ((where, slot),) = (
        each for each in read if int(net.rpc("eth_getStorageAt", *each, "latest"), 16) == stake
    )
    net.rpc("anvil_setStorageAt", where, slot, f"0x{2**128:064x}")


async def test_one_trove_that_fails_the_call_keeps_nobody_back(
    net: Devnet, musd: Musd, tmp_path: Path
) -> None:
    everyone = crowd(musd, 6, 12_000, 113, 100)
    rotten = everyone[3]
    async with playing_musd(net, musd, tmp_path) as play:
        poison(net, musd, rotten)
        await play.stage.step(lambda: musd.set_price(PRICE * 96 // 100))
        await play.stage.mine(2)
        play.assert_taken([who for who in everyone if who != rotten])
        assert play.tally.reverted == 0
        assert play.tally.transactions == 1
        assert play.reasons([rotten]) == {Reason.SIMULATION_FAILED}
    musd.set_price(PRICE * 96 // 100)
    assert not net.send(WHALE, musd.manager, "liquidate(address)", [rotten], check=False).ok


async def test_nobody_is_judged_at_a_stale_price(net: Devnet, musd: Musd, tmp_path: Path) -> None:
    (who,) = crowd(musd, 1, 4_000, 113, 100)
    async with playing_musd(net, musd, tmp_path) as play:
        await play.stage.step(lambda: net.mine(seconds=61))
        assert play.reasons([who]) == {Reason.NO_PRICE}
        assert play.tally.transactions == 0


async def test_a_batch_leaves_out_whom_the_system_does_and_says_so(
    net: Devnet, musd: Musd, tmp_path: Path
) -> None:
    """One call for all: a trove a rival closed first, and one that is healthy by then, cost nothing."""
    taken = crowd(musd, 3, 12_000, 113, 100)
    (healthy,) = crowd(musd, 1, 12_000, 140, 200)
    (gone,) = crowd(musd, 1, 12_000, 113, 300)
    operator = deploy_operator(net)
    args = [musd.manager, LIQUIDATE, musd.manager]
    net.send(operator.owner, operator.contract, "allow(address,bytes4,address)", args)
    musd.set_price(PRICE * 96 // 100)
    net.send(WHALE, musd.manager, "liquidate(address)", [gone])
    weth = Address(net.tokens["WETH"].address)
    items = [Item(Address(each), 0, minimum_debt=10**18) for each in (*taken, healthy, gone)]
    view = keccak(b"getTroveDebt(address)")[:4]
    template = Template(LIQUIDATE, amount=False, gainless=True, together=True, view=view)
    group = Group(
        pool=Address(musd.manager),
        collateral=weth,
        debt=Address(musd.token),
        items=tuple(items),
        actions=(Wrap(weth),),
        item_gas=1_200_000,
        group_gas=5_000_000,
        debt_token=Address(musd.manager),
        check=Check.VIEW,
        protocol=Protocol.CALL,
        template=template,
    )

    def sent(*groups: Group) -> RunEvent:
        musd.set_price(PRICE * 96 // 100)
        data = encode_run(Batch(deadline=2**40, tokens=(weth, Address(musd.token)), groups=groups))
        sender, contract = operator.wallet.address, operator.contract
        (mined,) = net.chain.send_all([Transaction(sender, contract, data, 0, 9_000_000)])
        logs = parse.logs(list(mined.logs))
        (event,) = decode_receipt_logs(logs, contract)
        return event

    before = net.balance(musd.token, operator.contract), net.balance(weth, operator.contract)
    event = sent(group)
    assert event.items == (0, 1, 2)
    assert open_of(net, musd, [*taken, healthy, gone]) == [healthy]
    assert net.balance(musd.token, operator.contract) - before[0] == 3 * 200 * WAD
    assert net.balance(weth, operator.contract) > before[1]
    # Nobody is left that may be liquidated: the call reverts, and the batch ends without it.
    assert sent(replace(group, items=tuple(items[3:]))).items == ()
    # Less gas than one may take is no reason to try.
    crowd(musd, 1, 12_000, 113, 400)
    starved = replace(
        group, items=(Item(Address(owner(400)), 0, minimum_debt=1),), group_gas=1_500_000
    )
    assert sent(starved).items == ()
    assert open_of(net, musd, [owner(400)]) == [owner(400)]
