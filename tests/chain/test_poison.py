"""One borrower who brings a whole batch down, seen by nobody before the simulation."""

from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.types import Reason
from keeper.units import Address, to_hex
from tests.line import assert_clean, playing

pytestmark = pytest.mark.chain

REVERTS = "0x60006000fd"


@pytest.mark.parametrize("size", [(10_000, 20_000), (90_000, 99_000)])
async def test_one_poisoned_borrower_of_twenty_costs_only_himself(
    net: Devnet, tmp_path: Path, size: tuple[int, int]
) -> None:
    """His debt's token stops working in silence: no loan of it, and no batch that counts it, holds."""
    healthy = net.borrowers(19, health=1.03, size_usd=(30_000, 60_000), seed=31)
    (poisoned,) = net.borrowers(1, debt="DAI", health=1.03, size_usd=size, seed=32)

    def crash() -> None:
        net.rpc("anvil_setCode", to_hex(Address(net.tokens["DAI"].address)), REVERTS)
        net.set_price("WETH", net.price("WETH") * 93 // 100, move_pools=False)

    async with playing(net, tmp_path) as play:
        await play.stage.step(crash)
        (report,) = [report for report in play.stage.reports if report.plans]
        assert len(report.plans) == 1
        assert len(report.plans[0].quotes) == 20, "nothing told of it before"
        (sent,) = report.sent
        assert len(sent.quotes) == 19
        (skip,) = [skip for skip in report.skips if skip.borrower == poisoned]
        assert skip.reason is Reason.SIMULATION_FAILED
        assert skip.detail
        await play.stage.mine()
        play.assert_taken(healthy)
        assert play.tally.transactions == 1
        assert_clean(play.tally)
