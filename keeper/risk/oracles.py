"""Which positions rest on a feed that is silent for too long, or far off the pools."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from keeper.oracles.pools import PoolPrices, Quoted
from keeper.oracles.watch import (
    BLIND_SECONDS,
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
from keeper.ports import Announcing, LendingProtocol, Rating
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Reason, Token, View, home_of
from keeper.units import WAD, Address, Bps, to_hex

Key = tuple[str, Address]
"""A market and one of its assets; or a position."""
Why = tuple[Reason, str] | None
OnFault = Callable[[Exception], None]
Rates = Mapping[str, tuple[Token, Token, int]]
LEAST_SHARE = 100
"""A feed under less than a hundredth of a position's collateral or debt keeps nobody from it."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """From when on nothing is sent that rests on a feed: after how many heartbeats, how far off.

    Zero is never.
    """

    beats: int = 3
    limit: Bps = Bps(3_000)


@dataclass(frozen=True, slots=True)
class FeedStanding:
    """One feed as it is shown: by its token's symbol, or address where several have that.

    `heartbeat` is None where nobody knows, `stale` says for how long it is silent, if it is.
    """

    market: str
    asset: str
    feed: Feed
    heartbeat: int | None
    band: Bps
    stale: str


def _raise(error: Exception) -> None:
    raise error


class OracleWatch:
    """Follow every feed of a chain's markets from head to head, and say on which not to rest.

    Where each place of a market has an oracle of its own (`ports.Rating`), that is a feed as well:
    the place's, of its collateral. `followed` is told each time a feed came after the pools, and how
    many seconds that took.
    """

    def __init__(
        self,
        pools: PoolPrices,
        doubt: Doubt,
        expected: Mapping[Address, Expected],
        markets: Mapping[str, LendingProtocol],
        followed: Callable[[str, str, int], None] = lambda _market, _asset, _seconds: None,
    ) -> None:
        self._pools = pools
        self._doubt = doubt
        self._expected = expected
        self._markets = markets
        self._followed = followed
        self._feeds: dict[Key, Feed] = {}
        self._kept: dict[Key, Feed] = {}
        self._names: dict[Address, str] = {}
        self._now = 0

    def restore(self, kept: Mapping[Key, Feed]) -> None:
        """Know what another process learned of feeds, each from its first look on."""
        self._kept = dict(kept)

    def learned(self) -> Mapping[Key, Feed]:
        """Return every feed as of its last look, those that were not looked at yet as they were kept."""
        return self._kept | self._feeds

    def observe(self, view: View, on_fault: OnFault = _raise) -> None:
        """Take a head's prices, and what pools give now; a market that fails is told of alone."""
        self._now = view.head.timestamp
        self._names = names(view.tokens.values())
        kept = self._feeds
        # what was not read at this head is not forgotten, as long as its token is there
        self._feeds = {key: feed for key, feed in kept.items() if key[1] in view.tokens}
        feeds = dollars(view)
        self._pools.look(view.head.number, feeds, view.tokens)
        quoted = self._pools.at(feeds, view.tokens)
        for market, prices in view.prices.items():
            try:
                self._take(market, prices, view, quoted)
            except Exception as error:  # noqa: BLE001 - the other markets' feeds are followed
                on_fault(error)

    def _take(self, market: str, prices: Prices, view: View, quoted: Quoted) -> None:
        """Take one market's feeds, and those of its places."""
        now, protocol = view.head.timestamp, self._markets[market]
        oracle = protocol.oracle
        rounds = oracle.rounds() if isinstance(oracle, Announcing) else {}
        for asset, value in prices.values.items():
            if asset in view.tokens and value:
                price, heard = value * WAD // prices.unit, rounds.get(asset, 0)
                look = Look(now, price, quoted.price(asset), heard)
                self._look((market, asset), look, self._of(asset))
        if isinstance(protocol, Rating):
            for place, (token, loan, price) in protocol.rates(prices).items():
                if token.address not in view.tokens:
                    continue
                pool = quoted.rate(token.address, loan.address)
                self._look((place, token.address), Look(now, price, pool), Expected())

    def _look(self, key: Key, look: Look, expected: Expected) -> None:
        before = self._feeds.get(key)
        if before is None and (kept := self._kept.pop(key, None)) is not None:
            before = take_up(kept, look, expected)
        self._feeds[key], lag = fold(before, look, expected)
        if lag is not None:
            self._followed(key[0], self._names[key[1]], lag)

    def doubtful(self, view: View, on_fault: OnFault = _raise) -> dict[Key, tuple[Reason, str]]:
        """Return the positions at risk that rest on a feed not to be believed, and why not.

        A feed that cannot be judged is told of, and keeps nobody back.
        """
        found: dict[Key, tuple[Reason, str]] = {}
        quoted = self._pools.at(dollars(view), view.tokens)
        judged: dict[str, dict[Address, Why]] = {}
        rates: dict[str, Rates] = {}
        for risk in view.at_risk:
            position = risk.position
            said = judged.setdefault(position.market, {})
            for held in (position.collateral, position.debt):
                for leg in held:
                    if leg.token.address not in said:
                        try:
                            why = self._judge(position.market, leg.token, rates, view, quoted)
                        except Exception as error:  # noqa: BLE001 - the other feeds are judged
                            why = None
                            on_fault(error)
                        said[leg.token.address] = why
                    why = said[leg.token.address]
                    if why is not None and is_rested_on(position, leg):
                        found[position.key] = why
        return found

    def standing(self) -> Iterator[FeedStanding]:
        """Yield every feed as of the last head, and none that is not read any more."""
        for (market, asset), feed in sorted(self._feeds.items()):
            if self._now - feed.looked > BLIND_SECONDS:
                continue
            expected = self._of(asset) if home_of(market) == market else Expected()
            silent = stale(feed, self._now, feed.price, expected, self._doubt.beats)
            beat, name = heartbeat(feed, expected), self._names[asset]
            yield FeedStanding(market, name, feed, beat, band(feed, expected), silent)

    def _of(self, asset: Address) -> Expected:
        return self._expected.get(asset, Expected())

    def _rates(self, market: str, view: View) -> Rates:
        protocol = self._markets[market]
        if market in view.prices and isinstance(protocol, Rating):
            return protocol.rates(view.prices[market])
        return {}

    def _judge(
        self, place: str, token: Token, rates: dict[str, Rates], view: View, quoted: Quoted
    ) -> Why:
        """Return why a token's feed is not to be believed in a position's `market`, if it is not."""
        market = home_of(place)
        if market not in rates:
            rates[market] = {}  # where asking fails it is asked, and told of, once
            rates[market] = self._rates(market, view)
        rate = rates[market].get(place)
        every: Callable[[Address], tuple[int, ...]]
        if rate is not None and rate[0] == token:
            key, expected, price = (place, token.address), Expected(), rate[2]
            pool = quoted.rate(token.address, rate[1].address)
            every = partial(quoted.rates, other=rate[1].address)
        else:
            prices = view.prices.get(market)
            value = None if prices is None else prices.get(token.address)
            if prices is None or not value:
                return None
            key, expected = (market, token.address), self._of(token.address)
            price, pool = value * WAD // prices.unit, quoted.price(token.address)
            every = quoted.prices
        feed, now = self._feeds.get(key), view.head.timestamp
        silent = "" if feed is None else stale(feed, now, price, expected, self._doubt.beats)
        if silent:
            return Reason.STALE_ORACLE, f"the feed of {token.symbol} had {silent}"
        off = astray(price, pool, self._doubt.limit)
        # one deep pool that agrees is enough: anybody can have one that does not
        if off and all(astray(price, each, self._doubt.limit) for each in every(token.address)):
            return Reason.BREAKER, f"deviation: the feed of {token.symbol} is {off}"
        return None


def names(tokens: Iterable[Token]) -> dict[Address, str]:
    """Return each token's symbol, and the address of one that shares it."""
    known = list(tokens)
    often = Counter(token.symbol for token in known)
    return {
        token.address: token.symbol if often[token.symbol] == 1 else to_hex(token.address)
        for token in known
    }


def dollars(view: View) -> dict[Address, int]:
    """Return each token's price as the first market that has it gives it, in 1e18ths of a dollar."""
    found: dict[Address, int] = {}
    for prices in view.prices.values():
        for asset, value in prices.values.items():
            if asset in view.tokens and value and asset not in found:
                found[asset] = value * WAD // prices.unit
    return found


def is_rested_on(position: Position, leg: CollateralLeg | DebtLeg) -> bool:
    """Say whether a leg is more than a crumb of what a position holds, or owes.

    Somebody who puts up a little of a token with a dead feed is not to be out of reach for it.
    """
    whole = position.collateral_value if leg in position.collateral else position.debt_value
    return leg.value * LEAST_SHARE >= whole
