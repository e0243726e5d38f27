"""What a replay sets against the chain's own liquidations."""

from dataclasses import replace

from keeper.app.outcome import Outcome
from keeper.tape.records import Liquidation
from keeper.units import Wei
from tests.plans import CONTRACT, MARKET, USDC, WETH, address, block_hash

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
