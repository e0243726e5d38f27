"""The owner takes the pool's flash loans back: the next lender is asked, and nothing is lost."""

from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator
from keeper.planning.owner_calls import AAVE_FLASH
from keeper.types import FlashKind
from tests import line
from tests.line import assert_clean, playing

pytestmark = pytest.mark.chain


def without_loans(net: Devnet, lanes: int = 1) -> Operator:
    """Deploy an operator whose contract may liquidate in the pool, and not borrow from it."""
    operator = deploy_operator(net, lanes=lanes)
    pool = [net.market.pool, AAVE_FLASH]
    net.send(operator.owner, operator.contract, "disallow(address,bytes4)", pool)
    return operator


async def test_a_lender_without_the_owners_leave_is_passed_over(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "deploy_operator", without_loans)
    crowd = net.borrowers(4, health=1.03, size_usd=(8_000, 20_000), seed=41)
    async with playing(net, tmp_path) as play:
        await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 93 // 100))
        (plan,) = [plan for report in play.stage.reports for plan in report.sent]
        assert {quote.flash.kind for quote in plan.quotes} == {FlashKind.UNISWAP_V3}
        await play.stage.mine()
        play.assert_taken(crowd)
        assert_clean(play.tally)
