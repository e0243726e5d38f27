"""Who lends: by premium and gas, shut by what it locks, and own capital as far as it goes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from keeper.execution.lanes import Lane, assign, in_lines
from keeper.planning.fitting import sum_loans
from keeper.planning.funding import choose_source, cost_of, shut_by
from keeper.planning.gas import FUND
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.ports import Venue
from keeper.types import Bid, FlashKind, FlashSource, Quote
from keeper.units import BPS, USD, WAD, Address, Bps, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    CONTRACT,
    FACTORY,
    GWEI,
    MARKET,
    TOKENS,
    USDC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    view,
)

VAULT, SOLD, OTHER = (Address(bytes([n]) * 20) for n in (0xE1, 0xE2, 0xE3))
RULES = PlanRules("test", CONTRACT, Wei(GWEI))
DEEP = pool(1, WETH, USDC, 500, 50_000_000)
THOUSANDS = 10**3 * 10**6


def source(
    kind: FlashKind, ppm: int, *shuts: Address, available: int = 10**15, fee_wad: int = 0
) -> FlashSource:
    return FlashSource(kind, OTHER, USDC.address, available, ppm, fee_wad, frozenset(shuts))


AAVE = source(FlashKind.AAVE, 500)
BALANCER = source(FlashKind.BALANCER, 0, VAULT, SOLD)


class Vault(UniswapV3):
    """Lends for nothing, and nothing can be sold in its pools meanwhile."""

    held = 10**15

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        shuts = frozenset({VAULT, *self.pools})
        return [FlashSource(FlashKind.BALANCER, VAULT, token, self.held, 0, shuts=shuts)]


class Plain(UniswapV3):
    """Sells and does not lend."""

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        return ()


def quoted(
    *choices: FakeChoice,
    held: int = 0,
    vault: Sequence[Pool] | None = None,
    fee_ppm: int = 500,
    vault_holds: int = 10**15,
) -> tuple[Planner, list[Quote]]:
    """Return what is quoted with so much USDC of our own, and with these pools in a vault."""
    plain = Plain("uniswap", FACTORY, [token.address for token in TOKENS])
    plain.adopt([DEEP])
    venues: dict[str, Venue] = {"uniswap": plain}
    if vault is not None:
        lending = Vault("vault", FACTORY, [token.address for token in TOKENS])
        lending.adopt(vault)
        lending.held = vault_holds
        venues["vault"] = lending
    ids = iter(range(99))
    planner = Planner(
        RULES,
        venues,
        {MARKET: FakeLender(fee_ppm=fee_ppm)},  # type: ignore[dict-item]
        lambda: f"plan-{next(ids)}",
    )
    seen = replace(view(), inventory={USDC.address: held} if held else {})
    quotes, skips = planner.quote(seen, choices)
    assert skips == []
    return planner, quotes


def owes(number: int, thousands: int, strategy: str = "profitability") -> FakeChoice:
    return choice(number, FakeTerms(WETH, USDC, thousands * THOUSANDS), strategy=strategy)


def test_a_premium_is_weighed_with_its_gas() -> None:
    pooled = source(FlashKind.UNISWAP_V3, 490)
    saved = (FUND[FlashKind.AAVE] - FUND[FlashKind.UNISWAP_V3]) * 0.5
    assert choose_source([AAVE, pooled], 10**9, frozenset(), 0.5) is pooled
    dear = source(FlashKind.UNISWAP_V3, 506)
    assert 10**9 * 6 // 10**6 == 6_000 > saved == 5_000
    assert choose_source([AAVE, dear], 10**9, frozenset(), 0.5) is AAVE
    assert choose_source([AAVE, dear], 10**8, frozenset(), 0.5) is dear
    assert cost_of(AAVE, 10**9, 0.5) == 500_000 + 0.5 * FUND[FlashKind.AAVE]


@pytest.mark.parametrize("per_gas", [0.0, 1e-9, 1.0])
def test_free_lenders_go_by_their_gas(per_gas: float) -> None:
    own, morpho = source(FlashKind.INVENTORY, 0), source(FlashKind.MORPHO, 0)
    lenders = [AAVE, BALANCER, morpho, own]
    for best in (own, morpho, BALANCER, AAVE):
        assert choose_source(lenders, 10**9, frozenset(), per_gas) is best
        lenders.remove(best)


def test_what_a_lender_shuts_is_not_sold_through() -> None:
    assert choose_source([AAVE, BALANCER], 10**9, frozenset({SOLD})) is AAVE
    assert choose_source([AAVE, BALANCER], 10**9, frozenset({CONTRACT})) is BALANCER
    assert choose_source([BALANCER], 10**9, frozenset({SOLD})) is None
    assert shut_by([AAVE, BALANCER]) == {VAULT, SOLD}
    assert shut_by([]) == frozenset()
    pooled = FlashSource(FlashKind.UNISWAP_V3, SOLD, USDC.address, 1, 0)
    assert pooled.shuts == {SOLD}, "whoever says so"


def test_who_has_too_little_is_passed_over_and_the_largest_is_left() -> None:
    short = replace(BALANCER, available=10**9 - 1)
    assert choose_source([AAVE, short], 10**9, frozenset()) is AAVE
    assert choose_source([short, replace(AAVE, available=5)], 10**9, frozenset()) is short
    assert choose_source([replace(AAVE, available=0)], 10**9, frozenset()) is None


def test_a_fee_finer_than_a_millionth_is_exact() -> None:
    fine = source(FlashKind.BALANCER, 1, fee_wad=123_456_789)
    assert fine.premium_up(10**18) == 123_456_789
    assert fine.premium_up(10**9 + 1) == 1
    assert fine.premium_up(0) == 0
    assert fine.premium_up(3 * WAD + 1) == 3 * 123_456_789 + 1


def test_a_vault_lends_where_no_sale_goes_through_it() -> None:
    far = pool(7, WETH, USDC, 10_000, 4_000_000)
    (quote,) = quoted(owes(1, 10), vault=[far])[1]
    assert (quote.flash.kind, quote.premium) == (FlashKind.BALANCER, 0)
    (dear,) = quoted(owes(1, 10))[1]
    gas = quote.gas_cost - dear.gas_cost
    assert quote.net == dear.net + dear.premium - gas > dear.net
    assert gas < 0
    near = pool(7, WETH, USDC, 100, 50_000_000)
    (sold,) = quoted(owes(1, 10), vault=[near])[1]
    assert {hop.pool for hop in sold.hops} == {near.address}
    assert sold.flash.kind is FlashKind.AAVE
    (short,) = quoted(owes(1, 10), vault=[far], vault_holds=9 * THOUSANDS)[1]
    assert short.flash.kind is FlashKind.AAVE


def test_own_capital_comes_before_every_loan() -> None:
    (own,) = quoted(owes(1, 10), held=11 * THOUSANDS, vault=[])[1]
    assert (own.flash.kind, own.flash.source, own.premium) == (FlashKind.INVENTORY, CONTRACT, 0)
    (lent,) = quoted(owes(1, 10))[1]
    assert own.net > lent.net
    assert own.gas == lent.gas - FUND[FlashKind.AAVE] + FUND[FlashKind.INVENTORY]
    (short,) = quoted(owes(1, 10), held=9 * THOUSANDS)[1]
    assert short.flash.kind is FlashKind.AAVE


def test_what_own_capital_cannot_carry_alone_is_borrowed_beside_it() -> None:
    planner, quotes = quoted(owes(1, 10), owes(2, 20), owes(3, 30), held=41 * THOUSANDS)
    kinds = {quote.repaid // THOUSANDS: quote.flash.kind for quote in quotes}
    assert kinds == {10: FlashKind.INVENTORY, 20: FlashKind.AAVE, 30: FlashKind.INVENTORY}
    assert [quote.premium for quote in quotes if quote.flash.kind is FlashKind.INVENTORY] == [0, 0]
    bid = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)
    plans, _ = planner.pack(view(), [(quote, bid) for quote in quotes])
    (plan,) = plans
    lent = sum_loans([list(plan.quotes)])
    assert {each.kind for each in lent} == {FlashKind.INVENTORY, FlashKind.AAVE}
    assert all(amount <= each.available for each, amount in lent.items())


def test_a_vault_that_is_short_lends_a_part() -> None:
    far = pool(7, WETH, USDC, 10_000, 4_000_000)
    debts = [owes(n, thousands) for n, thousands in ((1, 10), (2, 20), (3, 30))]
    _, quotes = quoted(*debts, vault=[far], vault_holds=35 * THOUSANDS)
    kinds = {quote.repaid // THOUSANDS: quote.flash.kind for quote in quotes}
    assert kinds == {10: FlashKind.AAVE, 20: FlashKind.AAVE, 30: FlashKind.BALANCER}
    # with own capital beside it that would carry more
    _, quotes = quoted(*debts, vault=[far], vault_holds=35 * THOUSANDS, held=51 * THOUSANDS)
    kinds = {quote.repaid // THOUSANDS: quote.flash.kind for quote in quotes}
    assert kinds == {10: FlashKind.AAVE, 20: FlashKind.INVENTORY, 30: FlashKind.INVENTORY}
    # a pool of it sells: nothing there is shut
    near = pool(7, WETH, USDC, 100, 50_000_000)
    _, quotes = quoted(*debts, vault=[near], vault_holds=35 * THOUSANDS)
    assert {quote.flash.kind for quote in quotes} == {FlashKind.AAVE}


class Dear(UniswapV3):
    """Lends whatever is asked for, at a premium."""

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        return [FlashSource(FlashKind.MORPHO, OTHER, token, 10**30, 500)]


@pytest.mark.parametrize("bonus", [10_500, 9_000])
def test_what_collateral_takes_out_of_a_reserve_is_not_lent(bonus: int) -> None:
    """Neither by one that is short beside another, nor where all that is borrowed moves to it."""
    venue = Dear("uniswap", FACTORY, [token.address for token in TOKENS])
    venue.adopt([DEEP])
    reserve = {USDC.address: 30 * THOUSANDS, WETH.address: 10**24}
    lender = FakeLender(fee_ppm=0, available=reserve, liquidity=reserve)
    markets = {MARKET: lender}
    planner = Planner(RULES, {"uniswap": venue}, markets, lambda: "")  # type: ignore[arg-type]
    # at a bonus below one it is wanted at first, and not taken
    other = choice(2, FakeTerms(WETH, USDC, 10 * THOUSANDS, Bps(bonus)))
    seizes = choice(3, FakeTerms(USDC, WETH, 5 * 10**18))
    lent = {}
    for choices in ([owes(1, 25), other], [owes(1, 25), other, seizes]):
        quotes, _ = planner.quote(view(), choices)
        cheap = [q.repaid for q in quotes if q.debt == USDC and q.flash.kind is FlashKind.AAVE]
        lent[len(choices)] = sum(cheap) // THOUSANDS
    assert lent == {2: 25, 3: 10 if bonus > BPS else 0}


def test_own_capital_that_saves_less_than_its_gas_stays() -> None:
    _, quotes = quoted(owes(1, 10), owes(2, 20), held=11 * THOUSANDS, fee_ppm=1)
    assert {quote.flash.kind for quote in quotes} == {FlashKind.AAVE}
    _, quotes = quoted(owes(1, 10), owes(2, 20), held=11 * THOUSANDS)
    assert sorted(quote.flash.kind for quote in quotes) == [FlashKind.AAVE, FlashKind.INVENTORY]


def test_two_transactions_of_a_head_go_one_behind_the_other_on_own_capital() -> None:
    """Each gives back what it took, in itself; on one lane none can meet the other half way."""
    held = 25 * THOUSANDS
    planner, quotes = quoted(owes(1, 20, "one"), owes(2, 20, "two"), held=2 * held)
    assert {quote.flash.kind for quote in quotes} == {FlashKind.INVENTORY}
    own = replace(quotes[0].flash, available=held)
    bid = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)
    bids = [(replace(quote, flash=own), bid) for quote in quotes]
    plans, skips = planner.pack(view(), bids)
    assert (len(plans), skips) == (2, [])
    for plan in plans:
        ((_, amount),) = sum_loans([list(plan.quotes)]).items()
        assert amount <= held < 2 * amount
    apart = [
        replace(plan, quotes=tuple(replace(q, routes=()) for q in plan.quotes)) for plan in plans
    ]
    assert in_lines(apart) == [0, 0]
    lanes = [Lane(Address(bytes([n]) * 20), Wei(10**18), Wei(0), 0, False) for n in (1, 2)]
    sent, _ = assign(apart, lanes, 4)
    assert sent[0].sender == sent[1].sender
    borrowed = [
        replace(each, quotes=tuple(replace(q, flash=AAVE) for q in each.quotes)) for each in apart
    ]
    assert in_lines(borrowed) == [0, 1]
    assert plans[0].net_usd > 50 * USD
