"""Groups that liquidate by an allowed call of any shape, built from a template."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from keeper.execution.bisect import Bisection
from keeper.execution.flight import Key
from keeper.planning import owner_calls
from keeper.planning.encoding import (
    Batch,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    Protocol,
    RunResult,
    Template,
    Wrap,
    explain_reason,
)
from keeper.units import WAD, Address
from tests.chain.contract.stage import FAR, Stage, reverts, selector

pytestmark = pytest.mark.chain

KEY = b"key".ljust(32, b"\0")
SEIZE = "seize(bytes32,address,uint256,uint256,uint256)"
TELL = "seize_or_tell(address,uint256)"
NATIVE = "seize_for_native(address)"
CLOSE = "close(address)"
CLOSE_ALL = "close_all(address[])"
SHAPED = Template(
    opening=selector(SEIZE) + KEY,
    middle=bytes(32),
    closing=(5).to_bytes(32, "big"),
    view=selector("position(bytes32,address)") + KEY,
    nth=1,
)
REPAY = 1_000 * 10**6
"""In a token of six decimals; the market pays twice as many units of collateral, which is dust."""


class Market:
    """A market of the mock: WETH pays for debts in USDC, or DAI for debts in WETH."""

    def __init__(self, stage: Stage, mock, debt: str, collateral: str) -> None:
        self.stage, self.debt, self.collateral = stage, debt, collateral
        debt_address, collateral_address = stage.token(debt), stage.token(collateral)
        self.address = Address(mock("lender", debt_address, collateral_address))
        stage.net.give(collateral, self.address, 10**24)
        self.borrowers = [Address(bytes([i]) * 20) for i in (1, 2, 3)]
        for borrower in self.borrowers:
            self.owe(borrower, 10**30)

    def owe(self, borrower: Address, amount: int) -> None:
        self.stage.net.chain.send(
            self.stage.owner, self.address, "owe(address,uint256)", [borrower, amount]
        )

    def allow(self, signature: str) -> None:
        self.stage.by_owner(owner_calls.encode_allow(self.address, selector(signature)))

    def group(self, template: Template, repay: int, **more) -> Group:
        more.setdefault("actions", ())
        more.setdefault("items", tuple(Item(b, repay, 1, -(10**27)) for b in self.borrowers))
        return Group(
            pool=self.address,
            collateral=self.stage.token(self.collateral),
            debt=self.stage.token(self.debt),
            item_gas=300_000,
            group_gas=1_500_000,
            debt_token=self.address if template.view else Address(bytes(20)),
            check=Check.VIEW if template.view else Check.NONE,
            protocol=Protocol.CALL,
            template=template,
            **more,
        )

    def batch(self, group: Group) -> Batch:
        total = sum(item.repay for item in group.items)
        funds = (Fund(FundKind.INVENTORY, group.debt, total),) if total else ()
        tokens = tuple(dict.fromkeys((group.collateral, group.debt)))
        return Batch(deadline=FAR, groups=(group,), funds=funds, tokens=tokens)


def native(stage: Stage) -> int:
    """Return what the liquidator holds of the native coin."""
    return int(stage.rpc("eth_getBalance", "0x" + stage.address.hex(), "latest"), 16)


@pytest.fixture
def market(stage, mock) -> Market:
    """USDC debts, WETH collateral, and an owner who lends the contract USDC for a day."""
    stage.net.give("USDC", stage.address, 10**12)
    usdc = stage.token("USDC")
    stage.by_owner(owner_calls.encode_set_budget(usdc, 10**12, 10**12))
    return Market(stage, mock, "USDC", "WETH")


def test_a_call_is_built_around_borrower_and_amount(stage, market) -> None:
    batch = market.batch(market.group(SHAPED, REPAY))
    assert stage.simulate(batch).groups[0].reason == selector("NotAllowed()")
    market.allow(SEIZE)
    market.owe(market.borrowers[1], 0)
    result = stage.simulate(batch)
    assert [item.ok for item in result.items] == [True, False, True]
    assert result.items[1].reason == selector("DebtBelowMinimum()")
    assert [item.gain for item in result.items] == [2 * REPAY, 0, 2 * REPAY]
    stage.run(batch)
    assert stage.held("WETH") == 4 * REPAY
    assert stage.held("USDC") == 10**12 - 2 * REPAY
    assert stage.allowance("USDC", market.address) == 0


def test_what_reverts_fails_alone(stage, market) -> None:
    market.allow(SEIZE)
    group = market.group(replace(SHAPED, view=b""), REPAY)
    market.owe(market.borrowers[0], REPAY - 1)
    result = stage.simulate(market.batch(group))
    assert [item.ok for item in result.items] == [False, True, True]
    assert result.items[0].reason == selector("NoReason()")


def test_nothing_is_lent_when_rivals_left_nothing(stage, market) -> None:
    market.allow(SEIZE)
    for borrower in market.borrowers:
        market.owe(borrower, 0)
    batch = replace(
        market.batch(market.group(SHAPED, REPAY)), funds=(stage.aave_fund("USDC", REPAY),)
    )
    result = stage.simulate(batch)
    assert {item.reason for item in result.items} == {selector("DebtBelowMinimum()")}
    assert result.groups[0].reason == selector("NothingLeft()")
    lent = stage.run(replace(batch, funds=())).gas_used
    assert stage.run(batch).gas_used <= lent + 2_000


def test_a_wrong_word_of_the_call_is_not_made_right(stage, market) -> None:
    market.allow(SEIZE)
    for template in (
        replace(SHAPED, opening=selector(SEIZE) + bytes(32)),
        replace(SHAPED, middle=b""),
        replace(SHAPED, closing=bytes(32)),
        replace(SHAPED, amount=False),
        replace(SHAPED, borrower=False),
    ):
        result = stage.simulate(market.batch(market.group(template, REPAY)))
        assert not any(item.ok for item in result.items), template


def test_a_debt_that_cannot_be_read_harms_no_other_token(stage, market, mock) -> None:
    """The second token's debts are asked for before its loan is taken."""
    market.allow(SEIZE)
    broken = Market(stage, mock, "DAI", "WETH")
    broken.allow(SEIZE)
    stage.net.give("DAI", stage.address, 10**30)
    group = broken.group(replace(SHAPED, view=selector("position(bytes32,address)") + bytes(32)), 1)
    good = market.batch(market.group(SHAPED, REPAY))
    funds = (*good.funds, Fund(FundKind.INVENTORY, group.debt, 3))
    batch = replace(
        good, groups=(*good.groups, group), funds=funds, tokens=(*good.tokens, group.debt)
    )
    assert all(item.ok for item in stage.simulate(replace(batch, groups=batch.groups[:1])).items)
    assert group.template is not None
    refused = replace(group, template=replace(group.template, closing=bytes(32)))
    result = stage.simulate(replace(batch, groups=(*good.groups, refused)))
    assert [item.ok for item in result.items] == [True] * 3 + [False] * 3
    assert result.items[3].reason == selector("NoReason()")


def test_an_error_that_does_not_revert_is_a_failure(stage, market) -> None:
    market.allow(TELL)
    market.owe(market.borrowers[2], REPAY - 1)
    group = market.group(Template(selector(TELL)), REPAY)
    result = stage.simulate(market.batch(group))
    assert [item.ok for item in result.items] == [True, True, False]
    assert result.items[2].reason == selector("NothingGained()")
    assert stage.run(market.batch(group)).logs
    assert stage.held("USDC") == 10**12 - 2 * REPAY


def test_native_repayment_comes_from_wrapped_and_the_rest_goes_back(stage, mock) -> None:
    market = Market(stage, mock, "WETH", "DAI")
    stage.net.give("WETH", stage.address, 10 * WAD)
    stage.by_owner(owner_calls.encode_set_budget(stage.token("WETH"), 10 * WAD, 10 * WAD))
    market.allow(NATIVE)
    market.owe(market.borrowers[1], 1)
    template = Template(selector(NATIVE), amount=False, value=True)
    batch = market.batch(market.group(template, WAD))
    result = stage.simulate(batch)
    assert [item.ok for item in result.items] == [True, False, True]
    stage.run(batch)
    assert stage.held("WETH") == 8 * WAD
    assert stage.held("DAI") == 4 * WAD
    assert native(stage) == 0
    usdc = Market(stage, mock, "USDC", "DAI")
    usdc.allow(NATIVE)
    stage.net.give("USDC", stage.address, 10**10)
    refused = stage.simulate(usdc.batch(usdc.group(template, REPAY)))
    assert refused.groups[0].reason == selector("BadBatch()")


def test_a_reward_in_native_coin_is_gained_and_wrapped(stage, mock) -> None:
    market = Market(stage, mock, "WETH", "WETH")
    stage.rpc("anvil_setBalance", "0x" + market.address.hex(), hex(WAD))
    stage.rpc("anvil_setBalance", "0x" + stage.address.hex(), hex(3 * WAD))
    market.allow(CLOSE)
    items = tuple(Item(b, 0, 0, 10**16) for b in market.borrowers)
    wrap = Wrap(stage.token("WETH"))
    template = Template(selector(CLOSE), amount=False, gainless=True)
    group = market.group(template, 0, items=items, actions=(wrap,))
    result = stage.simulate(market.batch(group))
    assert result.groups[0].ok
    assert result.groups[0].gain == 3 * 10**16
    poor = tuple(replace(item, minimum_gain=10**16 + 1) for item in items)
    lost = stage.simulate(market.batch(replace(group, items=poor)))
    assert lost.groups[0].reason == selector("GroupLoss(uint256[])")
    strict = replace(group, template=replace(template, gainless=False))
    failed = stage.simulate(market.batch(strict))
    assert {item.reason for item in failed.items} == {selector("NothingGained()")}
    stage.run(market.batch(group))
    assert stage.held("WETH") == 3 * 10**16
    assert native(stage) == 3 * WAD


@pytest.fixture
def crowd(stage, mock) -> Market:
    """Sixteen borrowers whom one call closes, each for a reward in native coin."""
    market = Market(stage, mock, "WETH", "WETH")
    stage.rpc("anvil_setBalance", "0x" + market.address.hex(), hex(WAD))
    market.allow(CLOSE_ALL)
    market.borrowers = [Address(bytes([i]) * 20) for i in range(1, 17)]
    for borrower in market.borrowers:
        market.owe(borrower, 5)
    return market


def closing_all(market: Market, borrowers: list[Address], group_gas: int = 3_000_000) -> Batch:
    """Return a batch of one call for all of them."""
    template = Template(
        selector(CLOSE_ALL),
        amount=False,
        gainless=True,
        together=True,
        view=selector("position(bytes32,address)") + KEY,
        nth=1,
    )
    items = tuple(Item(each, 0, 1) for each in borrowers)
    wrap = Wrap(market.stage.token("WETH"))
    group = market.group(template, 0, items=items, actions=(wrap,))
    return market.batch(replace(group, group_gas=group_gas))


async def test_one_who_fails_the_call_for_all_is_found_and_the_others_go_through(
    stage, crowd
) -> None:
    everyone = [("crowd", each) for each in crowd.borrowers]
    rotten = crowd.borrowers[5]
    stage.net.chain.send(stage.owner, crowd.address, "poison(address)", [rotten])

    def tried(some: Sequence[Key]) -> RunResult:
        found: RunResult = stage.simulate(closing_all(crowd, [who for _, who in some]))
        return found

    whole = tried(everyone)
    assert whole.groups[0].reason == selector("Poisoned()")
    assert all(item.undone for item in whole.items)

    async def holds(some: Sequence[Key]) -> str:
        result = tried(some)
        return explain_reason(result.groups[0].reason) if result.items[0].undone else ""

    bisection = Bisection(holds, 10)
    await bisection.search(everyone, "poisoned")
    assert list(bisection.culprits) == [("crowd", rotten)]
    assert bisection.left == []
    stage.run(closing_all(crowd, [who for _, who in bisection.held]))
    assert stage.held("WETH") == 15 * 10**16


def test_a_call_for_all_that_runs_out_of_gas_holds_for_half(stage, crowd) -> None:
    short = 550_000
    whole = stage.simulate(closing_all(crowd, crowd.borrowers, short))
    assert whole.groups[0].reason == selector("NoReason()")
    assert all(item.undone for item in whole.items)
    half = stage.simulate(closing_all(crowd, crowd.borrowers[:2], short))
    assert [item.ok for item in half.items] == [True, True]
    starved = stage.simulate(closing_all(crowd, crowd.borrowers[:2], 450_000))
    assert starved.groups[0].reason == selector("Starved()")


def test_a_call_that_has_a_place_of_its_own_is_refused(stage, market) -> None:
    pool = Address(stage.market.pool)
    for call in (owner_calls.LIQUIDATION_CALL, owner_calls.AAVE_FLASH):
        group = replace(market.group(Template(call), REPAY), pool=pool)
        result = stage.simulate(market.batch(group))
        assert result.groups[0].reason == selector("NotAllowed()")


def test_a_token_is_called_only_when_it_is_listed(stage, market, mock) -> None:
    share = Address(mock("token"))
    stage.by_owner(owner_calls.encode_allow(share, selector(TELL)))
    group = replace(market.group(Template(selector(TELL)), REPAY), pool=share)
    batch = market.batch(group)
    assert stage.simulate(batch).groups[0].reason == selector("TokenNotListed()")
    listed = stage.simulate(replace(batch, tokens=(*batch.tokens, share)))
    assert listed.groups[0].reason == selector("NothingLeft()")


def test_what_is_held_before_is_kept(stage, market) -> None:
    market.allow(SEIZE)
    stage.by_owner(owner_calls.encode_set_budget(stage.token("USDC"), 0, 0))
    batch = market.batch(market.group(SHAPED, REPAY))
    reverts(stage, batch, "BalanceFell")
