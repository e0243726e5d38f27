"""The real Morpho Blue and Balancer vault fund batches, and lend to nobody in our name."""

from dataclasses import replace

import pytest

from keeper.devnet import RevertedError
from keeper.planning import owner_calls
from keeper.planning.encoding import Fund, FundKind, pack
from keeper.units import Address
from tests.bench.gas import crash, estimate, one_sale
from tests.chain.contract.stage import reverts
from tests.chain.flash_sources import deploy_balancer, deploy_morpho

pytestmark = pytest.mark.chain

LENDERS = [
    (FundKind.MORPHO, deploy_morpho, owner_calls.MORPHO_FLASH),
    (FundKind.BALANCER, deploy_balancer, owner_calls.BALANCER_FLASH),
]


@pytest.mark.parametrize(("kind", "deploy", "signature"), LENDERS)
def test_a_free_loan_costs_no_premium(stage, kind, deploy, signature) -> None:
    lender = Address(deploy(stage.net))
    usdc = stage.token("USDC")
    stage.net.give("USDC", lender, 10**12)
    batch = one_sale(stage, crash(stage, 5))
    premium = stage.simulate(batch).gains[1]
    (loan,) = batch.funds
    batch = replace(batch, funds=(Fund(kind, usdc, loan.amount, lender),))
    reverts(stage, batch, "NotAllowed")
    stage.by_owner(owner_calls.encode_allow(lender, signature))
    result = stage.simulate(batch)
    assert all(item.ok for item in result.items)
    assert result.gains[1] == result.groups[0].gain > premium
    mined = stage.run(batch)
    assert abs(estimate(batch) - mined.gas_used) <= mined.gas_used // 10
    assert stage.net.balance(usdc, lender) == 10**12
    assert stage.allowance("USDC", lender) == 0
    reverts(stage, replace(batch, deadline=0), "Expired")


def test_both_lend_in_one_batch(stage) -> None:
    morpho, vault = Address(deploy_morpho(stage.net)), Address(deploy_balancer(stage.net))
    usdc = stage.token("USDC")
    for lender, signature in (
        (morpho, owner_calls.MORPHO_FLASH),
        (vault, owner_calls.BALANCER_FLASH),
    ):
        stage.net.give("USDC", lender, 10**12)
        stage.by_owner(owner_calls.encode_allow(lender, signature))
    batch = one_sale(stage, crash(stage, 2))
    half = batch.funds[0].amount // 2 + 1
    funds = (
        Fund(FundKind.MORPHO, usdc, half, morpho),
        Fund(FundKind.BALANCER, usdc, half, vault),
    )
    result = stage.simulate(replace(batch, funds=funds))
    assert result.gains[1] == result.groups[0].gain > 0


def test_a_third_partys_balancer_loan_to_us_is_refused(stage) -> None:
    vault = deploy_balancer(stage.net)
    usdc = stage.token("USDC")
    stage.net.give("USDC", vault, 10**12)
    stage.net.give("USDC", stage.address, 10**12)
    stage.by_owner(owner_calls.encode_allow(Address(vault), owner_calls.BALANCER_FLASH))
    payload = pack(one_sale(stage, crash(stage, 1)))
    with pytest.raises(RevertedError):
        stage.net.send(
            stage.operator,
            vault,
            "flashLoan(address,address[],uint256[],bytes)",
            [stage.address, [usdc], [10**9], payload],
        )
    assert stage.held("USDC") == 10**12
