"""One borrower under water in Aave and in Venus, and one of the two calls fails on the chain alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.devnet.venus import deploy_venus
from keeper.types import Included, Reason
from keeper.units import Address, to_hex
from tests.chain.test_compound_line import playing
from tests.line import assert_clean

pytestmark = pytest.mark.chain

REVERTS = "0x60006000fd"
USD = 20_000


@pytest.fixture
def net(devnet: Devnet) -> Iterator[Devnet]:
    """The chain, set back to where it was when the test ends."""
    before = devnet.snapshot()
    yield devnet
    devnet.revert(before)


async def test_the_other_position_goes_through_and_is_booked_right(
    net: Devnet, tmp_path: Path
) -> None:
    """Venus' liquidator contract stops working in silence: nobody reads it before the simulation."""
    venus = deploy_venus(net.chain, net.market, lambda _: None)
    (who,) = net.borrowers(1, health=1.02, size_usd=(USD, USD), seed=51)
    amount = USD * 10**8 * 10**18 // net.price("WETH")
    net.rpc("anvil_setBalance", to_hex(Address(who)), hex(amount + 10**19))
    loan = venus.borrow(who, "USDC", USD * 10**6 * 80 * 995 // 100_000)
    net.chain.send_all([*venus.supply(who, "WETH", amount), loan])

    def crash() -> None:
        net.rpc("anvil_setCode", to_hex(Address(venus.liquidator)), REVERTS)
        net.set_price("WETH", net.price("WETH") * 95 // 100)

    async with playing(net, tmp_path, venus) as play:
        await play.stage.step(crash)
        (report,) = [report for report in play.stage.reports if report.plans]
        (planned,), (sent,) = report.plans, report.sent
        markets = {quote.opportunity.position.market for quote in planned.quotes}
        assert len(markets) == 2, "one batch was to take both"
        (quote,) = sent.quotes
        assert quote.opportunity.position.protocol == "aave-v3"
        (skip,) = [skip for skip in report.skips if skip.borrower == who]
        assert (skip.market, skip.reason) == ("venus", Reason.SIMULATION_FAILED)
        await play.stage.mine()
        (event,) = [each for each in play.stage.events if each.name == "plan.included"]
        receipt = event.fields["receipt"]
        assert isinstance(receipt, Included)
        assert [(item.key, item.ok) for item in receipt.items] == [(quote.key, True)]
        play.count()
        assert_clean(play.tally)
