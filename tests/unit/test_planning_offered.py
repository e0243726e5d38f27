"""Offers for one amount beside the pools: when they take a sale, and what stays when they fail."""

from collections.abc import Container

import pytest

from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.planning.shares import divide, shares_of_left
from keeper.types import Bid, FlashKind, FlashSource, Hop, Plan, PoolCall, Quote, Reason, Token
from keeper.units import WAD, Address, Wei
from tests.fake_market import (
    CONTRACT,
    GWEI,
    MARKET,
    USDC,
    WBTC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    venue,
    view,
)

RULES = PlanRules("test", CONTRACT, Wei(GWEI))
SHALLOW = pool(1, WETH, USDC, 500, 1_000_000)
TERMS = FakeTerms(WETH, USDC, 100_000 * 10**6)
ROUTER = Address(b"\xaa" * 20)


class Made:
    """A venue that holds one offer, of `amount` for `minimum`, and notes what is wanted."""

    name = "offers"

    def __init__(self, amount: int, minimum: int) -> None:
        self.minimum = minimum
        self.hop = Hop("offers", ROUTER, WETH.address, USDC.address, least=amount)
        self.wanted: list[tuple[bytes, bytes, int]] = []

    def want(self, sold: Address, bought: Address, amount: int) -> None:
        self.wanted.append((sold, bought, amount))

    def hops(self, token_in: Address) -> list[Hop]:
        return [self.hop] if token_in == WETH.address else []

    def begin(self) -> "Made":
        return self

    def quote(self, hop: Hop, amount: int) -> int:
        return self.minimum if amount >= hop.least else 0

    apply = quote

    def flash_sources(self, token: Address) -> tuple[FlashSource, ...]:
        del token
        return ()

    def execution(self, hop: Hop) -> PoolCall:
        del hop
        return PoolCall(ROUTER, b"\x01\x02\x03\x04made", b"", whole=True, minimum=self.minimum)


class Vault(Made):
    """Lends a token for nothing, and what is beneath its offer may be shut meanwhile."""

    lends = USDC

    def flash_sources(self, token: Address) -> tuple[FlashSource, ...]:
        shuts = frozenset({CONTRACT})
        source = FlashSource(FlashKind.BALANCER, CONTRACT, token, 10**30, 0, shuts=shuts)
        return (source,) if token == self.lends.address else ()


def planner(made: Made | None, stopped: Container[str] = frozenset()) -> Planner:
    venues = {"uniswap": venue(SHALLOW)} | ({} if made is None else {"offers": made})
    markets = {MARKET: FakeLender()}
    return Planner(RULES, venues, markets, lambda: "plan", lambda: stopped)  # type: ignore[arg-type]


def quotes(made: Made | None, *choices: FakeChoice) -> list[Quote]:
    found, _ = planner(made).quote(view(), choices or (choice(1, TERMS),))
    return found


def plan_of(made: Made | None, quote: Quote) -> Plan:
    bid = Bid(Wei(0), Wei(100 * GWEI), 2**40)
    ((plan,), _) = planner(made).pack(view(), [(quote, bid)])
    return plan


def planned() -> tuple[int, int]:
    """Return what the pools alone would have sold, and what it brings."""
    (quote,) = quotes(None)
    return quote.steps[0].seizure.received, quote.proceeds


def test_an_offer_that_brings_more_takes_the_sale_and_the_pools_the_rest() -> None:
    sold, brought = planned()
    made = Made(sold * 998 // 1000, brought * 11 // 10)
    (quote,) = quotes(made)
    assert made.wanted == [(WETH.address, USDC.address, sold)]
    assert quote.steps[0].seizure.received == sold
    assert [portion.route[0].venue for portion in quote.routes] == ["offers", "uniswap"]
    first, rest = divide(quote.routes, sold)
    assert (first, rest) == (made.hop.least, sold - made.hop.least)
    assert quote.proceeds > made.minimum
    # The rest goes first through a pool nobody else moves: above the price of the whole.
    assert brought * rest // sold < quote.proceeds - made.minimum < 2 * brought * rest // sold
    (alone,) = quotes(None)
    assert quote.fallback == alone.routes
    assert quote.net > alone.net
    plan = plan_of(made, quote)
    assert b"made" in plan.calldata
    assert made.minimum.to_bytes(16, "big") in plan.calldata


@pytest.mark.parametrize("rest_bps", [1, 20, 4_000])
def test_an_offer_is_covered_when_less_is_seized_than_planned(rest_bps: int) -> None:
    sold, brought = planned()
    made = Made(sold - sold * rest_bps // 10_000, brought * 12 // 10)
    (quote,) = quotes(made)
    share, last = shares_of_left(quote.routes)
    rest = sold - made.hop.least
    for seized in (sold, made.hop.least + rest // 2, made.hop.least + rest // 16 + 1):
        # What the contract approves: liquidator.vy, run_group, AMOUNT_SHARE.
        assert seized * share // WAD >= made.hop.least
        assert list(divide(quote.routes, seized)) == [made.hop.least, seized - made.hop.least]
    assert last == WAD


def test_what_an_offer_leaves_is_not_worth_a_swap() -> None:
    sold, brought = planned()
    made = Made(sold - 1000, brought * 11 // 10)
    (quote,) = quotes(made)
    assert [portion.route[0].venue for portion in quote.routes] == ["offers"]
    assert quote.proceeds == made.minimum


def test_without_offers_a_plan_is_what_the_pools_alone_would_have_made_it() -> None:
    sold, brought = planned()
    made = Made(sold * 998 // 1000, brought * 11 // 10)
    plan = planner(made).without_offers(plan_of(made, quotes(made)[0]), view())
    (alone,) = quotes(None)
    assert plan is not None
    assert plan.calldata == plan_of(None, alone).calldata
    assert plan.quotes[0].fallback == ()


def test_an_offer_is_taken_once_where_two_strategies_sell_one_pair_over_other_venues() -> None:
    narrow = frozenset({"uniswap", "offers"})
    small = FakeTerms(WETH, USDC, 10_000 * 10**6)
    first, second = choice(1, small), choice(2, small, strategy="other", venues=narrow)
    received = small.seize(small.maximum).received
    made = Made(received * 9 // 10, small.maximum * 12 // 10)
    found = quotes(made, first, second)
    assert len(made.wanted) == 2, "each is alone on its outlet"
    assert len(found) == len(quotes(None, first, second)) == 2
    assert sorted(made.hop in quote.hops for quote in found) == [False, True]


def test_a_venue_of_offers_that_stops_costs_no_liquidation() -> None:
    sold, brought = planned()
    made = Made(sold * 998 // 1000, brought * 11 // 10)
    (quote,) = quotes(made)
    bid = Bid(Wei(0), Wei(100 * GWEI), 2**40)
    ((plan,), skips) = planner(made, {"venue/offers"}).pack(view(), [(quote, bid)])
    (alone,) = quotes(None)
    assert skips == []
    assert plan.calldata == plan_of(None, alone).calldata
    for part in ("venue/uniswap", f"market/{MARKET}"):
        plans, (skip,) = planner(made, {"venue/offers", part}).pack(view(), [(quote, bid)])
        assert plans == []
        assert skip.reason is Reason.DENIED


@pytest.mark.parametrize(
    ("more", "times"), [(1, (11, 10)), (-1000, (10, 10)), (-1000, (0, 1))], ids=str
)
def test_an_offer_for_more_or_for_no_better_price_changes_nothing(
    more: int, times: tuple[int, int]
) -> None:
    sold, brought = planned()
    made = Made(sold + more, brought * times[0] // times[1])
    assert quotes(made) == quotes(None)


@pytest.mark.parametrize("lends", [USDC, WETH], ids=lambda token: token.symbol)
@pytest.mark.parametrize("is_lent_elsewhere", [False, True])
@pytest.mark.parametrize("better", [3, 100])
def test_no_loan_shuts_what_an_offer_goes_through(
    better: int, is_lent_elsewhere: bool, lends: Token
) -> None:
    """Nobody knows what that is: who shuts nothing lends, where the offer pays for it."""
    small, back = FakeTerms(WETH, USDC, 10_000 * 10**6), FakeTerms(WBTC, WETH, 4 * 10**18)
    choices = choice(1, small), choice(2, back)
    (alone,) = quotes(None, choices[0])
    sold = alone.steps[0].seizure.received
    made = Vault(sold, alone.proceeds * (10_000 + better) // 10_000)
    made.lends = lends
    lender = FakeLender()
    if not is_lent_elsewhere:
        lender.available = {WETH.address: 10**24, USDC.address: 10**13}
        del lender.available[lends.address]
    markets = {MARKET: lender}
    pools = venue(SHALLOW, pool(2, WBTC, WETH, 500, 90_000_000))
    venues = {"uniswap": pools, "offers": made}
    found, _ = Planner(RULES, venues, markets, lambda: "").quote(view(), choices)  # type: ignore[arg-type]
    assert len(found) == 2
    is_taken = any(quote.fallback for quote in found)
    assert is_taken == (better == 100 and is_lent_elsewhere)
    (lent,) = (quote.flash.kind for quote in found if quote.debt == lends)
    assert lent is (FlashKind.AAVE if is_taken else FlashKind.BALANCER)
    paid = sum(quote.premium for quote in found if quote.debt == lends)
    assert bool(paid) is is_taken


def test_offers_are_for_one_position_and_a_strategy_that_allows_the_venue() -> None:
    sold, brought = planned()
    made = Made(sold // 10, brought)
    small = FakeTerms(WETH, USDC, 10_000 * 10**6)
    two = choice(1, small), choice(2, small)
    assert len(quotes(None, *two)) == 2
    assert quotes(made, *two) == quotes(None, *two)
    assert made.wanted == []
    narrow = choice(1, TERMS, venues=frozenset({"uniswap"}))
    assert quotes(made, narrow) == quotes(None, narrow)
    other = choice(1, FakeTerms(WBTC, USDC, 10**9))
    assert quotes(made, other) == quotes(None, other)
    assert made.wanted == []
