"""A stolen operator key cannot reduce a balance, create debt, leave an allowance or pass the tip cap."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from keeper.devnet.chain import Mined
from keeper.planning.encoding import BatchError, Protocol
from keeper.units import Address
from tests.chain.contract.malice import (
    BOUGHT,
    BUDGET,
    PRODUCER,
    REFILL_CAP,
    SOLD_PER_DAY,
    TIP_CAP,
    Attack,
    World,
    attacks,
    build,
    skew_pools,
)

pytestmark = [pytest.mark.chain, pytest.mark.timeout(300)]

EXAMPLES = 150
HOOKED = 11


def balances(world: World) -> dict[str, int]:
    """Return what the contract holds, native coin included."""
    stage = world.stage
    held = world.held
    calls = [(coin, "balanceOf(address)", [stage.address]) for coin in held.values()]
    found = stage.net.chain.call_many(calls, ["uint256"], "latest")
    native = int(stage.rpc("eth_getBalance", "0x" + stage.address.hex(), "latest"), 16)
    return dict(zip(held, found, strict=True)) | {"native": native}


def debts(world: World) -> list[int]:
    """Return the contract's debt in every reserve."""
    tokens = world.stage.net.tokens.values()
    calls = [(token.v_token, "balanceOf(address)", [world.stage.address]) for token in tokens]
    return world.stage.net.chain.call_many(calls, ["uint256"], "latest")


def allowances(world: World) -> list[int]:
    """Return what anyone could pull."""
    us = world.stage.address
    calls = [
        (coin, "allowance(address,address)", [us, spender])
        for coin in world.held.values()
        for spender in world.spenders
    ]
    return world.stage.net.chain.call_many(calls, ["uint256"], "latest")


def producer_holds(world: World) -> int:
    return int(world.stage.rpc("eth_getBalance", "0x" + PRODUCER.hex(), "latest"), 16)


def play(world: World, attack: Attack, before: dict[str, int], counts: Counter[str]) -> None:
    """Send one attack and check what must hold; a reverted one changed nothing."""
    net, stage = world.stage.net, world.stage
    hooked = world.venue in {by for by, *_ in attack.hooks}
    mode = HOOKED if hooked and attack.mode == 0 else attack.mode
    if mode:
        net.send(world.venue, world.venue, "set_mode(uint256)", [mode])
    if attack.fee_bps:
        net.send(world.token, world.token, "charge(uint256)", [attack.fee_bps])
    for by, target, data in attack.hooks:
        net.send(by, by, "arm(address,bytes)", [target, data], gas=16_000_000)
    for prey in attack.calls_for_all.values():
        net.send(world.venue, world.venue, "set_prey(address)", [prey])
        net.send(world.venue, world.venue, "set_owed(uint256)", [1])
    paid = producer_holds(world)
    mined = stage.send(attack.calldata(), stage.operator, check=False)
    counts["went through" if mined.ok else "reverted"] += 1
    if mined.ok:
        judge(world, attack, before, paid, counts, mined)
    if attack.sales:
        play_sales(world, attack, counts)


def judge(
    world: World,
    attack: Attack,
    before: dict[str, int],
    paid: int,
    counts: Counter[str],
    mined: Mined,
) -> None:
    """Check what must hold after a batch that went through."""
    net = world.stage.net
    after = balances(world)
    for kind in {
        type(action).__name__ for group in attack.batch.groups for action in group.actions
    }:
        counts[f"went through with {kind}"] += 1
    kept = {i for run in world.stage.events(mined) for i in run.groups}
    called = {i for i, group in enumerate(attack.batch.groups) if group.protocol is Protocol.CALL}
    counts["called items went through"] += bool(kept & called) and not attack.damage
    for_all = {
        i
        for i, group in enumerate(attack.batch.groups)
        if group.template is not None and group.template.together
    }
    counts["calls for all went through"] += bool(kept & for_all) and not attack.damage
    counts["gained"] += any(after[name] > before[name] for name in ("WETH", "USDC"))
    counts["hooks run"] += sum(net.call(by, "hook_ran()") for by in {by for by, *_ in attack.hooks})
    for name, held in before.items():
        allowed = BUDGET if name == "USDT" else 0
        assert after[name] >= held - allowed, f"{name} fell by {held - after[name]}"
    assert not any(debts(world)), "debt was created"
    assert not any(allowances(world)), "an allowance was left"
    tip = producer_holds(world) - paid
    assert tip <= TIP_CAP, f"a tip of {tip}"
    counts["tips"] += tip > 0


def play_sales(world: World, attack: Attack, counts: Counter[str]) -> None:
    """Send conversions and check each: one token falls, within the day's amount, for its floor."""
    stage = world.stage
    if attack.skew:
        skew_pools(world, attack.skew)
    sold: Counter[str] = Counter()
    refilled = 0
    weth = stage.token("WETH")
    for data in attack.sales:
        before = balances(world)
        mined = stage.send(data, stage.operator, check=False)
        if not mined.ok:
            counts["sales refused"] += 1
            counts["sales refused in a skewed pool"] += bool(attack.skew)
            continue
        after = balances(world)
        fell = {name: held - after[name] for name, held in before.items() if after[name] < held}
        # what is lent out earns interest meanwhile
        rose = {
            name: after[name] - held
            for name, held in before.items()
            if after[name] > held and name not in {"aWETH", "aUSDC"}
        }
        # a wallet's refill leaves as native coin out of what was bought
        paid = sum(
            int.from_bytes(raw[64:96], "big")
            for log in mined.logs
            if Address(bytes.fromhex(log["address"][2:])) == stage.address
            and len(raw := bytes.fromhex(log["data"][2:])) == 96
        )
        refilled += paid
        if not fell:
            assert not rose
            counts["sales of nothing"] += 1
            continue
        ((spend, amount),) = fell.items()
        sold[spend] += amount
        receive = BOUGHT[spend]
        assert set(rose) <= {receive}
        got = rose.get(receive, 0) + (paid if stage.token(receive) == weth else 0)
        assert sold[spend] <= SOLD_PER_DAY[spend], f"{sold[spend]} of {spend} sold"
        assert got * SOLD_PER_DAY[spend] >= amount * world.floors[spend], f"{got} for {amount}"
        counts[f"sales of {spend}"] += 1
        counts["refills from sales"] += paid > 0
    assert refilled <= REFILL_CAP
    assert not any(allowances(world)), "an allowance was left"
    assert not any(debts(world)), "debt was created"


def test_a_malicious_operator_takes_nothing(stage, mock, crashed) -> None:
    world = build(stage, mock, crashed)
    assert not any(allowances(world))
    before = balances(world)
    assert min(before.values()) > 0
    counts: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(attacks(world))
    def attacked(attack: Attack) -> None:
        try:
            attack.calldata()
        except BatchError:
            counts["not encodable"] += 1
            return
        shot = stage.net.snapshot()
        try:
            play(world, attack, before, counts)
        finally:
            stage.net.revert(shot)

    attacked()
    print("\n" + "\n".join(f"{count:5} {name}" for name, count in sorted(counts.items())))
    assert counts["went through"] >= EXAMPLES // 10
    assert counts["gained"] >= EXAMPLES // 20
    assert counts["hooks run"] >= 5
    assert counts["tips"] >= 3
    assert counts["called items went through"] >= 3
    assert counts["calls for all went through"] >= 3
    assert min(counts["sales of WETH"], counts["sales of USDC"]) >= 3
    assert counts["refills from sales"] >= 1
    assert counts["sales refused in a skewed pool"] >= 3
