"""Two debt tokens in one batch: what one of them loses on the chain leaves the other as it was."""

from dataclasses import dataclass, replace

import pytest

from keeper.devnet.chain import MAX_FEE
from keeper.planning import owner_calls
from keeper.planning.encoding import Batch, Fund, FundKind, Minimum
from keeper.units import Address
from tests.bench.gas import estimate
from tests.chain.contract.stage import Stage, packed_call, reverts, selector
from tests.chain.flash_sources import deploy_morpho

pytestmark = pytest.mark.chain

LENDERS = (FundKind.AAVE, FundKind.MORPHO)


@dataclass(frozen=True)
class Pair:
    """Three debts of USDC and one of DAI in one batch, each token with its least gain."""

    stage: Stage
    batch: Batch
    dai_borrower: bytes
    dai_repay: int


@pytest.fixture(params=LENDERS, ids=lambda kind: kind.name.lower())
def pair(stage: Stage, crashed, request) -> Pair:
    """The DAI group stands first; its loan and that of USDC cost a premium from Aave, nothing from Morpho."""
    dai = stage.net.borrowers(1, debt="DAI", health=1.05, size_usd=20_000)[0]
    usdc = crashed(3)
    repay = stage.debt("DAI", dai) // 2
    groups = (
        stage.group(
            [stage.item(dai, "DAI", repay, 1)],
            debt="DAI",
            actions=(stage.swap("WETH", "USDC"), stage.swap("USDC", "DAI")),
        ),
        stage.group([stage.item(each, "USDC", stage.debt("USDC", each) // 2, 1) for each in usdc]),
    )
    minimums = (Minimum(stage.token("USDC"), 1), Minimum(stage.token("DAI"), 1))
    batch = stage.batch(*groups, tokens=(stage.token("USDC"),), minimums=minimums)
    if request.param is FundKind.MORPHO:
        lender = Address(deploy_morpho(stage.net))
        stage.by_owner(owner_calls.encode_allow(lender, owner_calls.MORPHO_FLASH))
        for symbol in ("USDC", "DAI"):
            stage.net.give(symbol, lender, 10**30)
        funds = [Fund(request.param, fund.token, fund.amount, lender) for fund in batch.funds]
    else:
        funds = [replace(fund, apart=True) for fund in batch.funds]
    return Pair(stage, replace(batch, funds=tuple(funds)), dai, repay)


def gains(pair: Pair, found: tuple[int, ...]) -> dict[Address, int]:
    return dict(zip(pair.batch.tokens, found, strict=True))


def test_both_tokens_hold_and_are_repaid(pair: Pair) -> None:
    result = pair.stage.simulate(pair.batch)
    assert all(item.ok for item in result.items), result
    found = gains(pair, result.gains)
    assert found[pair.stage.token("DAI")] > 0 < found[pair.stage.token("USDC")]
    # at the least that was asked for, and no wei below it
    for token, gain in found.items():
        if gain:
            exact = replace(pair.batch, minimums=(Minimum(token, gain),))
            assert pair.stage.simulate(exact).gains == result.gains
            reverts(
                pair.stage, replace(exact, minimums=(Minimum(token, gain + 1),)), "GainBelowMinimum"
            )
    mined = pair.stage.run(pair.batch)
    assert abs(estimate(pair.batch) - mined.gas_used) <= mined.gas_used // 10
    (event,) = pair.stage.events(mined)
    assert event.items == (0, 1, 2, 3)
    assert event.groups == (0, 1)
    for symbol in ("USDC", "DAI"):
        assert pair.stage.allowance(symbol, pair.stage.market.pool) == 0


def test_a_token_that_a_rival_took_in_the_same_block_costs_the_other_nothing(pair: Pair) -> None:
    stage = pair.stage
    stage.net.liquidate_as_rival(pair.dai_borrower, "WETH", "DAI", put=True, max_fee=2 * MAX_FEE)
    mined = stage.run(pair.batch)
    assert mined.index == 1
    (event,) = stage.events(mined)
    assert event.items == (1, 2, 3)
    assert event.gains[stage.token("DAI")] == 0 < event.gains[stage.token("USDC")]
    # no loan of it was taken
    transfers = [
        log for log in mined.logs if bytes.fromhex(log["address"][2:]) == stage.token("DAI")
    ]
    assert transfers == []


def test_a_token_that_fails_on_the_chain_only_costs_the_other_nothing(pair: Pair) -> None:
    stage = pair.stage
    healthy = stage.net.borrowers(1, debt="DAI", health=2.0, size_usd=20_000)[0]
    first, second = pair.batch.groups
    item = stage.item(healthy, "DAI", pair.dai_repay, 1)
    batch = replace(pair.batch, groups=(replace(first, items=(item,)), second))
    result = stage.simulate(batch)
    assert [each.ok for each in result.items] == [False, True, True, True], result
    found = gains(pair, result.gains)
    assert found[stage.token("DAI")] == 0 < found[stage.token("USDC")]
    if pair.batch.funds[0].apart:
        assert result.groups[0].reason == selector("LoanUnpaid()")
        assert result.items[0].undone
        nested = tuple(replace(fund, apart=False) for fund in batch.funds)
        with pytest.raises(Exception, match="revert"):
            stage.simulate(replace(batch, funds=nested))
    (event,) = stage.events(stage.run(batch))
    assert event.items == (1, 2, 3)
    assert event.gains[stage.token("DAI")] == 0
    for symbol in ("USDC", "DAI"):
        assert stage.allowance(symbol, stage.market.pool) == 0


def test_a_batch_of_which_nothing_holds_is_refused(pair: Pair) -> None:
    stage = pair.stage
    gone = [
        replace(group, items=tuple(replace(item, minimum_debt=2**120) for item in group.items))
        for group in pair.batch.groups
    ]
    reverts(stage, replace(pair.batch, groups=tuple(gone)), "GainBelowMinimum")


def test_too_little_gas_for_a_turn_undoes_everything(pair: Pair) -> None:
    first, second = pair.batch.groups
    hungry = replace(pair.batch, groups=(replace(first, group_gas=9_000_000), second))
    reverts(pair.stage, hungry, "Starved", gas=9_000_000)


def test_nobody_else_opens_a_turn(stage: Stage) -> None:
    data = packed_call("run_apart(bytes,uint256)", ["bytes", "uint256"], [bytes(64), 0])
    mined = stage.send(data, stage.operator, check=False)
    assert not mined.ok
