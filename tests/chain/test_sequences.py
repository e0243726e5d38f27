"""Two calls in one transaction on real contracts: what they earn, and that it is more than one."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pytest

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.strategist import Choice
from keeper.types import (
    Bid,
    Cause,
    Limits,
    NextBlock,
    Opportunity,
    Plan,
    Reason,
    Skip,
    Token,
    View,
)
from keeper.units import Address, Usd, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from tests.aave import DirectRpc, Following
from tests.chain.contract.stage import FAR, Stage, deploy

pytestmark = pytest.mark.chain

GWEI = 10**9


@dataclass
class Scene:
    """Borrowers under water, and a planner that knows the market and its pools as they stand."""

    net: Devnet
    stage: Stage
    following: Following

    @cached_property
    def venue(self) -> UniswapV3:
        tokens = [Address(token.address) for token in self.net.tokens.values()]
        venue = UniswapV3("uniswap", Address(self.net.uniswap.factory), tokens)
        reader = ChainReader(DirectRpc(self.net))

        async def load() -> None:
            await venue.bootstrap(reader, await reader.head())

        asyncio.run(load())
        return venue

    @cached_property
    def at(self) -> NextBlock:
        head = self.following.head
        return NextBlock(head.number + 1, head.timestamp + 12, Wei(GWEI))

    def view(self) -> View:
        native = Token(Address(self.net.tokens["WETH"].address), "WETH", 18)
        market, head = self.following.market, self.following.head
        prices = {market.market: self.following.prices}
        return View("devnet", head, self.at, (), prices, {}, native)

    def choice(self, borrower: bytes, calls: int) -> Choice:
        market, prices = self.following.market, self.following.prices
        position = market.position(Address(borrower), prices, self.at)
        assert position is not None
        pairs, _ = market.pairs(position, prices, self.at)
        opportunity = Opportunity(position, tuple(pairs), Cause.PRICE, "sequence")
        return Choice(opportunity, Limits(Usd(1), calls=calls))

    def planner(self) -> Planner:
        market = self.following.market
        rules = PlanRules("devnet", self.stage.address, Wei(0), max_hops=1)
        return Planner(rules, {"uniswap": self.venue}, {market.market: market}, lambda: "plan")

    def planned(self, borrower: bytes, calls: int) -> tuple[list[Plan], list[Skip]]:
        planner, view = self.planner(), self.view()
        quotes, skips = planner.quote(view, [self.choice(borrower, calls)])
        bid = Bid(Wei(0), Wei(2 * GWEI), FAR)
        plans, more = planner.pack(view, [(quote, bid) for quote in quotes])
        return plans, [*skips, *more]

    def realised(self, plan: Plan) -> Mapping[Address, int]:
        """Execute a plan, and return what the contract gained in each debt token."""
        debts = {quote.debt.address for quote in plan.quotes}
        held = {token: self.net.balance(token, self.stage.address) for token in debts}
        self.stage.send(plan.calldata, self.stage.operator, gas=plan.gas_limit)
        return {token: self.net.balance(token, self.stage.address) - held[token] for token in debts}

    def left(self, borrower: bytes) -> tuple[int, int]:
        """Return a borrower's collateral and debt in base currency."""
        collateral, debt, *_ = self.net.account_data(borrower)
        return collateral, debt


@dataclass(frozen=True)
class Crowd:
    """Who is there: by what makes two calls worth more than one."""

    half: bytes
    collaterals: bytes
    debts: bytes
    toxic: bytes


@pytest.fixture(scope="module")
def opened(devnet: Devnet) -> Iterator[tuple[Scene, Crowd]]:
    """One market for the module; every test leaves it as it was."""
    before = devnet.snapshot()
    stage = deploy(devnet)
    both = ("WETH", "WBTC")
    drawn = (
        {"health": 0.97, "size_usd": 100_000},
        {"health": 0.9, "size_usd": 60_000, "collateral": both},
        {"health": 0.94, "size_usd": 60_000, "debt": ("USDC", "DAI")},
        {"health": 0.7, "size_usd": 60_000, "collateral": both},
    )
    found = [devnet.borrowers(1, seed=n, **each)[0] for n, each in enumerate(drawn)]  # type: ignore[arg-type]
    yield Scene(devnet, stage, Following(devnet, devnet.market.pool)), Crowd(*found)
    devnet.automine(False)
    devnet.revert(before)


@pytest.fixture
def scene(opened: tuple[Scene, Crowd]) -> Iterator[tuple[Scene, Crowd]]:
    net = opened[0].net
    before = net.snapshot()
    yield opened
    net.automine(False)
    net.revert(before)


def expected(plan: Plan) -> dict[Address, int]:
    gains: dict[Address, int] = {}
    for quote in plan.quotes:
        gain = quote.proceeds - quote.repaid - quote.premium
        gains[quote.debt.address] = gains.get(quote.debt.address, 0) + gain
    return gains


@pytest.mark.parametrize(
    ("kind", "stages", "least"),
    [("half", (0, 0), 1.2), ("collaterals", (0, 1), 1.7), ("debts", (0, 1), 1.3)],
)
def test_two_calls_earn_more_than_the_best_one(
    scene: tuple[Scene, Crowd], kind: str, stages: tuple[int, ...], least: float
) -> None:
    market, who = scene[0], getattr(scene[1], kind)
    (one,), _ = market.planned(who, 1)
    (two,), skips = market.planned(who, 2)
    assert skips == []
    assert [quote.part for quote in two.quotes] == [0, 1]
    assert tuple(quote.stage for quote in two.quotes) == stages
    assert two.net_usd > one.net_usd * least
    before = market.net.snapshot()
    alone = market.realised(one)
    market.net.revert(before)
    together = market.realised(two)
    for gained, plan in ((alone, one), (together, two)):
        for token, gain in expected(plan).items():
            assert abs(gained[token] - gain) * 10_000 <= gain
    prices = market.following.prices.values
    units = {quote.debt.address: 10**quote.debt.decimals for quote in (*one.quotes, *two.quotes)}
    worth = [
        sum(gain * prices[token] // units[token] for token, gain in gained.items())
        for gained in (alone, together)
    ]
    assert worth[1] > worth[0] * least


def test_a_toxic_position_is_closed_by_two_calls_and_by_none_alone(
    scene: tuple[Scene, Crowd],
) -> None:
    market, crowd = scene
    plans, (skip,) = market.planned(crowd.toxic, 1)
    assert plans == []
    assert skip.reason is Reason.TOXIC
    (plan,), _ = market.planned(crowd.toxic, 2)
    gained = market.realised(plan)
    assert gained == pytest.approx(expected(plan), rel=1e-4)
    # all collateral is taken, so what is owed beyond it is written off
    assert market.left(crowd.toxic) == (0, 0)


def test_a_call_whose_forerunner_fails_pays_for_itself_or_is_undone(
    scene: tuple[Scene, Crowd],
) -> None:
    market, crowd = scene
    (plan,), _ = market.planned(crowd.half, 2)
    net, rival = market.net, market.net.users[5].address
    usdc, first = net.tokens["USDC"].address, plan.quotes[0].steps[0]
    # two percent repaid by somebody else: the first call meets less debt than it was planned for
    paid = first.terms.maximum * 4 // 100
    net.give("USDC", rival, paid)
    net.send(rival, usdc, "approve(address,uint256)", [net.market.pool, paid])
    args = [usdc, paid, 2, crowd.half]
    net.send(rival, net.market.pool, "repay(address,uint256,uint256,address)", args)
    (gain,) = market.realised(plan).values()
    second = plan.quotes[1]
    alone = second.proceeds - second.repaid - second.premium
    whole = sum(expected(plan).values())
    assert second.gas_cost + second.minimum_profit < gain < whole
    assert gain == pytest.approx(alone, rel=0.1)
