"""One borrower under water in two markets: what happens to one position says nothing of the other."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from keeper.execution.failed import Failed
from keeper.execution.prove import Prover
from keeper.execution.recheck import Recheck
from keeper.execution.settlement import item_outcomes
from keeper.execution.simulate import Simulator
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import ChainLabels, Metrics
from keeper.planning.contest import Contest
from keeper.planning.decoding import GroupResult, ItemResult, RunEvent, RunResult, decode_run
from keeper.planning.fitting import apart
from keeper.planning.planner import Planner
from keeper.planning.reasons import UNDONE, explain_reason
from keeper.planning.rules import PlanRules
from keeper.planning.settle import settle_plan
from keeper.risk import Limits, Risk
from keeper.types import Bid, Included, Plan, PoolLiquidation, Prices, Reason, View
from keeper.units import USD, ZERO_ADDRESS, Address, Hash, Usd, Wei, to_hex
from tests.fake_market import (
    CONTRACT,
    GWEI,
    MARKET,
    USDC,
    VALUES,
    WBTC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    borrower,
    choice,
    pool,
    venue,
    view,
)
from tests.fake_node import FakeClock
from tests.plans import signed, tx_of

OTHER = "other"
OTHER_POOL = Address(b"\xab" * 20)
WHO = borrower(1)
HERE, THERE = (MARKET, WHO), (OTHER, WHO)
BID = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)
POOLS = (pool(1, WETH, USDC, 500, 90_000_000), pool(2, WBTC, USDC, 500, 90_000_000))


class OtherLender(FakeLender):
    """The second market: its liquidations are made at another pool."""

    def execution(self, terms: object) -> PoolLiquidation:
        """Return where it is called."""
        return PoolLiquidation(OTHER_POOL, Address(b"\x99" * 20))


@dataclass
class Chain:
    """Simulate the plans a planner makes; what `verdict` says of one is what it answers."""

    poison: str = ""
    at: str = "item"
    plans: dict[str, Plan] = field(default_factory=dict)
    requests: int = 0

    def planner(self) -> Planner:
        """Return a planner of both markets."""
        ids = count(1)
        lenders: Any = {MARKET: FakeLender(), OTHER: OtherLender(OTHER)}
        rules = PlanRules("test", CONTRACT, Wei(GWEI))
        return Planner(rules, {"uniswap": venue(*POOLS)}, lenders, lambda: f"plan-{next(ids)}")

    def know(self, plan: Plan | None) -> Plan | None:
        """Remember a plan by its bytes."""
        if plan is not None:
            self.plans[to_hex(plan.calldata)] = plan
        return plan

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Answer a simulation."""
        assert method == "eth_simulateV1"
        self.requests += 1
        (state,) = params[0]["blockStateCalls"]
        return [{"calls": [self._ran(self.plans[call["input"]]) for call in state["calls"]]}]

    def _ran(self, plan: Plan) -> dict[str, Any]:
        markets = [quote.opportunity.position.market for quote in plan.quotes]
        if self.at == "batch" and self.poison in markets:
            error = {"message": "execution reverted", "data": "0x01020304"}
            return {"status": "0x0", "gasUsed": "0x5208", "returnData": "0x", "error": error}
        result = result_of(plan, self.poison, undone=self.at == "group")
        words = [[_word(each) for each in part] for part in (result.items, result.groups)]
        types = ["uint256[]", "uint256[]", "int256[]", "uint256", "uint256"]
        data = encode(types, [*words, [], 0, 0])
        return {"status": "0x1", "gasUsed": hex(plan.gas), "returnData": to_hex(data)}


def _word(told: ItemResult | GroupResult) -> int:
    return told.ok << 255 | int.from_bytes(told.reason, "big") << 128 | told.gain


def result_of(plan: Plan, poison: str = "", *, undone: bool = False) -> RunResult:
    """Return what a run gives when all but one market's positions go as estimated; a group each."""
    items, groups = [], []
    for quote in plan.quotes:
        fails = quote.opportunity.position.market == poison
        reason = (UNDONE if undone else b"\x1a\x2b\x3c\x4d") if fails else b""
        items.append(ItemResult(not fails, 10**18 if undone or not fails else 0, reason))
        gain = 0 if fails else quote.proceeds - quote.repaid
        groups.append(GroupResult(not fails, gain, b"\1\2\3\4" if fails else b""))
    return RunResult(tuple(items), tuple(groups), (), 0, 0)


def both_view() -> View:
    """Return a view that prices both markets."""
    seen = view()
    prices = Prices(OTHER, USD, {each.address: price for each, price in VALUES.items()})
    return replace(seen, prices={**seen.prices, OTHER: prices})


def choices() -> list[FakeChoice]:
    """Return one borrower's positions in both markets."""
    first = choice(1, FakeTerms(WETH, USDC, 5_000 * 10**6))
    second = choice(1, FakeTerms(WBTC, USDC, 9_000 * 10**6))
    position = replace(second.opportunity.position, market=OTHER, protocol="compound-v2")
    there = replace(second.opportunity, position=position)
    return [first, FakeChoice(there, second.limits)]


def mixed(chain: Chain) -> Plan:
    """Return the one plan that liquidates both positions."""
    planner, seen = chain.planner(), both_view()
    quotes, skips = planner.quote(seen, choices())
    (plan,), unpacked = planner.pack(seen, [(quote, BID) for quote in quotes])
    assert not [*skips, *unpacked]
    assert {quote.opportunity.key for quote in plan.quotes} == {HERE, THERE}
    assert chain.know(plan) is plan
    return replace(plan, prices={ZERO_ADDRESS: Usd(2_000 * USD), USDC.address: Usd(USD)})


@pytest.mark.parametrize("at", ["item", "group", "batch"])
@pytest.mark.parametrize(("poison", "left"), [(MARKET, THERE), (OTHER, HERE)])
async def test_the_position_that_holds_goes_through_without_the_one_that_fails(
    at: str, poison: str, left: tuple[str, Address]
) -> None:
    chain = Chain(poison, at)
    planner, plan = chain.planner(), mixed(chain)

    def repack(made: Plan, failed: Mapping[Any, str], seen: View) -> Plan | None:
        return chain.know(planner.repack(made, failed, seen))

    simulator = Simulator(chain, Address(bytes(20)))
    prover = Prover(simulator, decode_run, settle_plan, repack, explain_reason)
    (proven,), (skip,) = await prover.prove([plan], both_view())
    assert [quote.opportunity.key for quote in proven.quotes] == [left]
    assert proven.calldata.count(OTHER_POOL) == (left == THERE)
    assert (skip.market, skip.borrower, skip.reason) == (poison, WHO, Reason.SIMULATION_FAILED)


def test_a_simulation_tells_the_positions_of_a_borrower_apart() -> None:
    plan = mixed(Chain())
    settled = settle_plan(plan, plan.gas, result_of(plan, OTHER))
    assert set(settled.failed) == {THERE}
    assert [(skip.market, skip.protocol) for skip in settled.skips] == [(OTHER, "compound-v2")]
    assert settled.part is not None
    assert [quote.opportunity.key for quote in settled.part.quotes] == [HERE]
    undone = settle_plan(plan, plan.gas, result_of(plan, MARKET, undone=True))
    assert undone.undone == {HERE}


async def test_a_sent_plan_is_still_worth_what_its_other_position_brings() -> None:
    chain = Chain(OTHER)
    plan = mixed(chain)
    simulator = Simulator(chain, Address(bytes(20)))
    recheck = Recheck(simulator, decode_run, settle_plan, explain_reason, 12)
    left = await recheck(plan, plan.head)
    assert isinstance(left, Plan)
    assert [quote.opportunity.key for quote in left.quotes] == [HERE]


def half_included(plan: Plan, net_usd: int = 0) -> Included:
    """Return the receipt of a plan whose call in the other market failed."""
    held = tuple(n for n, quote in enumerate(plan.quotes) if quote.opportunity.key == HERE)
    (quote,) = (plan.quotes[place] for place in held)
    gain = quote.proceeds - quote.repaid - quote.premium
    ran = RunEvent(Address(bytes(20)), held, held, {USDC.address: gain}, 0, 0)
    return Included(
        plan.id,
        tx_of(plan),
        101,
        Hash(b"\1" * 32),
        0,
        100_000,
        Wei(GWEI),
        items=item_outcomes(plan, ran),
        revenue_usd=Usd(10 * USD),
        net_usd=Usd(net_usd),
    )


def test_outcomes_bids_and_money_are_those_of_the_position_that_held() -> None:
    plan = mixed(Chain())
    receipt = half_included(plan)
    assert {item.key: item.ok for item in receipt.items} == {(*HERE, 0): True, (*THERE, 0): False}
    contest = Contest()
    contest.sent([plan])
    contest.settled(receipt)
    assert sorted(each.won for each in contest.record.outcomes) == [False, True]
    labels = ChainLabels(block_time=12, protocols=["aave-v3", "compound-v2"])
    metrics = Metrics(
        version="1", commit="", mode="live", chains={"x": labels}, strategies=["profitability"]
    )
    metrics.receipt("x", receipt, plan.quotes)

    def revenue(protocol: str) -> float | None:
        labels = {"chain": "x", "protocol": protocol, "strategy": "profitability"}
        return metrics.registry.get_sample_value("keeper_revenue_usd_total", labels)

    assert (revenue("aave-v3"), revenue("compound-v2")) == (10, 0)
    failed = Failed()
    failed.ended(receipt, [quote.opportunity.key for quote in plan.quotes], 101)
    assert not failed.held(101)


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_estimate_is_judged_by_the_position_that_held(
    tmp_path: Path, *, restarted: bool
) -> None:
    """What the failed position was to bring is not missed: the one that held brought its share."""
    plan = mixed(Chain())
    gross = {quote.opportunity.key: quote.gross_usd for quote in plan.quotes}
    fair = plan.net_usd * gross[HERE] // sum(gross.values())
    receipt = half_included(plan, fair)
    clock = FakeClock()
    limits = Limits(
        *(Wei(10**30), Wei(10**30), Usd(1), Usd(10**6 * USD), tmp_path / "KILL"),
        estimate_band=1_000,  # type: ignore[arg-type]
        estimate_misses=1,
    )
    risk = Risk("test", limits, clock)
    if not restarted:
        assert risk.admit(plan) is None
        risk.settle(receipt)
    else:
        path = tmp_path / "journal.db"
        journal = SqliteJournal(path, clock, 30, lambda _: None)
        journal.open()
        with closing(journal):
            await journal.planned(plan)
            await journal.signed(signed(plan))
            await journal.settled(receipt)
        told = JournalReader(path)
        (spent,) = told.spent(0)
        assert spent.won == {(*HERE, 0)}
        ((_, won, _),) = told.contested("test", 9)
        assert won == [(*HERE, 0)]
        risk.restore([spent], [])
    assert not risk.breakers()["estimate"]


def test_positions_of_one_borrower_need_not_share_a_transaction() -> None:
    plan = mixed(Chain())
    assert len(apart(plan.quotes)) == 2
    assert len(apart([plan.quotes[0], plan.quotes[0]])) == 1
