"""A stolen operator key cannot reduce a balance, create debt, leave an allowance or pass the tip cap."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from keeper.planning.encoding import BatchError
from tests.chain.contract.malice import BUDGET, PRODUCER, TIP_CAP, Attack, World, attacks, build

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
    paid = producer_holds(world)
    mined = stage.send(attack.calldata(), stage.operator, check=False)
    counts["went through" if mined.ok else "reverted"] += 1
    if not mined.ok:
        return
    after = balances(world)
    for kind in {
        type(action).__name__ for group in attack.batch.groups for action in group.actions
    }:
        counts[f"went through with {kind}"] += 1
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
