"""Feeds followed from head to head: ages, heartbeats and bands learned, and the lag behind pools."""

import random
import tomllib
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from keeper.app.oracles import believing, following, make_oracles, recall, remembering
from keeper.config import Settings
from keeper.engine import Report
from keeper.errors import ConfigError
from keeper.journal.feeds import FeedRow
from keeper.journal.sqlite import SqliteJournal
from keeper.oracles.pools import PoolPrices
from keeper.oracles.record import read, written
from keeper.oracles.watch import (
    Expected,
    Feed,
    Look,
    astray,
    band,
    fold,
    heartbeat,
    stale,
    take_up,
)
from keeper.risk.oracles import Doubt, OracleWatch, is_rested_on
from keeper.types import CollateralLeg, DebtLeg, Hop, Prices, Reason, Token, View
from keeper.units import BPS, USD, WAD, Address, Bps, to_hex
from tests.plans import USDC, WETH, address, make_head, make_view

NOTHING = Expected()
SET = Expected(3_600, Bps(50))
ETHER = 2_000 * WAD
DAI = Token(address("DAI"), "DAI", 18)
STAKED = Token(address("wstETH"), "wstETH", 18)
TOKENS = {token.address: token for token in (USDC, WETH, DAI, STAKED)}


def follow(looks: Iterable[Look], expected: Expected = NOTHING) -> tuple[Feed, list[int]]:
    """Return the feed after all looks, and every lag told."""
    feed, lags = None, []
    for look in looks:
        feed, lag = fold(feed, look, expected)
        lags += [] if lag is None else [lag]
    assert feed is not None
    return feed, lags


def beating(beats: int, every: int = 3_600, wiggle: int = 0) -> list[Look]:
    """Return looks before and at each round of a feed that speaks by its clock alone."""
    looks = [Look(0, ETHER, ETHER)]
    for beat in range(1, beats + 1):
        before, after = (ETHER + each % 2 * wiggle for each in (beat - 1, beat))
        looks += [Look(beat * every - 12, before, ETHER), Look(beat * every, after, ETHER)]
    return looks


def test_a_feed_follows_behind_the_pools() -> None:
    prices = [(ETHER, ETHER)] * 2 + [(ETHER, ETHER * 99 // 100)] * 3
    prices += [(ETHER * 99 // 100, ETHER * 99 // 100)] * 2
    feed, lags = follow((Look(12 * n, *each) for n, each in enumerate(prices)), SET)
    assert lags == [36]
    assert (feed.updated, feed.lag, feed.left, feed.off) == (60, 36, None, 0)
    assert feed.age(100) == 40


def test_a_feed_in_the_very_block_of_the_pools_is_not_behind() -> None:
    moved = ETHER * 97 // 100
    _, lags = follow((Look(0, ETHER, ETHER), Look(12, moved, moved)), SET)
    assert lags == [0]


def test_pools_that_come_back_and_feeds_by_the_clock_are_no_lag() -> None:
    low = ETHER * 99 // 100
    looks = [Look(0, ETHER, ETHER), Look(12, ETHER, low), Look(24, ETHER, ETHER)]
    assert follow([*looks, Look(36, ETHER + 1, ETHER)], SET)[1] == []


def test_a_feed_that_stays_behind_is_behind_anew() -> None:
    half, low = ETHER * 99 // 100, ETHER * 98 // 100
    looks = [Look(0, ETHER, ETHER), Look(12, ETHER, low), Look(24, half, low), Look(60, low, low)]
    assert follow(looks, SET)[1] == [12, 36]


def test_what_happened_while_nobody_looked_is_not_dated() -> None:
    low = ETHER * 98 // 100
    looks = [Look(0, ETHER, ETHER), Look(12, ETHER, low), Look(4_000, ETHER, low)]
    assert follow([*looks, Look(4_012, low, low)], SET)[1] == []
    assert follow([Look(0, ETHER), Look(4_000, ETHER + 1)])[0].quiet == ()


def test_a_heartbeat_is_learned_from_rounds_that_a_clock_made() -> None:
    assert heartbeat(follow(beating(3, wiggle=1))[0], NOTHING) is None
    feed, _ = follow(beating(4, wiggle=1))
    assert heartbeat(feed, NOTHING) == 3_600
    assert heartbeat(feed, SET) == 3_600
    assert band(feed, NOTHING) == 50


def test_one_that_leaves_the_price_as_it_was_is_a_round_too() -> None:
    looks = [replace(each, rounds=each.time // 3_600) for each in beating(5)]
    feed, _ = follow(looks)
    assert heartbeat(feed, NOTHING) == 3_600
    assert feed.age(looks[-1].time + 60) == 60
    assert heartbeat(follow(beating(5))[0], NOTHING) is None


def test_rounds_by_price_teach_no_heartbeat_and_those_early_teach_a_band() -> None:
    chance = random.Random(7)
    looks, time, price = [Look(0, ETHER)], 0, ETHER
    for _ in range(300):
        gap = 12 * chance.randint(1, 200)
        looks.append(Look(time + gap - 12, price))
        time += gap
        price += price * chance.choice((-1, 1)) * chance.randint(100, 130) // BPS
        looks.append(Look(time, price))
    feed, _ = follow(looks)
    assert heartbeat(feed, NOTHING) is None
    feed, _ = follow(looks, Expected(3_600))
    assert 100 <= band(feed, Expected(3_600)) <= 110


def test_a_heartbeat_that_was_none_is_forgotten() -> None:
    looks = beating(4, 1_500, wiggle=1)
    last = looks[-1]
    assert heartbeat(follow(looks)[0], NOTHING) == 1_500
    looks.append(replace(last, time=last.time + 2_388))
    looks.append(replace(last, time=last.time + 2_400, price=last.price + 1))
    assert heartbeat(follow(looks)[0], NOTHING) is None


@pytest.mark.parametrize("price", [WAD, ETHER * 6 // 5])
def test_what_never_speaks_is_never_stale(price: int) -> None:
    """Fixed prices and ratios have no heartbeat that anybody knows."""
    feed, _ = follow([Look(12 * n, price, price) for n in range(100)])
    assert stale(replace(feed, looked=10**9), 10**9, price, NOTHING, 3) == ""


def test_a_silent_feed_is_stale_after_its_heartbeats() -> None:
    feed, _ = follow(beating(2, wiggle=1))
    now = feed.updated + 3 * 3_600
    assert stale(feed, now + 1, feed.price, SET, 3) == "", "nobody looked for what came since"
    feed = replace(feed, looked=now)
    assert stale(feed, now, feed.price, SET, 3) == ""
    assert stale(feed, now + 1, feed.price, SET, 3) == (
        "no round for 10801 s, with a heartbeat of 3600 s"
    )
    assert stale(feed, now + 1, feed.price + 1, SET, 3) == ""
    assert stale(feed, now + 1, feed.price, SET, 0) == ""


def test_how_far_off_is_said_with_its_side() -> None:
    assert astray(WAD * 13 // 10, WAD, Bps(3_000)) == ""
    assert astray(WAD * 14 // 10, WAD, Bps(3_000)) == "4000 bps above the pools"
    assert astray(WAD * 6 // 10, WAD, Bps(3_000)) == "4000 bps below the pools"
    assert astray(WAD * 9, WAD, Bps(0)) == astray(WAD * 9, None, Bps(1)) == ""


class Pools:
    """A venue whose pools give `rates`: whole tokens of the second for one of the first.

    A pool holds as many whole tokens of the first as `reserves` says, or no end of them.
    """

    def __init__(
        self, rates: dict[tuple[Token, Token], float], fee: float = 0.003, name: str = "pools"
    ) -> None:
        self.name = name
        self.rates = rates
        self.fee = fee
        self.reserves: dict[tuple[Token, Token], float] = {}
        self.asked = 0

    def hops(self, token: Address) -> list[Hop]:
        found = []
        for one, other in self.rates:
            pool = address(f"{one.symbol}{other.symbol}")
            if token == one.address:
                found.append(Hop(self.name, pool, one.address, other.address))
            elif token == other.address:
                found.append(Hop(self.name, pool, other.address, one.address))
        return found

    def begin(self) -> "Pools":
        return self

    def quote(self, hop: Hop, amount: int) -> int:
        self.asked += 1
        sold, bought = TOKENS[hop.token_in], TOKENS[hop.token_out]
        pair = (sold, bought) if (sold, bought) in self.rates else (bought, sold)
        rate = self.rates[pair] if pair[0] == sold else 1 / self.rates[pair]
        whole = amount / 10**sold.decimals
        reserve = self.reserves.get(pair)
        if reserve is not None:
            reserve *= 1 if pair[0] == sold else self.rates[pair]
            whole /= 1 + whole / reserve
        return int(whole * rate * (1 - self.fee) * 10**bought.decimals)


def worth(pools: Pools, feeds: dict[Token, int], *others: Pools) -> dict[str, int | None]:
    venues: Any = [pools, *others]
    prices = PoolPrices(lambda: venues)
    named = {token.address: price for token, price in feeds.items()}
    prices.look(1, named, TOKENS)
    quoted = prices.at(named, TOKENS)
    return {token.symbol: quoted.price(token.address) for token in feeds}


FEEDS = {USDC: WAD, DAI: WAD, WETH: ETHER, STAKED: ETHER * 6 // 5}


def test_tokens_are_worth_what_pools_give_on_the_way_to_a_dollar() -> None:
    pools = Pools({(WETH, USDC): 1_900, (STAKED, WETH): 1.2, (USDC, DAI): 0.99})
    found = worth(pools, FEEDS)
    assert found["WETH"] == pytest.approx(1_900 * WAD, rel=1e-5)
    assert found["wstETH"] == pytest.approx(2_280 * WAD, rel=1e-5)
    assert found["USDC"] == pytest.approx(0.99 * WAD, rel=1e-5)
    assert found["DAI"] == pytest.approx(WAD / 0.99, rel=1e-5)


def test_shallow_and_dear_pools_tell_nothing() -> None:
    pools = Pools({(WETH, USDC): 1_900})
    pools.reserves = {(WETH, USDC): 1}
    assert worth(pools, FEEDS) == dict.fromkeys(("USDC", "DAI", "WETH", "wstETH"))
    assert worth(Pools({(WETH, USDC): 1_900}, 0.05), FEEDS)["WETH"] is None


def test_the_deepest_pool_tells_and_not_the_cheapest() -> None:
    """Whoever puts a thousand dollars into a pool of his own has no say in what a token is worth."""
    own = Pools({(WETH, USDC): 2_300, (STAKED, USDC): 3_000}, 0.0001, "own")
    own.reserves = {(WETH, USDC): 100, (STAKED, USDC): 100}
    market = Pools({(WETH, USDC): 1_900, (STAKED, WETH): 1.2})
    found = worth(own, FEEDS, market)
    assert found["WETH"] == pytest.approx(1_900 * WAD, rel=1e-5)
    assert found["wstETH"] == pytest.approx(2_280 * WAD, rel=1e-5)


def test_a_pool_that_was_left_tells_nothing_at_once() -> None:
    pools, venues = Pools({(WETH, USDC): 2_000}, 0.0001), []
    venues.append(pools)
    prices = PoolPrices(lambda: cast("Any", venues))
    feeds = {USDC.address: WAD, WETH.address: ETHER}
    prices.look(1, feeds, TOKENS)
    assert prices.at(feeds, TOKENS).price(WETH.address) == pytest.approx(ETHER, rel=1e-5)
    pools.reserves[WETH, USDC] = 10 / 2_000
    assert prices.at(feeds, TOKENS).price(WETH.address) is None
    venues.append(other := Pools({(WETH, USDC): 1_990}, name="other"))
    other.reserves[WETH, USDC] = 1_000
    pools.reserves.clear()
    prices.look(51, feeds, TOKENS)
    pools.reserves[WETH, USDC] = 10 / 2_000
    assert prices.at(feeds, TOKENS).price(WETH.address) == pytest.approx(1_990 * WAD, rel=1e-2)


def test_a_pool_that_a_reorg_dropped_tells_nothing() -> None:
    pools = Pools({(WETH, USDC): 2_000})
    venues: Any = [pools]
    prices = PoolPrices(lambda: venues)
    feeds = {USDC.address: WAD, WETH.address: ETHER}
    prices.look(1, feeds, TOKENS)
    pools.rates.clear()
    assert prices.at(feeds, TOKENS).price(WETH.address) is None


def test_pools_are_looked_for_a_little_at_a_head_and_only_for_what_is_new() -> None:
    pools = Pools({(WETH, USDC): 2_000, (USDC, DAI): 1, (STAKED, WETH): 1.2})
    venues: Any = [pools]
    prices = PoolPrices(lambda: venues)
    feeds = {token.address: price for token, price in FEEDS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keeper.oracles.pools.HOPS_PER_HEAD", 2)
        spent = []
        for head in range(1, 5):
            before = pools.asked
            prices.look(head, feeds, TOKENS)
            spent.append(pools.asked - before)
        assert spent == [spent[0], spent[0], spent[0], 0]
        assert 0 < spent[0] <= 2 * 15
    assert prices.at(feeds, TOKENS).price(STAKED.address) is not None
    fewer = {token: price for token, price in feeds.items() if token != STAKED.address}
    for head, named in ((5, fewer), (6, feeds), (7, fewer)):
        before = pools.asked
        prices.look(head, named, TOKENS)
        assert pools.asked == before, "it only went and came back"
    late = PoolPrices(lambda: venues)
    late.look(1, fewer, TOKENS)
    before = pools.asked
    late.look(2, feeds, TOKENS)
    assert pools.asked - before == spent[0], "its own pool, both ways, and no other"
    assert late.at(feeds, TOKENS).price(STAKED.address) is not None


def test_without_a_dollar_the_token_most_pools_have_is_the_measure() -> None:
    pools = Pools({(STAKED, WETH): 1.1})
    found = worth(pools, {WETH: ETHER, STAKED: ETHER * 6 // 5})
    assert sorted(found.values(), key=str) != [None, None]
    assert [price for price in found.values() if price is None] == [None]


def seen(number: int, ether: int, *, at_risk: bool = False) -> View:
    view = make_view(make_head(number), (address("one"),) if at_risk else ())
    prices = {USDC.address: USD, WETH.address: ether}
    return replace(view, prices={"aave-v3": Prices("aave-v3", USD, prices)}, tokens=TOKENS)


class Market:
    """A market with prices in dollars."""

    oracle: Any = None

    def tokens(self) -> dict[Address, Token]:
        return TOKENS


RATIO = address("ratio")


class Places(Market):
    """A market whose place has an oracle of its own, kept among its prices by a made-up address."""

    PLACE = "blue/WETH-DAI"

    def rates(self, prices: Prices) -> dict[str, tuple[Token, Token, int]]:
        return {self.PLACE: (WETH, DAI, prices.values[RATIO] * WAD)}


def watch(
    pools: Pools, doubt: Doubt, lags: list[tuple[str, str, int]] | None = None
) -> OracleWatch:
    venues: Any = [pools]

    def followed(market: str, asset: str, seconds: int) -> None:
        if lags is not None:
            lags.append((market, asset, seconds))

    expected = {WETH.address: Expected(120, Bps(50))}
    markets: Any = {"aave-v3": Market(), "blue": Places()}
    return OracleWatch(PoolPrices(lambda: venues), doubt, expected, markets, followed)


def test_positions_under_a_silent_feed_are_left_alone_until_it_speaks() -> None:
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt())
    for number in range(100, 131):
        made.observe(seen(number, 2_000 * USD))
        assert not made.doubtful(seen(number, 2_000 * USD, at_risk=True))
    late = seen(131, 2_000 * USD, at_risk=True)
    (held,) = late.at_risk
    assert made.doubtful(late) == {
        held.position.key: (
            Reason.STALE_ORACLE,
            "the feed of WETH had no round for 372 s, with a heartbeat of 120 s",
        )
    }
    made.observe(seen(131, 2_000 * USD))
    (ether,) = [each for each in made.standing() if each.asset == "WETH"]
    assert (ether.heartbeat, ether.band, ether.feed.age(late.head.timestamp)) == (120, 50, 372)
    assert ether.stale
    assert not made.doubtful(seen(132, 1_999 * USD, at_risk=True))


def test_positions_under_a_feed_far_off_the_pools_are_left_alone() -> None:
    pools = Pools({(WETH, USDC): 2_000})
    made = watch(pools, Doubt(limit=Bps(1_000)))
    made.observe(seen(100, 2_000 * USD))
    assert not made.doubtful(seen(101, 1_850 * USD, at_risk=True))
    off = made.doubtful(seen(101, 1_500 * USD, at_risk=True))
    assert list(off.values()) == [
        (Reason.BREAKER, "deviation: the feed of WETH is 2499 bps below the pools")
    ]
    pools.rates[WETH, USDC] = 1_500
    assert not made.doubtful(seen(101, 1_500 * USD, at_risk=True))


def test_one_deep_pool_that_agrees_clears_a_feed() -> None:
    deepest = Pools({(WETH, USDC): 1_200})
    agreeing = Pools({(WETH, USDC): 2_010}, name="agreeing")
    agreeing.reserves = {(WETH, USDC): 500}
    venues: Any = [agreeing, deepest]
    markets: Any = {"aave-v3": Market()}
    made = OracleWatch(PoolPrices(lambda: venues), Doubt(limit=Bps(1_000)), {}, markets)
    made.observe(seen(100, 2_000 * USD))
    assert not made.doubtful(seen(101, 2_000 * USD, at_risk=True))
    agreeing.reserves = {(WETH, USDC): 0.01}
    ((_, why),) = made.doubtful(seen(101, 2_000 * USD, at_risk=True)).values()
    assert why == "deviation: the feed of WETH is 6666 bps above the pools"


def test_an_oracle_of_a_place_is_held_against_the_pools_of_its_two_tokens() -> None:
    pools = Pools({(WETH, USDC): 2_000, (USDC, DAI): 0.5})
    made = watch(pools, Doubt(limit=Bps(1_000)))

    def blue(number: int, ratio: int) -> View:
        view = seen(number, 2_000 * USD, at_risk=True)
        (held,) = view.at_risk
        leg = CollateralLeg(WETH, 1, 1_000, Bps(8_000), Bps(10_500))
        position = replace(
            held.position,
            market=Places.PLACE,
            collateral=(leg,),
            debt=(DebtLeg(DAI, 900, 900),),
            collateral_value=1_000,
            debt_value=900,
        )
        values = {DAI.address: 2 * USD, RATIO: ratio}
        prices = {**view.prices, "blue": Prices("blue", USD, values)}
        return replace(view, at_risk=(replace(held, position=position),), prices=prices)

    made.observe(blue(100, 1_000))
    found = {(each.market, each.asset): each for each in made.standing()}
    assert set(found) == {
        ("aave-v3", "USDC"),
        ("aave-v3", "WETH"),
        ("blue", "DAI"),
        (Places.PLACE, "WETH"),
    }
    assert found[Places.PLACE, "WETH"].feed.off == pytest.approx(0, abs=10**14)
    assert found[Places.PLACE, "WETH"].heartbeat is None, "another feed's is not its own"
    assert not made.doubtful(blue(101, 1_050))
    ((reason, why),) = made.doubtful(blue(101, 1_200)).values()
    assert (reason, why) == (
        Reason.BREAKER,
        "deviation: the feed of WETH is 2000 bps above the pools",
    )


def test_the_lag_behind_pools_is_told_with_market_and_token() -> None:
    lags: list[tuple[str, str, int]] = []
    pools = Pools({(WETH, USDC): 2_000})
    made = watch(pools, Doubt(), lags)
    made.observe(seen(100, 2_000 * USD))
    pools.rates[WETH, USDC] = 1_900
    made.observe(seen(101, 2_000 * USD))
    made.observe(seen(102, 2_000 * USD))
    made.observe(seen(103, 1_900 * USD))
    assert lags == [("aave-v3", "WETH", 24)]


def test_what_settings_say_of_feeds_is_taken_up_by_symbol_or_address() -> None:
    said = (
        "[chains.x]\nchain_id = 1\nendpoints = ['ws://a']\n"
        f"[chains.x.feeds.WETH]\nheartbeat_seconds = 120\n"
        f"[chains.x.feeds.{to_hex(DAI.address)}]\ndeviation_bps = 25\n"
    )

    def make(text: str, *unloaded: str) -> OracleWatch:
        settings = Settings.model_validate(tomllib.loads(text))
        markets: Any = {"aave-v3": Market()}
        return make_oracles("x", settings, settings.chains["x"], markets, list, unloaded=unloaded)

    view = seen(100, 2_000 * USD)
    prices = {WETH.address: 2_000 * USD, DAI.address: USD}
    made = make(said)
    made.observe(replace(view, prices={"aave-v3": Prices("aave-v3", USD, prices)}))
    found = {each.asset: (each.heartbeat, each.band) for each in made.standing()}
    assert found == {"WETH": (120, 50), "DAI": (None, 25)}
    with pytest.raises(ConfigError, match=r"chains.x.feeds: no market here has a token WETHH"):
        make(said.replace("WETH", "WETHH"))
    with capture_logs() as told:
        partly = make(said.replace("WETH", "WETHH"), "market/compound")
    partly.observe(replace(view, prices={"aave-v3": Prices("aave-v3", USD, prices)}))
    found = {each.asset: (each.heartbeat, each.band) for each in partly.standing()}
    assert found == {"WETH": (None, 50), "DAI": (None, 25)}, "a hint keeps no chain from starting"
    assert [(line["event"], line["not_loaded"]) for line in told] == [
        ("feed.unknown", ["market/compound"])
    ]


def test_a_watch_that_fails_is_told_of_and_keeps_nobody_back() -> None:
    faults: list[Exception] = []
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt(limit=Bps(1_000)))
    made.observe(seen(100, 2_000 * USD))
    doubtful = believing(made, faults.append)
    assert len(doubtful(seen(101, 1_500 * USD, at_risk=True))) == 1
    view = seen(101, 1_500 * USD, at_risk=True)
    broken = replace(view, prices={"aave-v3": Prices("aave-v3", 0, view.prices["aave-v3"].values)})
    assert doubtful(broken) == {}
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


class Mute:
    """An oracle that cannot say what rounds it heard of."""

    def rounds(self) -> dict[Address, int]:
        raise LookupError("rounds")


class Failing(Market):
    """A market whose feeds cannot be followed."""

    oracle = Mute()


def test_a_market_that_fails_leaves_the_others_followed() -> None:
    """Otherwise their feeds would look silent, and nobody under them be liquidated."""
    faults: list[Exception] = []
    venues: Any = [Pools({(WETH, USDC): 2_000})]
    markets: Any = {"bad": Failing(), "aave-v3": Market()}
    expected = {WETH.address: Expected(120, Bps(50))}
    made = OracleWatch(PoolPrices(lambda: venues), Doubt(limit=Bps(1_000)), expected, markets)
    view = seen(100, 2_000 * USD)
    both = {"bad": Prices("bad", USD, {WETH.address: 2_000 * USD}), **view.prices}
    made.observe(replace(view, prices=both), faults.append)
    assert [str(fault) for fault in faults] == ["rounds"]
    assert [(each.market, each.asset) for each in made.standing()] == [
        ("aave-v3", "USDC"),
        ("aave-v3", "WETH"),
    ]
    with pytest.raises(LookupError):
        made.observe(replace(view, prices=both))


def test_a_feed_that_cannot_be_judged_leaves_the_others_judged() -> None:
    faults: list[Exception] = []
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt(limit=Bps(1_000)))
    made.observe(seen(100, 2_000 * USD))
    view = seen(101, 1_500 * USD, at_risk=True)
    (held,) = view.at_risk
    lost = replace(held, position=replace(held.position, market="gone"))
    found = believing(made, faults.append)(replace(view, at_risk=(lost, lost, held)))
    assert list(found) == [held.position.key]
    assert {type(fault) for fault in faults} == {KeyError}
    assert len(faults) <= 2, "told once for each feed"


def test_a_feed_that_is_not_read_any_more_is_not_shown_as_silent() -> None:
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt())
    made.observe(seen(100, 2_000 * USD))
    for number in range(101, 200):
        made.observe(replace(seen(number, 2_000 * USD), prices={}))
    assert list(made.standing()) == []
    late = seen(200, 2_000 * USD, at_risk=True)
    assert not made.doubtful(late), "a round since then may have left the price as it was"


def test_what_follows_is_told_of_a_fault_and_goes_on() -> None:
    faults: list[Exception] = []
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt())
    view = seen(100, 2_000 * USD)
    prices = {"aave-v3": Prices("aave-v3", 0, view.prices["aave-v3"].values)}
    following(made, faults.append)(Report(replace(view, prices=prices)))
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


def test_crumbs_of_a_token_keep_nobody_from_a_position() -> None:
    (held,) = seen(1, 2_000 * USD, at_risk=True).at_risk
    legs = (
        CollateralLeg(WETH, 1, 995, Bps(8_000), Bps(10_500)),
        CollateralLeg(STAKED, 1, 5, Bps(8_000), Bps(10_500)),
    )
    owed = (DebtLeg(USDC, 900, 900),)
    position = replace(
        held.position, collateral=legs, debt=owed, collateral_value=1_000, debt_value=900
    )
    assert [is_rested_on(position, leg) for leg in (*legs, *owed)] == [True, False, True]


def taught() -> Feed:
    """Return a feed with a heartbeat of an hour and a band of one percent learned."""
    feed, _ = follow(beating(6, wiggle=10**12))
    return replace(feed, moves=(WAD // 100,) * 8, left=feed.looked - 36, lag=24)


@contextmanager
def journal_at(home: Path) -> Iterator[SqliteJournal]:
    """Open a journal, and let it write all before it closes."""
    journal = SqliteJournal(home / "journal.sqlite", cast("Any", None), 90, lambda _: None)
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


async def recalled(
    home: Path, *rows: FeedRow
) -> tuple[OracleWatch, list[MutableMapping[str, Any]]]:
    """Return a watch that begins with these rows of a journal, and what was told."""
    with journal_at(home) as before:
        before.feeds.keep("devnet", lambda: rows, 0)
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt())
    with journal_at(home) as journal, capture_logs() as logs:
        await recall(made, journal.feeds, "devnet")
    return made, logs


def row(feed: Feed, asset: Token = STAKED) -> FeedRow:
    return FeedRow("aave-v3", to_hex(asset.address), feed.looked, written(feed))


def priced(number: int, price: int) -> View:
    view = seen(number, price)
    prices = {USDC.address: USD, STAKED.address: price}
    return replace(view, prices={"aave-v3": Prices("aave-v3", USD, prices)})


async def test_what_was_learned_of_a_feed_is_known_after_a_restart(tmp_path: Path) -> None:
    now = priced(100, 2_000 * USD).head.timestamp
    kept = replace(taught(), looked=now - 60, updated=now - 4_000, left=None, rounds=9)
    made, logs = await recalled(tmp_path, row(kept))
    assert not logs
    assert made.learned() == {("aave-v3", STAKED.address): kept}, (
        "it is written again before a look"
    )
    made.observe(priced(100, 2_000 * USD))
    (found,) = [each for each in made.standing() if each.asset == "wstETH"]
    assert (found.heartbeat, found.band) == (3_600, 100)
    assert found.feed.age(now) == 4_000
    made.observe(priced(101, 2_000 * USD))
    (found,) = [each for each in made.standing() if each.asset == "wstETH"]
    assert found.feed.age(now) == 4_000, "that rounds are counted anew is no round"


async def test_after_a_long_pause_nothing_is_dated_and_all_that_was_learned_stands(
    tmp_path: Path,
) -> None:
    view = priced(100, 2_000 * USD)
    now = view.head.timestamp
    kept = replace(taught(), looked=now - 90_000, updated=now - 90_500, left=now - 90_100)
    made, _ = await recalled(tmp_path, row(kept))
    made.observe(view)
    (found,) = [each for each in made.standing() if each.asset == "wstETH"]
    assert (found.heartbeat, found.band, found.stale) == (3_600, 100, "")
    assert (found.feed.updated, found.feed.left, found.feed.lag) == (now, None, None)
    before = replace(kept, looked=now + 500)
    assert take_up(before, Look(now, ETHER), NOTHING).updated == now, "another chain's clock"


async def test_damaged_rows_are_told_of_and_left_out(tmp_path: Path) -> None:
    good = written(taught())
    damaged = {
        "{": "Expecting property name",
        "[]": "its fields are others",
        good.replace('"quiet":[', '"quiet":["x",'): "quiet cannot be",
        good.replace('"quiet":[', '"quiet":[-5,'): "quiet cannot be",
        good.replace('"quiet":[', '"quiet":[' + "9," * 16): "quiet cannot be",
        good.replace('"looked":', '"looked":1e3,"was":'): "its fields are others",
        written(replace(taught(), price=0)): "price cannot be 0",
        written(replace(taught(), updated=-1)): "updated cannot be -1",
        good.replace("false", "3"): "is_undated cannot be 3",
    }
    rows = [FeedRow(f"m{n}", to_hex(DAI.address), 5, each) for n, each in enumerate(damaged)]
    rows.append(FeedRow("aave-v3", "0xno", 5, good))
    made, told = await recalled(tmp_path, row(taught()), *rows)
    assert made.learned() == {("aave-v3", STAKED.address): taught()}
    assert {each["event"] for each in told} == {"feed.forgotten"}
    said = {each["market"]: each["why"] for each in told}
    for place, why in enumerate(damaged.values()):
        assert said[f"m{place}"].startswith(why)
    assert told[0]["asset"] == "0xno"


async def test_a_watch_is_written_once_a_minute(tmp_path: Path) -> None:
    made = watch(Pools({(WETH, USDC): 2_000}), Doubt())
    with journal_at(tmp_path) as journal:
        old = [replace(row(taught()), market="gone"), row(taught())]
        journal.feeds.keep("devnet", lambda: old, 0)
        write = remembering(made, journal.feeds, "devnet")
        for number in range(100, 107):
            view = seen(number, (2_000 + number) * USD)
            made.observe(view)
            write(Report(view))
    with journal_at(tmp_path) as journal:
        kept = {(each.market, each.asset): each for each in await journal.feeds.kept("devnet")}
    ether = kept["aave-v3", to_hex(WETH.address)]
    assert read(ether.record).looked == ether.looked == seen(105, 1).head.timestamp
    assert ("gone", to_hex(STAKED.address)) not in kept, "not read for a month"
