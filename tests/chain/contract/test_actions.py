"""What a sale may do: calls with a patched amount, splits, wrapping, redeeming."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from keeper.planning import owner_calls
from keeper.planning.encoding import (
    GAINED,
    NATIVE,
    Call,
    Redeem,
    Unwrap,
    Wrap,
    exactly,
    share_of_gain,
)
from keeper.units import WAD, Address
from tests.chain.contract.stage import FAR, reverts, selector

pytestmark = pytest.mark.chain

INPUT = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
EXCHANGE = "exchange(address,address,uint256)"


@pytest.fixture
def sold(stage, crashed):
    """Return a batch of one item by its sale, simulated on a contract that holds other coins."""
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    item = stage.item(borrower, "USDC", half)

    def make(*actions, tokens=(), **more):
        return stage.batch(stage.group([item], actions=actions), tokens=tokens, **more)

    return make


def router_call(stage, recipient: bytes, **more) -> Call:
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    data = selector(INPUT) + encode(
        ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"],
        [(weth, usdc, stage.fee_of("WETH", "USDC"), recipient, FAR, 0, 0, 0)],
    )
    router = Address(stage.net.uniswap.router)
    return Call(router, data, weth, usdc, patch_at=4 + 5 * 32, **more)


def test_a_router_call_spends_exactly_what_was_gained(stage, sold) -> None:
    batch = sold(router_call(stage, stage.address))
    stage.net.give("WETH", stage.address, 7 * WAD)
    stage.net.give("USDC", stage.address, 10**12)
    assert stage.simulate(replace(batch, funds=())).groups[0].reason == selector("NotAllowed()")
    router = Address(stage.net.uniswap.router)
    stage.by_owner(owner_calls.encode_allow(router, selector(INPUT)))
    direct = stage.simulate(sold(stage.swap("WETH", "USDC"))).gains
    assert stage.simulate(batch).gains == direct
    stage.run(batch)
    assert stage.held("WETH") == 7 * WAD
    assert stage.allowance("WETH", router) == 0


def test_proceeds_sent_elsewhere_undo_the_group(stage, sold) -> None:
    stage.by_owner(owner_calls.encode_allow(Address(stage.net.uniswap.router), selector(INPUT)))
    batch = sold(router_call(stage, stage.operator))
    stage.net.give("USDC", stage.address, 10**12)
    reverts(stage, batch, "BalanceFell")  # the premium of a batch whose group was undone
    result = stage.simulate(replace(batch, funds=()))
    assert result.groups[0].reason == selector("GroupLoss(uint256[])")
    assert result.groups[0].gain < 0
    strict = sold(router_call(stage, stage.operator, minimum_received=1))
    assert stage.simulate(replace(strict, funds=())).groups[0].reason == selector(
        "ReceivedTooLittle()"
    )


def test_a_call_without_an_amount_and_an_approval_for_another_spender(stage, sold, mock) -> None:
    venue, spender = mock("venue"), mock("venue")
    usdc, weth = stage.token("USDC"), stage.token("WETH")
    stage.net.give("USDC", venue, 10**12)
    stage.by_owner(owner_calls.encode_allow(Address(venue), selector(EXCHANGE), Address(spender)))
    data = selector(EXCHANGE) + encode(["address", "address", "uint256"], [weth, usdc, 10**9])
    call = Call(Address(venue), data, weth, usdc, exactly(10**9))
    stage.net.give("USDC", stage.address, 10**12)
    batch = replace(sold(call), funds=())
    # The venue pulls for itself, which was not approved.
    assert not stage.simulate(batch).groups[0].ok
    stage.by_owner(owner_calls.encode_allow(Address(venue), selector(EXCHANGE)))
    sale = stage.swap("WETH", "USDC")
    result = stage.simulate(replace(sold(call, sale), funds=()))
    assert result.groups[0].ok, result
    assert result.gains[1] > 10**9 // 2


def test_a_token_as_target_must_be_listed(stage, sold, mock) -> None:
    """Unwrapping burns what the contract holds of the target: it must be in the snapshot."""
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    vault = Address(mock("vault", weth))
    maker = stage.net.users[8].address
    stage.net.give("WETH", maker, 9 * WAD)
    stage.net.send(maker, weth, "approve(address,uint256)", [vault, 9 * WAD])
    stage.net.send(maker, vault, "deposit(uint256,address)", [9 * WAD, stage.address])
    stage.by_owner(owner_calls.encode_allow(vault, selector("unwrap(uint256,address)")))
    data = selector("unwrap(uint256,address)") + encode(
        ["uint256", "address"], [9 * WAD, stage.operator]
    )
    stage.net.give("USDC", stage.address, 10**12)
    hidden = Call(vault, data, weth, usdc, exactly(1))
    batch = replace(sold(stage.swap("WETH", "USDC"), hidden), funds=())
    assert stage.simulate(batch).groups[0].reason == selector("TokenNotListed()")
    shown = replace(hidden, spend=vault)
    batch = replace(sold(stage.swap("WETH", "USDC"), shown, tokens=(vault,)), funds=())
    reverts(stage, batch, "BalanceFell")


def test_shares_of_a_vault_are_redeemed_to_us_only(stage, sold, mock) -> None:
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    vault = Address(mock("vault", weth))
    deposit = selector("deposit(uint256,address)")
    stage.by_owner(owner_calls.encode_allow(vault, deposit))
    into = Call(
        vault,
        deposit + encode(["uint256", "address"], [0, stage.address]),
        weth,
        vault,
        patch_at=4,
    )
    out = Redeem(vault, weth)
    batch = sold(into, out, stage.swap("WETH", "USDC"), tokens=(vault,))
    stage.net.give("USDC", stage.address, 10**12)
    held = stage.simulate(replace(batch, funds=()))
    assert held.groups[0].reason == selector("NotAllowed()")
    stage.by_owner(owner_calls.encode_allow(vault, owner_calls.VAULT_REDEEM))
    direct = stage.simulate(sold(stage.swap("WETH", "USDC"))).gains
    assert stage.simulate(batch).gains == (*direct, 0)
    raw = owner_calls.VAULT_REDEEM + encode(
        ["uint256", "address", "address"], [1, stage.operator, stage.address]
    )
    free = sold(into, Call(vault, raw, vault, usdc, exactly(1)), tokens=(vault,))
    assert stage.simulate(replace(free, funds=())).groups[0].reason == selector("NotAllowed()")


def test_native_coin_goes_in_and_out(stage, sold, mock) -> None:
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    direct = stage.simulate(sold(stage.swap("WETH", "USDC"))).gains
    round_trip = sold(Unwrap(weth), Wrap(weth), stage.swap("WETH", "USDC"))
    assert stage.simulate(round_trip).gains == direct
    venue = Address(mock("venue"))
    stage.net.give("USDC", venue, 10**13)
    stage.by_owner(owner_calls.encode_allow(venue, selector(EXCHANGE)))
    data = selector(EXCHANGE) + encode(["address", "address", "uint256"], [NATIVE, usdc, 0])
    paid = Call(venue, data, NATIVE, usdc, GAINED, patch_at=4 + 64)
    result = stage.simulate(sold(Unwrap(weth), paid))
    assert result.groups[0].ok
    stage.rpc("anvil_setBalance", "0x" + stage.address.hex(), hex(3 * WAD))
    stolen = replace(paid, amount=exactly(3 * WAD))
    reverts(stage, sold(stage.swap("WETH", "USDC"), stolen), "NativeFell")


def test_a_sale_is_split_by_shares_of_what_is_left(stage, sold) -> None:
    half = share_of_gain(WAD // 2)
    split = sold(stage.swap("WETH", "USDC", amount=half), stage.swap("WETH", "USDC"), tokens=())
    result, whole = stage.simulate(split), stage.simulate(sold(stage.swap("WETH", "USDC")))
    assert result.gains[0] == 0
    assert abs(result.gains[1] - whole.gains[1]) <= 2
    nothing = sold(stage.swap("WETH", "USDC"), stage.swap("WETH", "USDC"))
    stage.net.give("USDC", stage.address, 10**12)
    undone = stage.simulate(replace(nothing, funds=()))
    assert undone.groups[0].reason == selector("NothingGained()")


def test_the_balance_held_before_is_never_sold(stage, sold) -> None:
    batch = sold(stage.swap("WETH", "USDC"))
    alone = stage.simulate(batch).gains
    stage.net.give("WETH", stage.address, 50 * WAD)
    assert stage.simulate(batch).gains == alone
    greedy = sold(stage.swap("WETH", "USDC", amount=exactly(50 * WAD)))
    reverts(stage, greedy, "BalanceFell")
