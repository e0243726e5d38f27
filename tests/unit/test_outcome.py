"""What a replay sets against the chain's own liquidations."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from keeper.app.outcome import NOT_AT_RISK, Outcome
from keeper.app.settling import RIVAL, LocalSettlement
from keeper.engine import Report
from keeper.tape.records import Liquidation
from keeper.types import Dropped, Reverted
from keeper.units import Wei
from tests.plans import (
    CONTRACT,
    MARKET,
    USDC,
    WETH,
    Plans,
    address,
    block_hash,
    make_head,
    make_view,
)

RIVALS = Liquidation(
    market=MARKET,
    borrower=address("borrower"),
    debt=USDC.address,
    collateral=WETH.address,
    repaid=500,
    seized=1,
    liquidator=address("rival"),
    to=address("rival"),
    tx_hash=block_hash(1),
    block_number=101,
    tx_index=3,
    gas_used=400_000,
    gas_price=Wei(1),
)


def test_two_calls_of_one_transaction_for_one_pair_are_two_liquidations() -> None:
    outcome = Outcome("live")
    steps = [RIVALS, replace(RIVALS, repaid=250)]
    outcome.compare(steps, CONTRACT)
    assert [missed.liquidation for missed in outcome.missed] == steps


def test_a_transaction_that_comes_again_after_a_reorg_is_counted_once() -> None:
    outcome = Outcome("live")
    steps = [RIVALS, replace(RIVALS, repaid=250)]
    outcome.compare(steps, CONTRACT)
    outcome.compare([replace(each, block_number=102) for each in steps], CONTRACT)
    assert [missed.liquidation for missed in outcome.missed] == steps


def test_a_rival_s_liquidation_that_comes_again_closes_what_was_taken_once() -> None:
    nothing: Any = None
    settlement = LocalSettlement(CONTRACT, nothing, nothing)
    settlement._masks[MARKET, RIVALS.borrower] = Counter({USDC.address: 1_000})
    settlement.learn([RIVALS])
    settlement.learn([replace(RIVALS, block_number=102)])
    assert settlement.cooling(make_head(103)) == {(MARKET, RIVALS.borrower)}
    settlement.learn([replace(RIVALS, tx_hash=block_hash(2), block_number=104)])
    assert settlement.cooling(make_head(105)) == set()


def test_a_rival_of_a_block_that_is_no_more_takes_nothing_in_the_one_after_it() -> None:
    nothing: Any = None
    settlement = LocalSettlement(CONTRACT, nothing, nothing)
    settlement.coming(make_head(101))
    settlement.learn([RIVALS])
    settlement.coming(make_head(101))
    assert not settlement._history


@pytest.mark.parametrize("is_included", [True, False])
def test_a_plan_that_failed_whole_is_why_its_positions_were_missed(is_included: bool) -> None:
    outcome, view = Outcome("live"), make_view(make_head(100))
    plan = replace(Plans().make(RIVALS.borrower), head=view.head)
    outcome.decide(Report(view, sent=[plan]))
    failed: Dropped | Reverted = Dropped(plan.id, None, "the base fee was above its maximum")
    if is_included:
        failed = Reverted(plan.id, block_hash(9), 101, 50_000, Wei(1), RIVAL)
    outcome.decide(Report(make_view(make_head(101)), receipts=[failed]))
    outcome.compare([RIVALS], CONTRACT)
    outcome.compare([replace(RIVALS, tx_hash=block_hash(2), block_number=102)], CONTRACT)
    assert [missed.why for missed in outcome.missed] == [failed.reason, NOT_AT_RISK]
