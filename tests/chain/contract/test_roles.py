"""Who may do what, and what nobody may ever allow."""

import pytest

from keeper.devnet import RevertedError
from keeper.errors import RpcError
from keeper.planning import owner_calls
from keeper.planning.encoding import encode_run
from keeper.units import ZERO_ADDRESS, Address
from tests.chain.contract.stage import reverts, selector

pytestmark = pytest.mark.chain

REFUSED = (
    "approve(address,uint256)",
    "increaseAllowance(address,uint256)",
    "transfer(address,uint256)",
    "transferFrom(address,address,uint256)",
    "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
    "setApprovalForAll(address,bool)",
    "borrow(address,uint256,uint256,uint16,address)",
    "borrow(uint256)",
    "withdraw(address,uint256,address)",
    "withdraw(uint256)",
    "setUserUseReserveAsCollateral(address,bool)",
    "approveDelegation(address,uint256)",
    "flashLoan(address,address[],uint256[],uint256[],address,bytes,uint16)",
    "multicall(bytes[])",
    "repayWithATokens(address,uint256,uint256)",
    "setAuthorization(address,bool)",
    "decreaseAllowance(address,uint256)",
    "increaseApproval(address,uint256)",
    "approveAndCall(address,uint256,bytes)",
    "transferAndCall(address,uint256)",
    "transferFromAndCall(address,address,uint256)",
    "safeTransferFrom(address,address,uint256,uint256,bytes)",
    "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)",
    "send(address,uint256,bytes)",
    "operatorSend(address,address,uint256,bytes,bytes)",
    "permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)",
    "permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)",
    "setOperator(address,bool)",
    "setRelayerApproval(address,address,bool)",
    "transferOwnership(address)",
    "borrow(bytes32)",
    "withdraw(bytes32)",
    "repayWithATokens(bytes32)",
    "liquidationCall(bytes32,bytes32)",
    "setUserUseReserveAsCollateral(bytes32)",
    "setUserUseReserveAsCollateralOnBehalfOf(address,bool,address)",
    "withdrawETH(address,uint256,address)",
    "transferAsset(address,address,uint256)",
    "manageUserBalance((uint8,address,uint256,address,address)[])",
    "exitPool(bytes32,address,address,(address[],uint256[],bytes,bool))",
    "requestRedeem(uint256,address,address)",
    "call(address,address,uint256,bytes)",
    "batch((address,address,uint256,bytes)[])",
)


def refused(stage, data: bytes, sender: bytes, name: str) -> None:
    with pytest.raises(RpcError) as caught:
        stage.ask(data, sender)
    assert caught.value.data == selector(f"{name}()")


def test_only_listed_operators_run(stage, crashed) -> None:
    (borrower,) = crashed(1)
    batch = stage.batch(stage.group([stage.item(borrower, "USDC", 10**9)]))
    for sender in (stage.owner, stage.treasury, stage.net.users[9].address):
        reverts(stage, batch, "NotOperator", sender=sender)
    stage.by_owner(owner_calls.encode_set_operator(Address(stage.operator), False))
    reverts(stage, batch, "NotOperator")
    stage.by_owner(owner_calls.encode_set_operator(Address(stage.treasury), True))
    assert stage.run(batch, sender=stage.treasury).ok


def test_a_batch_past_its_deadline_reverts(stage, crashed) -> None:
    (borrower,) = crashed(1)
    group = stage.group([stage.item(borrower, "USDC", 10**9)])
    now = stage.net.chain.timestamp()
    reverts(stage, stage.batch(group, deadline=now - 1), "Expired")
    assert stage.run(stage.batch(group, deadline=now + 60)).ok


def test_every_owner_function_refuses_everyone_else(stage) -> None:
    a = Address(stage.operator)
    calls = (
        owner_calls.encode_allow(a, b"\1\2\3\4"),
        owner_calls.encode_disallow(a, b"\1\2\3\4"),
        owner_calls.encode_set_factory(a, b"\1" * 32),
        owner_calls.encode_set_operator(a, True),
        owner_calls.encode_set_budget(a, 1, 1),
        owner_calls.encode_set_treasury(a),
        owner_calls.encode_set_tip_cap(1),
        owner_calls.encode_set_refill_cap(1),
        owner_calls.encode_transfer_ownership(a),
        owner_calls.encode_withdraw(a, 0),
    )
    for data in calls:
        for sender in (stage.operator, stage.treasury):
            refused(stage, data, sender, "NotOwner")
    refused(stage, owner_calls.encode_accept_ownership(), stage.owner, "NotOwner")


def test_ownership_moves_in_two_steps(stage) -> None:
    heir = Address(stage.net.users[7].address)
    stage.by_owner(owner_calls.encode_transfer_ownership(heir))
    stage.by_owner(owner_calls.encode_set_tip_cap(5))
    stage.send(owner_calls.encode_accept_ownership(), heir)
    refused(stage, owner_calls.encode_set_tip_cap(6), stage.owner, "NotOwner")
    refused(stage, owner_calls.encode_accept_ownership(), heir, "NotOwner")
    stage.send(owner_calls.encode_set_tip_cap(7), heir)
    assert int.from_bytes(stage.ask(owner_calls.encode_tip_cap(), heir), "big") == 7


@pytest.mark.parametrize("signature", REFUSED)
def test_calls_that_could_take_what_is_held_can_never_be_allowed(stage, signature) -> None:
    data = owner_calls.encode_allow(Address(stage.market.pool), selector(signature))
    refused(stage, data, stage.owner, "Refused")


def test_the_contract_itself_can_never_be_a_target(stage) -> None:
    run = encode_run.__globals__["RUN"]
    refused(stage, owner_calls.encode_allow(stage.address, run), stage.owner, "Refused")
    refused(stage, owner_calls.encode_allow(ZERO_ADDRESS, run), stage.owner, "Refused")
    pool = Address(stage.market.pool)
    refused(stage, owner_calls.encode_allow(pool, run, stage.address), stage.owner, "Refused")


def test_an_address_without_code_can_never_be_a_target(stage) -> None:
    nobody = Address(stage.net.users[9].address)
    call = owner_calls.encode_allow(nobody, owner_calls.LIQUIDATION_CALL)
    refused(stage, call, stage.owner, "Refused")


def test_what_is_not_allowed_undoes_the_group_or_the_batch(stage, crashed) -> None:
    (borrower,) = crashed(1)
    batch = stage.batch(stage.group([stage.item(borrower, "USDC", 10**9)]))
    pool, factory = Address(stage.market.pool), Address(stage.net.uniswap.factory)
    flash = owner_calls.AAVE_FLASH
    stage.by_owner(owner_calls.encode_disallow(pool, flash))
    reverts(stage, batch, "NotAllowed")
    stage.by_owner(owner_calls.encode_allow(pool, flash))
    stage.by_owner(owner_calls.encode_set_factory(factory, bytes(32)))
    stage.net.give("USDC", stage.address, 10**9)  # pays the premium of the batch that does nothing
    stage.by_owner(owner_calls.encode_set_budget(stage.token("USDC"), 10**9))
    assert stage.simulate(batch).groups[0].reason == selector("NotAllowed()")
    stage.by_owner(owner_calls.encode_disallow(pool, owner_calls.LIQUIDATION_CALL))
    assert stage.simulate(batch).groups[0].reason == selector("NotAllowed()")


def test_readings_tell_what_was_set(stage) -> None:
    pool, anyone = Address(stage.market.pool), stage.treasury

    def word(data: bytes) -> int:
        return int.from_bytes(stage.ask(data, anyone), "big")

    assert word(owner_calls.encode_owner()) == int.from_bytes(stage.owner, "big")
    assert word(owner_calls.encode_pending_owner()) == 0
    assert word(owner_calls.encode_treasury()) == int.from_bytes(stage.treasury, "big")
    weth = int.from_bytes(stage.token("WETH"), "big")
    assert word(owner_calls.encode_wrapped_native()) == weth
    assert word(owner_calls.encode_is_allowed(pool, owner_calls.AAVE_FLASH)) == 1
    assert word(owner_calls.encode_is_allowed(pool, b"\1\2\3\4")) == 0
    spender = word(owner_calls.encode_spender_of(pool, owner_calls.AAVE_FLASH))
    assert spender == int.from_bytes(pool, "big")
    assert word(owner_calls.encode_operators(Address(stage.operator))) == 1
    assert word(owner_calls.encode_factories(Address(stage.net.uniswap.factory))) > 0
    stage.by_owner(owner_calls.encode_set_budget(pool, 11, 12))
    stage.by_owner(owner_calls.encode_set_refill_cap(13))
    assert word(owner_calls.encode_budgets(pool)) == 11
    assert word(owner_calls.encode_kept(pool)) == 12
    assert word(owner_calls.encode_refill_cap()) == 13
    assert word(owner_calls.encode_spent(pool, 0)) == word(owner_calls.encode_refilled(0)) == 0


def test_unknown_functions_are_refused_and_native_coin_is_taken(stage) -> None:
    with pytest.raises(RevertedError):
        stage.send(b"\xde\xad\xbe\xef", stage.operator)
    assert stage.send(b"", stage.operator).ok
