"""Selling what the contract holds: by the owner's rule, and not a wei beyond."""

import pytest

from keeper.errors import RpcError
from keeper.planning import owner_calls
from keeper.planning.converting import read_rule
from keeper.types import CallResult
from keeper.units import WAD, Address
from tests.chain.contract.stage import Stage, selector

pytestmark = pytest.mark.chain

CAP = 10**17


def rule(stage: Stage, per_day: int = 2 * WAD, percent: int = 95) -> int:
    """Let operators sell WETH for USDC at so much of its price; return the floor of one."""
    least = stage.net.price("WETH") // 100 * percent // 100
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    data = owner_calls.encode_set_conversion(weth, usdc, per_day, least * per_day // WAD)
    stage.by_owner(data)
    return least


def sale(
    stage: Stage,
    amount: int,
    spend: str = "WETH",
    receive: str = "USDC",
    minimum: int = 0,
    refill: int = 0,
    factory: bytes | None = None,
) -> bytes:
    return owner_calls.encode_convert(
        Address(factory or stage.net.uniswap.factory),
        stage.fee_of("WETH", "USDC"),
        stage.token(spend),
        stage.token(receive),
        amount,
        minimum,
        refill,
    )


def refused(stage: Stage, data: bytes, name: str, sender: bytes | None = None) -> None:
    with pytest.raises(RpcError) as caught:
        stage.ask(data, sender or stage.operator)
    assert (caught.value.data or b"")[:4] == selector(f"{name}()")


def test_an_operator_sells_within_the_rule(stage: Stage) -> None:
    stage.net.give("WETH", stage.address, 5 * WAD)
    least = rule(stage)
    assert stage.send(sale(stage, WAD), stage.operator).ok
    assert stage.held("WETH") == 4 * WAD
    assert stage.held("USDC") >= least
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    answer = stage.ask(owner_calls.encode_conversions(weth, usdc), stage.operator)
    told = read_rule(CallResult(True, answer))
    now = stage.net.chain.timestamp()
    assert (told.per_day, told.sold, told.day) == (2 * WAD, WAD, now // 86_400)
    assert told.left(now) == WAD
    assert told.left(now + 86_400) == 2 * WAD
    # the day's amount, and a new day
    refused(stage, sale(stage, WAD + 1), "NotAllowed")
    assert stage.send(sale(stage, WAD), stage.operator).ok
    refused(stage, sale(stage, 1), "NotAllowed")
    stage.net.mine(1, 86_400)
    assert stage.send(sale(stage, WAD), stage.operator).ok
    assert stage.allowance("WETH", stage.net.uniswap.factory) == 0


def test_nothing_is_sold_without_a_rule_by_a_stranger_or_elsewhere(stage: Stage) -> None:
    stage.net.give("WETH", stage.address, 5 * WAD)
    refused(stage, sale(stage, WAD), "NotAllowed")
    rule(stage)
    for sender in (stage.owner, stage.treasury, stage.net.users[9].address):
        refused(stage, sale(stage, WAD), "NotOperator", sender)
    refused(stage, sale(stage, WAD, factory=stage.net.users[9].address), "NotAllowed")
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    stage.by_owner(owner_calls.encode_set_conversion(weth, usdc, 0, 0))
    refused(stage, sale(stage, WAD), "NotAllowed")


def test_below_the_floor_or_the_minimum_nothing_is_sold(stage: Stage) -> None:
    stage.net.give("WETH", stage.address, 5 * WAD)
    least = rule(stage, percent=101)
    refused(stage, sale(stage, WAD), "ReceivedTooLittle")
    rule(stage, percent=90)
    refused(stage, sale(stage, WAD, minimum=2 * least), "ReceivedTooLittle")
    assert stage.send(sale(stage, WAD), stage.operator).ok


def test_what_the_owner_keeps_is_not_sold(stage: Stage) -> None:
    stage.net.give("WETH", stage.address, 2 * WAD)
    rule(stage)
    stage.by_owner(owner_calls.encode_set_budget(stage.token("WETH"), 0, WAD + 1))
    refused(stage, sale(stage, WAD), "InventoryShort")
    assert stage.send(sale(stage, WAD - 1), stage.operator).ok


def test_a_rule_without_a_floor_is_no_rule(stage: Stage) -> None:
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    refused(stage, owner_calls.encode_set_conversion(weth, usdc, WAD, 0), "Refused", stage.owner)
    data = owner_calls.encode_set_conversion(weth, usdc, WAD, 1)
    refused(stage, data, "NotOwner")


def test_a_sale_for_native_coin_refills_gas_within_the_cap(stage: Stage) -> None:
    net = stage.net
    net.give("USDC", stage.address, 10_000 * 10**6)
    usdc, weth = stage.token("USDC"), stage.token("WETH")
    stage.by_owner(owner_calls.encode_set_conversion(usdc, weth, 10**10, 1))
    stage.by_owner(owner_calls.encode_set_refill_cap(CAP))
    data = sale(stage, 5_000 * 10**6, "USDC", "WETH", refill=WAD)
    before = int(stage.rpc("eth_getBalance", "0x" + stage.operator.hex(), "latest"), 16)
    mined = stage.send(data, stage.operator)
    after = int(stage.rpc("eth_getBalance", "0x" + stage.operator.hex(), "latest"), 16)
    receipt = stage.rpc("eth_getTransactionReceipt", "0x" + mined.hash.hex())
    gas = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert after - before + gas == CAP
    first = stage.held("WETH")
    assert first > WAD
    # the day's cap is used up: the next sale leaves everything on the contract
    before = after
    mined = stage.send(data, stage.operator)
    after = int(stage.rpc("eth_getBalance", "0x" + stage.operator.hex(), "latest"), 16)
    assert after < before
    assert stage.held("WETH") > 2 * first
