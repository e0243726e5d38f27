"""Gas, which is deterministic, stays under its targets, and planning's model near it."""

import pytest

from keeper.planning.encoding import FundKind
from keeper.planning.gas import run_gas_limit
from keeper.types import FlashKind
from tests.bench.gas import crash, estimate, figures, one_sale, sale_each

pytestmark = pytest.mark.chain


def test_the_targets_hold(net) -> None:
    found = figures(net)
    assert found["gas_per_liquidation_20"] <= 160_000
    assert found["gas_per_item_all_taken_20"] <= 25_000
    assert found["gas_per_liquidation_20"] < found["gas_bare_liquidation_call"]


@pytest.mark.parametrize(("kind", "reserves"), [("plain", 2), ("five", 5)])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_the_model_is_near_the_chain(stage, kind, reserves, n) -> None:
    batch = one_sale(stage, crash(stage, n, kind))
    used = stage.run(batch).gas_used
    assert abs(estimate(batch, reserves) - used) <= used // 10
    assert estimate(batch, [reserves] * n) == estimate(batch, reserves)


@pytest.mark.parametrize("fund", [FundKind.UNISWAP, FundKind.INVENTORY])
def test_the_model_knows_funds(stage, fund) -> None:
    batch = one_sale(stage, crash(stage, 5), fund)
    used = stage.run(batch).gas_used
    assert abs(estimate(batch) - used) <= used // 10


def test_the_limit_planned_with_starves_no_group(stage) -> None:
    batch = sale_each(stage, crash(stage, 5))
    free = stage.simulate(batch)
    limit = run_gas_limit([group.group_gas for group in batch.groups], [FlashKind.AAVE])
    assert limit < 16_000_000
    assert stage.simulate(batch, gas=limit) == free
    assert all(group.ok for group in free.groups)
    mined = stage.run(batch, gas=limit)
    assert abs(estimate(batch) - mined.gas_used) <= mined.gas_used // 10
    assert stage.held("USDC") > 0


@pytest.mark.parametrize("fund", [FundKind.AAVE, FundKind.UNISWAP])
def test_the_limit_planned_with_starves_no_large_group(stage, fund) -> None:
    """Each call around a group keeps a 64th: of millions that is more than a loan's own gas."""
    batch = one_sale(stage, crash(stage, 64), fund)
    kind = {FundKind.AAVE: FlashKind.AAVE, FundKind.UNISWAP: FlashKind.UNISWAP_V3}[fund]
    limit = run_gas_limit([group.group_gas for group in batch.groups], [kind])
    told = stage.simulate(batch, gas=limit)
    assert all(group.ok for group in told.groups)
    assert all(item.ok for item in told.items)
