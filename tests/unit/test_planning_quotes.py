"""From choices to quotes: pair, size, route, funding, shared pools, and every refusal."""

from dataclasses import replace

import pytest

from keeper.planning.gas import FUND, group_gas, item_gas, run_gas
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import FlashKind, Quote, Reason, Seizure, Skip
from keeper.units import USD, Address, Bps, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    CONTRACT,
    DAI,
    GWEI,
    MARKET,
    USDC,
    VALUES,
    WBTC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    token,
    venue,
    view,
)

RULES = PlanRules("test", CONTRACT, Wei(GWEI))
DEEP = pool(1, WETH, USDC, 500, 50_000_000)
TEN_THOUSAND = FakeTerms(WETH, USDC, 10_000 * 10**6)


def planner(
    *pools: Pool, lender: FakeLender | None = None, rules: PlanRules = RULES
) -> tuple[Planner, UniswapV3]:
    pools_of = venue(*pools)
    made = Planner(rules, {"uniswap": pools_of}, {MARKET: lender or FakeLender()}, lambda: "plan")  # type: ignore[dict-item]
    return made, pools_of


def quote_all(
    *choices: FakeChoice, pools: tuple[Pool, ...] = (DEEP,), lender: FakeLender | None = None
) -> tuple[list[Quote], list[Skip]]:
    return planner(*pools, lender=lender)[0].quote(view(), choices)


def only(found: tuple[list[Quote], list[Skip]]) -> Quote:
    (quote,), skips = found
    assert skips == []
    return quote


def refused(found: tuple[list[Quote], list[Skip]]) -> Skip:
    quotes, (skip,) = found
    assert quotes == []
    return skip


def test_a_quote_adds_up() -> None:
    quote = only(quote_all(choice(1, TEN_THOUSAND)))
    step = quote.steps[0]
    made = venue(DEEP)
    assert step.repay == TEN_THOUSAND.maximum
    assert quote.proceeds == made.begin().quote(quote.hops[0], step.seizure.received)
    assert quote.net == quote.proceeds - quote.repaid - quote.premium - quote.gas_cost
    # A full close is funded a little over what is owed now.
    assert quote.premium == quote.flash.premium_up(10_000 * 10**6 + 10**5 + 1) == 5_000_051
    assert quote.gas == (
        item_gas(quote.opportunity.position, step)
        + group_gas(1)
        + FUND[FlashKind.AAVE]
        + run_gas([quote])
    )
    # At 11 gwei and 2,000 dollars one gas is 22 millionths of a dollar.
    assert quote.gas_cost == -(-quote.gas * 22 // 1)
    assert quote.net_usd == quote.net * 100
    assert quote.minimum_profit == 10**6
    assert quote.gross_usd == (quote.proceeds - quote.repaid) * 100


def test_the_better_pair_is_taken() -> None:
    poor = FakeTerms(WETH, USDC, 10_000 * 10**6, bonus=Bps(10_200))
    rich = FakeTerms(WBTC, DAI, 10_000 * 10**18, bonus=Bps(10_700))
    pools = (DEEP, pool(2, WBTC, DAI, 3_000, 50_000_000))
    for pairs in ((poor, rich), (rich, poor)):
        assert only(quote_all(choice(1, *pairs), pools=pools)).steps[0].terms == rich


def test_a_shallow_pool_makes_a_smaller_size() -> None:
    shallow = pool(1, WETH, USDC, 500, 200_000)
    quote = only(quote_all(choice(1, TEN_THOUSAND), pools=(shallow,)))
    assert 4_300 * 10**6 < quote.steps[0].repay < 4_800 * 10**6


def test_two_hops_through_a_deep_hub_beat_a_shallow_pool() -> None:
    shallow = pool(3, WBTC, USDC, 3_000, 200_000)
    hub = (pool(2, WBTC, WETH, 500, 50_000_000), DEEP)
    pair = FakeTerms(WBTC, USDC, 50_000 * 10**6)
    quote = only(quote_all(choice(1, pair), pools=(shallow, *hub)))
    assert [hop.pool for hop in quote.hops] == [hub[0].address, DEEP.address]
    one_hop = planner(shallow, *hub, rules=replace(RULES, max_hops=1))[0]
    assert only(one_hop.quote(view(), [choice(1, pair)])).hops[0].pool == shallow.address
    other_hub = planner(shallow, *hub, rules=replace(RULES, hubs=frozenset({DAI.address})))[0]
    assert len(only(other_hub.quote(view(), [choice(1, pair)])).hops) == 1


def test_collateral_that_is_the_debt_token_is_not_sold() -> None:
    pair = FakeTerms(USDC, USDC, 10_000 * 10**6)
    quote = only(quote_all(choice(1, pair)))
    assert quote.routes == ()
    assert quote.proceeds == 10_500 * 10**6


def test_positions_that_share_a_pool_are_sold_one_after_another() -> None:
    medium = pool(1, WETH, USDC, 500, 5_000_000)
    choices = [choice(n, TEN_THOUSAND) for n in range(1, 6)]
    quotes, skips = quote_all(*choices, pools=(medium,))
    assert len(quotes) == 5
    assert skips == []
    sales = venue(medium).begin()
    total = sum(quote.steps[0].seizure.received for quote in quotes)
    assert sum(quote.proceeds for quote in quotes) == sales.quote(quotes[0].hops[0], total)
    proceeds = [quote.proceeds for quote in quotes]
    assert proceeds == sorted(proceeds, reverse=True)
    assert len(set(proceeds)) == 5


def test_a_pool_used_up_leaves_the_rest_unprofitable() -> None:
    small = pool(1, WETH, USDC, 500, 500_000)
    quotes, skips = quote_all(*(choice(n, TEN_THOUSAND) for n in range(1, 21)), pools=(small,))
    assert quotes
    assert skips
    assert {skip.reason for skip in skips} == {Reason.UNPROFITABLE}
    assert all("slippage" in skip.detail and "gas" in skip.detail for skip in skips)
    assert all(quote.net >= quote.minimum_profit for quote in quotes)


def test_overheads_are_shared() -> None:
    quotes, _ = quote_all(*(choice(n, TEN_THOUSAND) for n in range(1, 11)))
    alone = only(quote_all(choice(1, TEN_THOUSAND)))
    assert len(quotes) == 10
    assert {quote.gas for quote in quotes} == {quotes[0].gas}
    assert quotes[0].gas < alone.gas * 0.45


def test_what_pays_only_together_is_taken_only_together() -> None:
    # 12 dollars of bonus: gas alone is 14, shared by ten it is 5.
    pair = FakeTerms(WETH, USDC, 240 * 10**6)
    assert refused(quote_all(choice(1, pair))).reason is Reason.UNPROFITABLE
    quotes, skips = quote_all(*(choice(n, pair) for n in range(1, 11)))
    assert len(quotes) == 10
    assert skips == []


def test_who_earns_more_carries_more_of_what_all_share() -> None:
    # Gas alone is 12 dollars, of which a second one adds 3: evenly shared it would be 8 for each.
    large, small = FakeTerms(WETH, USDC, 400 * 10**6), FakeTerms(WETH, USDC, 120 * 10**6)
    alone = only(quote_all(choice(1, large, minimum=1)))
    assert refused(quote_all(choice(2, small, minimum=1))).reason is Reason.UNPROFITABLE
    quotes, skips = quote_all(choice(1, large, minimum=1), choice(2, small, minimum=1))
    assert skips == []
    assert len(quotes) == 2
    assert all(quote.net >= quote.minimum_profit for quote in quotes)
    assert sum(quote.net for quote in quotes) > alone.net


def test_who_does_not_pay_for_itself_is_carried_by_nobody() -> None:
    large, tiny = FakeTerms(WETH, USDC, 10**10), FakeTerms(WETH, USDC, 30 * 10**6)
    quotes, (skip,) = quote_all(choice(1, large), choice(2, tiny, minimum=1))
    assert (len(quotes), skip.reason) == (1, Reason.UNPROFITABLE)
    assert quotes == quote_all(choice(1, large))[0]


def test_the_cheapest_lender_that_can_is_chosen() -> None:
    lending = pool(7, USDC, DAI, 100, 30_000_000)
    cheap = only(quote_all(choice(1, TEN_THOUSAND), pools=(DEEP, lending)))
    assert (cheap.flash.kind, cheap.flash.source) == (FlashKind.UNISWAP_V3, lending.address)
    assert cheap.flash.fee_ppm == 100
    free = only(
        quote_all(choice(1, TEN_THOUSAND), pools=(DEEP, lending), lender=FakeLender(fee_ppm=0))
    )
    assert free.flash.kind is FlashKind.AAVE


def test_a_pool_that_lends_is_not_sold_through() -> None:
    # The best route is no lender; of the two pools the deep one sells, the other lends.
    other = pool(2, WETH, USDC, 100, 4_000_000)
    quote = only(
        quote_all(choice(1, TEN_THOUSAND), pools=(DEEP, other), lender=FakeLender(available={}))
    )
    assert quote.flash.kind is FlashKind.UNISWAP_V3
    assert quote.flash.source not in {hop.pool for hop in quote.hops}
    alone = refused(quote_all(choice(1, TEN_THOUSAND), lender=FakeLender(available={})))
    assert alone.reason is Reason.CAPITAL


def test_a_short_lender_makes_a_smaller_size() -> None:
    lender = FakeLender(available={USDC.address: 4_000 * 10**6})
    quote = only(quote_all(choice(1, TEN_THOUSAND), lender=lender))
    assert quote.steps[0].repay < 4_000 * 10**6
    assert quote.steps[0].repay > 3_990 * 10**6


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (choice(1, FakeTerms(DAI, USDC, 10**10)), Reason.NO_ROUTE),
        (choice(1, FakeTerms(WETH, USDC, 0)), Reason.DUST),
        (choice(1, TEN_THOUSAND, minimum=10**6 * USD), Reason.UNPROFITABLE),
        (choice(1, TEN_THOUSAND, venues=frozenset({"curve"})), Reason.NO_ROUTE),
    ],
)
def test_refusals_name_their_reason(made: FakeChoice, reason: Reason) -> None:
    skip = refused(quote_all(made))
    assert skip.reason is reason
    assert skip.detail
    assert skip.strategy == "profitability"


@pytest.mark.parametrize("missing", [USDC, WETH])
def test_without_a_price_there_is_no_quote(missing: object) -> None:
    values = {token: value for token, value in VALUES.items() if token != missing}
    made, _ = planner(DEEP)
    quotes, (skip,) = made.quote(view(values=values), [choice(1, TEN_THOUSAND)])
    assert quotes == []
    assert skip.reason is Reason.NO_PRICE


def narrow(number: int, fee: int, depth_usd: int) -> Pool:
    """Return a pool whose liquidity ends a few percent from the price, and that lends much."""
    made = pool(number, WETH, USDC, fee, depth_usd)
    full, near = made.at.liquidity, made.at.tick // made.spacing * made.spacing
    edge = 887_272 // made.spacing * made.spacing
    made.add_liquidity(-edge, -full, -full)
    made.add_liquidity(edge, -full, full)
    width = 30 * made.spacing
    made.add_liquidity(near - width, full, full)
    made.add_liquidity(near + width, full, -full)
    made.balance0, made.balance1 = 10 * made.balance0, 10 * made.balance1
    return made


@pytest.mark.parametrize("wanted", [10_000, 100_000, 400_000, 900_000])
def test_no_lender_shuts_a_pool_that_a_smaller_sale_needs(wanted: int) -> None:
    made = choice(1, FakeTerms(WETH, USDC, wanted * 10**6))
    pools = (narrow(1, 500, 1_000_000), narrow(2, 500, 900_000))
    only_aave = replace(RULES, lends=lambda source: source.kind is FlashKind.AAVE)
    quote = only(planner(*pools)[0].quote(view(), [made]))
    assert quote.net >= only(planner(*pools, rules=only_aave)[0].quote(view(), [made])).net


def test_the_largest_repay_of_the_strategy_holds() -> None:
    quote = only(quote_all(choice(1, TEN_THOUSAND, largest=3_000 * USD)))
    assert quote.steps[0].repay == 3_000 * 10**6


def test_of_two_strategies_one_gets_the_position() -> None:
    greedy = choice(1, TEN_THOUSAND, strategy="greedy")
    careful = choice(1, TEN_THOUSAND, largest=2_000 * USD, strategy="careful")
    quotes, skips = quote_all(careful, greedy, choice(2, TEN_THOUSAND))
    assert sorted(quote.opportunity.strategy for quote in quotes) == ["greedy", "profitability"]
    (skip,) = skips
    assert (skip.reason, skip.strategy) == (Reason.OUTBID, "careful")
    assert skip.detail == "greedy nets more"


def test_no_choices_no_quotes() -> None:
    assert quote_all() == ([], [])


def test_quoting_leaves_the_pools_alone() -> None:
    made, pools = planner(DEEP)
    before = pools.pools[Address(DEEP.address)].at
    made.quote(view(), [choice(1, TEN_THOUSAND)])
    assert pools.pools[Address(DEEP.address)].at == before


def test_two_positions_do_not_drain_one_reserve_twice() -> None:
    seized = TEN_THOUSAND.seize(TEN_THOUSAND.maximum).received
    lender = FakeLender(liquidity={WETH.address: seized * 3 // 2})
    quotes, skips = quote_all(*(choice(n, TEN_THOUSAND) for n in (1, 2, 3)), lender=lender)
    taken = [quote.steps[0].seizure.received for quote in quotes]
    assert max(taken) == seized
    assert len(taken) == 2
    assert seized * 3 // 2 - 10**12 < sum(taken) <= seized * 3 // 2
    assert [skip.reason for skip in skips] == [Reason.NO_LIQUIDITY]


def test_a_reserve_lends_and_pays_out_only_what_it_holds() -> None:
    # The USDC lent for the first is missing when the second's USDC is seized.
    other = FakeTerms(USDC, WETH, 5 * 10**18)
    held = 15_000 * 10**6
    lender = FakeLender(
        available={USDC.address: held, WETH.address: 10**24}, liquidity={USDC.address: held}
    )
    quotes, skips = quote_all(choice(1, TEN_THOUSAND), choice(2, other), lender=lender)
    assert skips == []
    assert len(quotes) == 2
    first = sum(q.steps[0].repay for q in quotes if q.debt is USDC)
    second = sum(q.steps[0].seizure.received for q in quotes if q.debt is WETH)
    assert held * 99 // 100 < first + second <= held


def test_what_a_reserve_paid_out_cannot_be_borrowed() -> None:
    richer = FakeTerms(USDC, WETH, 5 * 10**18, bonus=Bps(10_600))
    held = richer.seize(richer.maximum).received
    lender = FakeLender(
        available={USDC.address: held, WETH.address: 10**24}, liquidity={USDC.address: held}
    )
    quotes, (skip,) = quote_all(choice(1, TEN_THOUSAND), choice(2, richer), lender=lender)
    assert [quote.debt for quote in quotes] == [WETH]
    assert (skip.reason, skip.detail) == (Reason.CAPITAL, "0 USDC can be borrowed")


def test_one_reserve_lends_and_pays_the_same_liquidation() -> None:
    pair = FakeTerms(USDC, USDC, 10_000 * 10**6)
    held = 12_000 * 10**6
    lender = FakeLender(available={USDC.address: held}, liquidity={USDC.address: held})
    step = only(quote_all(choice(1, pair), pools=(), lender=lender)).steps[0]
    assert held * 99 // 100 < step.repay + step.seizure.received <= held


@pytest.mark.parametrize("spare", [0, 1, 10**5, 10**5 + 1, 10**6])
def test_a_lender_that_barely_covers_the_debt_still_funds_most_of_it(spare: int) -> None:
    lender = FakeLender(available={USDC.address: 10_000 * 10**6 + spare})
    quote = only(quote_all(choice(1, TEN_THOUSAND), lender=lender))
    assert quote.steps[0].repay >= 9_999 * 10**6
    assert (quote.steps[0].repay == TEN_THOUSAND.maximum) == (spare > 10**5)


def test_a_token_no_venue_knows_is_no_route() -> None:
    listed = token(9, "NEW", 18)
    values = {**VALUES, listed: USD}
    made, _ = planner(DEEP)

    class Unsold(FakeTerms):
        def seize(self, repay: int) -> Seizure:
            return Seizure(repay, repay * 10**12, 0)

    quotes, (skip,) = made.quote(view(values=values), [choice(1, Unsold(listed, USDC, 10**10))])
    assert quotes == []
    assert skip.reason is Reason.NO_ROUTE


def test_the_pair_with_the_cheaper_loan_wins_when_gross_is_nearly_the_same() -> None:
    # A pool lends DAI at a basis point, USDC costs three percent; its bonus is one percent more.
    dear = FakeTerms(WETH, USDC, 10_000 * 10**6, bonus=Bps(10_600))
    free = FakeTerms(WETH, DAI, 10_000 * 10**18)
    pools = (DEEP, pool(2, WETH, DAI, 500, 50_000_000), pool(3, DAI, WBTC, 100, 50_000_000))
    lender = FakeLender(fee_ppm=30_000, available={USDC.address: 10**15})
    quote = only(quote_all(choice(1, dear, free), pools=pools, lender=lender))
    assert quote.debt is DAI
