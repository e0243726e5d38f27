"""A feed that no pool agrees with: what it stops, what it does not, and how it is told."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keeper.journal.breakers import BreakerChange
from keeper.risk import Feeds, Limits, Risk
from keeper.risk.feeds import EVERY_HEADS, relied_on
from keeper.types import Conversion, FlashKind, Holding, Hop, Plan, Reason, Token
from keeper.units import BPS, USD, Address, Bps, Usd, Wei
from tests.fake_node import FakeClock
from tests.plans import GWEI, USDC, WETH, Plans, address

DAI = Token(address("DAI"), "DAI", 18)
STAKED = Token(address("wstETH"), "wstETH", 18)
WBTC = Token(address("WBTC"), "WBTC", 8)
PRICES = {
    USDC.address: Usd(USD),
    WETH.address: Usd(2_000 * USD),
    DAI.address: Usd(USD),
    STAKED.address: Usd(2_400 * USD),
    WBTC.address: Usd(60_000 * USD),
}
TOKENS = {token.address: token for token in (USDC, WETH, DAI, STAKED, WBTC)}


@dataclass
class Pool:
    """Gives so many dollars of one token for a dollar of the other, less for more if it is thin.

    One that is a wall only takes `one`, and has nothing of it.
    """

    one: Token
    other: Token
    bps: int = BPS
    is_thin: bool = False
    is_wall: bool = False

    name = "pools"

    def hops(self, token: Address) -> list[Hop]:
        pair = (self.one.address, self.other.address)
        if token not in pair:
            return []
        (out,) = set(pair) - {token}
        return [Hop("pools", address(f"{pair}"), token, out)]

    def begin(self) -> "Pool":
        return self

    def quote(self, hop: Hop, amount: int) -> int:
        spend, receive = TOKENS[hop.token_in], TOKENS[hop.token_out]
        if self.is_wall and spend == self.other:
            return 0
        dollars = amount * PRICES[spend.address] // 10**spend.decimals
        if self.is_thin:
            dollars = min(dollars, 20 * USD)
        bps = self.bps if hop.token_in == self.one.address else BPS * BPS // self.bps
        whole = 10**receive.decimals
        return int(dollars * bps // BPS * whole // PRICES[receive.address])


def feeds(*pools: Pool, limit: int = 500) -> Feeds:
    venues: Any = pools
    made = Feeds(Bps(limit), lambda: venues)
    made.observe(100, PRICES, TOKENS)
    return made


def gate(tmp_path: Path, watch: Feeds, told: list[BreakerChange] | None = None) -> Risk:
    limits = Limits(
        gas_per_transaction=Wei(2_000_000 * GWEI),
        gas_per_day=Wei(40_000_000 * GWEI),
        minimum_profit=Usd(5 * USD),
        largest_repay=Usd(10_000 * USD),
        kill_file=tmp_path / "KILL",
    )
    tell = (lambda _: None) if told is None else told.append
    return Risk("test", limits, FakeClock(), feeds=watch, tell=tell)


def priced(plan: Plan) -> Plan:
    return replace(plan, prices={**plan.prices, **PRICES})


def keeping(plan: Plan) -> Plan:
    """Return a plan that leaves its collateral unsold."""
    return replace(plan, quotes=tuple(replace(quote, routes=()) for quote in plan.quotes))


def selling(plan: Plan, receive: Token = USDC) -> Plan:
    """Return a plan that sells profit."""
    return replace(
        plan,
        quotes=(),
        sweep=Holding(WETH, 10**18),
        conversion=Conversion(receive, 1_900 * 10**6, 2_000 * 10**6),
    )


def test_a_plan_valued_by_a_feed_no_pool_agrees_with_is_stopped(tmp_path: Path) -> None:
    risk = gate(tmp_path, feeds(Pool(WETH, USDC, 8_000)))
    plans = Plans()
    for plan in (keeping(plans.make()), selling(plans.make())):
        refusal = risk.admit(priced(plan))
        assert refusal is not None
        assert refusal.reason is Reason.BREAKER
        assert refusal.detail == ("deviation: USDC by 2500 bps, WETH by 2000 bps from every pool")


def test_one_that_ends_in_the_token_it_repays_is_not(tmp_path: Path) -> None:
    risk = gate(tmp_path, feeds(Pool(WETH, USDC, 8_000)))
    assert risk.breakers()["deviation"]
    plan = priced(Plans().make())
    assert plan.quotes[0].flash.kind is FlashKind.AAVE
    assert relied_on(plan) == ()
    assert risk.admit(plan) is None
    sweep = replace(selling(Plans().make()), conversion=None)
    assert risk.admit(priced(sweep)) is None, "profit may go home at any price"
    bare = replace(keeping(priced(Plans().make())), quotes=())
    assert risk.admit(bare) is None, "taking a nonce back rests on no price"


def test_one_pool_that_agrees_is_enough(tmp_path: Path) -> None:
    watch = feeds(Pool(WETH, USDC, 8_000), Pool(WETH, DAI, 9_970))
    assert watch.deviating == {USDC.address: 2_500}
    risk = gate(tmp_path, watch)
    assert risk.admit(priced(selling(Plans().make(), DAI))) is None
    refusal = risk.admit(priced(selling(Plans().make())))
    assert refusal is not None
    assert "USDC" in refusal.detail
    assert "WETH" not in refusal.detail


def test_a_token_priced_by_the_same_feed_is_no_witness(tmp_path: Path) -> None:
    """Staked ether agrees with ether's feed whatever that says."""
    staked = Pool(WETH, STAKED)
    watch = feeds(staked, Pool(WETH, USDC, 8_000), Pool(USDC, DAI), Pool(WBTC, USDC))
    assert watch.deviating == {WETH.address: 2_000, STAKED.address: 2_000}
    assert gate(tmp_path, watch).admit(priced(selling(Plans().make()))) is not None
    assert feeds(staked, Pool(WETH, USDC), Pool(USDC, DAI)).deviating == {}
    apart = feeds(staked, Pool(USDC, DAI), Pool(WBTC, USDC))
    assert apart.deviating == {}, "what no pool says anything of is not contradicted"


def test_a_pool_that_one_sale_moves_is_no_witness() -> None:
    assert feeds(Pool(WETH, USDC, 8_000, is_thin=True)).deviating == {}
    assert feeds(Pool(WETH, USDC, 8_000), Pool(WETH, DAI, is_thin=True)).deviating.keys() == {
        USDC.address,
        WETH.address,
    }


def test_a_pool_that_trades_one_way_is_no_witness(tmp_path: Path) -> None:
    # bids alone, far below the market, cost who puts them up nothing
    wall = Pool(WETH, USDC, 5_000, is_wall=True)
    watch = feeds(wall, Pool(WETH, USDC, is_thin=True))
    assert watch.deviating == {}
    assert gate(tmp_path, watch).admit(priced(selling(Plans().make()))) is None


def test_a_token_that_is_known_no_more_is_forgotten(tmp_path: Path) -> None:
    watch = feeds(Pool(WETH, USDC, 8_000))
    risk = gate(tmp_path, watch)
    assert risk.breakers()["deviation"]
    watch.observe(101, {USDC.address: PRICES[USDC.address]}, {USDC.address: USDC})
    assert risk.details() == {"deviation": "USDC by 2500 bps from every pool"}


@pytest.mark.parametrize(
    ("bps", "off"), [(9_500, False), (9_499, True), (10_526, False), (10_527, True)]
)
def test_the_limit_counts_in_both_directions(bps: int, off: bool) -> None:
    watch = feeds(Pool(WETH, USDC, bps))
    assert (WETH.address in watch.deviating) is off


def test_a_plan_is_judged_by_the_pools_as_they_are_now(tmp_path: Path) -> None:
    pool = Pool(WETH, USDC)
    watch = feeds(pool)
    risk = gate(tmp_path, watch)
    plan = priced(selling(Plans().make()))
    assert risk.admit(plan) is None
    pool.bps = 8_000
    assert risk.admit(plan) is not None
    pool.bps = 9_970
    assert risk.admit(plan) is None
    assert not watch.deviating


def test_the_breaker_is_told_and_closes_by_itself(tmp_path: Path) -> None:
    told: list[BreakerChange] = []
    pool = Pool(WETH, USDC, 8_000)
    watch = feeds(pool)
    risk = gate(tmp_path, watch, told)
    assert risk.breakers()["deviation"]
    assert risk.details() == {"deviation": "USDC by 2500 bps, WETH by 2000 bps from every pool"}
    pool.bps = BPS
    watch.observe(101, PRICES, TOKENS)
    assert risk.breakers()["deviation"], "all tokens are looked at now and then"
    watch.observe(100 + EVERY_HEADS, PRICES, TOKENS)
    assert not risk.breakers()["deviation"]
    assert [(change.name, change.is_open) for change in told] == [
        ("deviation", True),
        ("deviation", False),
    ]
