"""Morpho Blue and Balancer's vault stand on the local chain and lend for nothing."""

import pytest

from keeper.devnet import Cast, RevertedError
from tests.chain.flash_sources import deploy_balancer, deploy_morpho

pytestmark = pytest.mark.chain


def test_morpho_lends_only_to_a_contract_that_answers(net) -> None:
    morpho, usdc = deploy_morpho(net), net.tokens["USDC"].address
    assert bytes.fromhex(net.call(morpho, "owner()", returns=["address"])[2:]) == Cast.DEPLOYER
    net.give("USDC", morpho, 10**12)
    with pytest.raises(RevertedError):
        net.send(
            net.users[0].address, morpho, "flashLoan(address,uint256,bytes)", [usdc, 10**6, b""]
        )
    assert net.balance(usdc, morpho) == 10**12


def test_balancer_asks_no_fee_for_a_flash_loan(net) -> None:
    vault = deploy_balancer(net)
    weth = net.call(vault, "WETH()", returns=["address"])
    assert bytes.fromhex(weth[2:]) == net.tokens["WETH"].address
    collector = net.call(vault, "getProtocolFeesCollector()", returns=["address"])
    assert net.call(bytes.fromhex(collector[2:]), "getFlashLoanFeePercentage()") == 0
