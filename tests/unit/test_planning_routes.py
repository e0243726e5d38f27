"""A sale over several routes: shares to the wei, pools met twice, and what the contract is told."""

import random
from dataclasses import replace

from keeper.journal.codec import dump, load
from keeper.planning.batch import AmountMode, Swap
from keeper.planning.batching import build_batch
from keeper.planning.routing import Sales
from keeper.planning.shares import divide, portions, shares_of_left
from keeper.types import Hop, Portion, Sale
from keeper.units import WAD
from tests.fake_market import CONTRACT, MARKET, USDC, WBTC, WETH, FakeLender, pool, venue
from tests.plans import address, make_quote

FIRST = pool(1, WETH, USDC, 500, 1_000_000)
SECOND = pool(2, WETH, USDC, 3_000, 1_000_000)
IN = pool(3, WBTC, WETH, 500, 1_000_000)


def hop(made: object, token_in: object, token_out: object) -> Hop:
    return Hop("uniswap", made.address, token_in.address, token_out.address)  # type: ignore[attr-defined]


def test_shares_sell_everything_as_the_contract_divides_it() -> None:
    rng = random.Random(5)
    for _ in range(300):
        sold = [((), rng.randint(1, 10 ** rng.randint(1, 30))) for _ in range(rng.randint(1, 4))]
        routes = portions(sold)
        assert sum(portion.share for portion in routes) == WAD
        amount = rng.randint(10**6, 10**27)
        held, parts = amount, []
        for share in shares_of_left(routes):
            parts.append(held * share // WAD)
            held -= parts[-1]
        assert list(divide(routes, amount)) == parts
        assert sum(parts) == amount
        whole = sum(part for _, part in sold)
        wanted = sorted((part for _, part in sold), reverse=True)
        for part, exact in zip(parts, wanted, strict=False):
            assert abs(part - amount * exact // whole) <= amount // 10**17 + 2


def test_two_pools_are_sold_side_by_side() -> None:
    pools = {"uniswap": venue(FIRST, SECOND)}
    routes = (
        Portion((hop(FIRST, WETH, USDC),), WAD // 4 * 3),
        Portion((hop(SECOND, WETH, USDC),), WAD // 4),
    )
    amount = 40 * 10**18
    one, other = (
        Sales(pools).quote(portion.route, amount * k // 4)
        for portion, k in zip(routes, (3, 1), strict=True)
    )
    sales = Sales(pools)
    assert sales.quote_split(routes, amount) == one + other
    assert sales.apply_split(routes, amount) == one + other
    assert sales.quote_split(routes, amount) < one + other
    assert Sales(pools).quote_split(routes, 3) == 0, "the contract refuses to sell nothing"


def test_routes_that_meet_in_a_pool_are_sold_one_after_another() -> None:
    pools = {"uniswap": venue(FIRST, SECOND, IN)}
    first = (hop(IN, WBTC, WETH), hop(FIRST, WETH, USDC))
    second = (hop(IN, WBTC, WETH), hop(SECOND, WETH, USDC))
    routes = (Portion(first, WAD // 2), Portion(second, WAD // 2))
    sales = Sales(pools)
    quoted = sales.quote_split(routes, 10**8)
    trial = Sales(pools)
    assert quoted == trial.apply(first, 5 * 10**7) + trial.apply(second, 5 * 10**7)
    assert sales.quote_split(routes, 10**8) == quoted, "a quote moves nothing"
    assert sales.apply_split(routes, 10**8) == quoted
    later = sales.fork(first).quote(first, 10**6)
    assert later == sales.quote(first, 10**6) < Sales(pools).quote(first, 10**6)


def test_the_contract_is_told_shares_of_what_is_left() -> None:
    quote = make_quote(address("borrower"))
    position = replace(quote.opportunity.position, market=MARKET)
    opportunity = replace(quote.opportunity, position=position)
    routes = (
        Portion((hop(FIRST, WETH, USDC),), WAD // 2),
        Portion((hop(IN, WETH, WBTC), hop(FIRST, WBTC, USDC)), WAD // 4),
        Portion((hop(SECOND, WETH, USDC),), WAD // 4),
    )
    group = [replace(quote, opportunity=opportunity, routes=routes)]
    batch = build_batch(
        [group],
        {"uniswap": venue(FIRST, SECOND, IN)},
        {MARKET: FakeLender()},  # type: ignore[dict-item]
        {},
        0,
        CONTRACT,
        1,
    )
    actions = batch.groups[0].actions
    assert all(isinstance(action, Swap) for action in actions)
    assert [(action.amount.mode, action.amount.value) for action in actions] == [
        (AmountMode.SHARE, WAD // 2),
        (AmountMode.SHARE, WAD // 2),
        (AmountMode.GAINED, 0),
        (AmountMode.GAINED, 0),
    ]


def test_a_sale_on_record_from_before_goes_along_its_one_route() -> None:
    route = (hop(FIRST, WETH, USDC),)
    kept = dump(Sale((Portion(route),), 7))
    assert load(Sale, kept) == Sale((Portion(route),), 7)
    old = {"amount": "7", "route": kept["routes"][0]["route"]}
    assert load(Sale, old) == Sale((Portion(route),), 7)
    assert load(Sale, {"amount": "7", "route": []}) == Sale((), 7)
