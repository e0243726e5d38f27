"""Prices equal what the market's oracle says at every head, whatever moved them."""

import pytest
from eth_abi.abi import encode

from keeper.devnet import Devnet
from keeper.devnet.artifacts import compile_aave, load_own
from keeper.devnet.prices import aggregator_code
from keeper.errors import ConfigError
from keeper.oracles.aave_oracle import AaveOracle
from keeper.types import Prices
from keeper.units import WAD, ZERO_ADDRESS, Address
from tests.aave import BLOCK_SECONDS, Following

pytestmark = pytest.mark.chain


@pytest.fixture
def following(net: Devnet) -> Following:
    return Following(net, net.market.pool)


def asset(following: Following, symbol: str) -> Address:
    return Address(following.net.tokens[symbol].address)


def oracle(following: Following) -> AaveOracle:
    assert isinstance(following.market.oracle, AaveOracle)
    return following.market.oracle


def check(following: Following) -> Prices:
    """Follow to the head and compare every price with the oracle's."""
    following.follow()
    net = following.net
    expected = {asset(following, symbol): price for symbol, price in net.prices().items()}
    assert following.prices.values == expected
    assert following.prices.head == following.head.hash
    assert following.prices.unit == 10**8
    return following.prices


@pytest.mark.parametrize(
    ("symbol", "percent"),
    [("wstETH", 94), ("wstETH", 103), ("sUSDe", 97), ("PT", 96), ("WETH", 90)],
)
def test_a_source_need_not_say_that_it_moved(
    following: Following, symbol: str, percent: int
) -> None:
    net = following.net
    (borrower,) = net.borrowers(1, collateral=symbol, debt="DAI", health=1.02)
    before = check(following).values[asset(following, symbol)]
    net.set_price(symbol, before * percent // 100, move_pools=False)
    after = check(following).values[asset(following, symbol)]
    assert after != before
    health = following.position(borrower).health
    assert health == net.account_data(borrower)[5]
    assert (health < WAD) == (percent < 98)


def test_a_decaying_price_is_read_as_time_passes(following: Following) -> None:
    before = check(following).values[asset(following, "PT")]
    following.net.mine(1, 86_400)
    assert check(following).values[asset(following, "PT")] > before


def test_interest_alone_carries_a_borrower_over(following: Following) -> None:
    net = following.net
    (borrower,) = net.borrowers(1, collateral="DAI", debt="WETH", health=1.0001)
    following.follow()
    at, later = following.at(BLOCK_SECONDS), following.at(86_400 * 365)
    number = following.ledger.by_asset[asset(following, "WETH")].id
    assert following.position(borrower, BLOCK_SECONDS).health >= WAD
    debt_now = following.market.factors(following.prices, at)[1][number]
    debt_then = following.market.factors(following.prices, later)[1][number]
    assert debt_then > debt_now


def test_a_new_aggregator_is_watched_and_its_answers_announced(following: Following) -> None:
    net, symbol = following.net, "WETH"
    check(following)
    first = oracle(following).feeds[asset(following, symbol)].aggregator
    second = Address(net.rotate_aggregator(symbol))
    check(following)
    net.set_price(symbol, net.price(symbol) * 99 // 100, move_pools=False)
    check(following)
    check_again = following.head
    net.mine()
    check(following)
    assert following.head != check_again
    assert oracle(following).feeds[asset(following, symbol)].aggregator == second != first
    assert second in following.market.oracle.watch().addresses
    assert first not in following.market.oracle.watch().addresses


def test_an_adapter_has_no_aggregator(following: Following) -> None:
    assert oracle(following).feeds[asset(following, "wstETH")].aggregator == ZERO_ADDRESS
    assert ZERO_ADDRESS not in following.market.oracle.watch().addresses


def test_a_new_source_is_followed_and_taken_back(following: Following) -> None:
    net, market = following.net, following.net.market
    dai = asset(following, "DAI")
    before = oracle(following).feeds[dai]
    source = Address(net.deploy(aggregator_code(load_own(), "DAI", 95_000_000), market.owner))
    net.send(market.owner, market.oracle, "setAssetSources(address[],address[])", [[dai], [source]])
    assert check(following).values[dai] == 95_000_000
    assert oracle(following).feeds[dai].source == source
    following.take_back(following.blocks[-1].undos)
    assert oracle(following).feeds[dai] == before


def deploy_oracle(following: Following, base: Address) -> Address:
    """Deploy a second oracle of the same sources, with another base currency or unit."""
    net, market = following.net, following.net.market
    contracts = compile_aave(net._modules, net._progress)
    tokens, feeds = (
        [getattr(t, name) for t in net.tokens.values()] for name in ("address", "feed")
    )
    types = ["address", "address[]", "address[]", "address", "address", "uint256"]
    code = contracts["AaveOracle"].linked({}) + encode(
        types, [market.provider, tokens, feeds, ZERO_ADDRESS, base, 10**18]
    )
    second = Address(net.deploy(code, market.owner))
    net.send(market.owner, market.provider, "setPriceOracle(address)", [second])
    return second


def test_another_oracle_takes_over_with_its_own_unit(following: Following) -> None:
    second = deploy_oracle(following, ZERO_ADDRESS)
    following.follow()
    assert oracle(following).address == second
    assert following.prices.unit == 10**18
    assert len(following.prices.values) == len(following.net.tokens)
    assert all(feed.source for feed in oracle(following).feeds.values())
    following.take_back(following.blocks[-1].undos)
    assert oracle(following).address == following.net.market.oracle


def test_prices_in_another_currency_are_not_taken_for_dollars(following: Following) -> None:
    second = deploy_oracle(following, asset(following, "WETH"))
    following.follow()
    assert oracle(following).address == second
    assert following.prices.values == {}
    with pytest.raises(ConfigError, match="not priced in dollars"):
        following.run(oracle(following).bootstrap(following.reader, following.head))


def test_an_oracle_named_by_id_takes_over(following: Following) -> None:
    net, market = following.net, following.net.market
    name = b"PRICE_ORACLE".ljust(32, b"\0")
    other = net.deploy_market().oracle
    following.follow()
    net.send(market.owner, market.provider, "setAddress(bytes32,address)", [name, other])
    following.follow()
    assert oracle(following).address == other
    assert asset(following, "WETH") in following.prices.values
    assert asset(following, "WBTC") not in following.prices.values


def test_a_price_that_cannot_be_read_is_absent_until_a_fallback_gives_it(
    following: Following,
) -> None:
    net, market = following.net, following.net.market
    dai = asset(following, "DAI")
    broken = net.deploy(aggregator_code(load_own(), "DAI", 0), market.owner)
    net.send(market.owner, market.oracle, "setAssetSources(address[],address[])", [[dai], [broken]])
    following.follow()
    assert dai not in following.prices.values
    assert len(following.prices.values) == len(net.tokens) - 1
    fallback = net.deploy_market().oracle
    net.send(market.owner, market.oracle, "setFallbackOracle(address)", [fallback])
    assert check(following).values[dai] == 10**8


def test_an_audit_finds_a_source_that_was_missed(following: Following) -> None:
    check(following)
    run, reader, head = following.run, following.reader, following.head
    assert run(following.market.oracle.audit(reader, head, 0, 0)) == []
    dai = asset(following, "DAI")
    wrong = oracle(following).feeds[asset(following, "WETH")]
    oracle(following)._feeds[dai] = wrong
    (drift,) = run(following.market.oracle.audit(reader, head, 0, 0))
    assert drift.subject.endswith(dai.hex())
