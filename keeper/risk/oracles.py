"""Which positions rest on a feed that is silent for too long, or far off the pools."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from keeper.oracles.pools import PoolPrices, Quoted
from keeper.oracles.watch import Expected, Feed, Look, astray, band, fold, heartbeat, stale
from keeper.types import CollateralLeg, DebtLeg, Position, Reason, Token, View
from keeper.units import WAD, Address, Bps, to_hex

Key = tuple[str, Address]
"""A market and one of its assets; or a position."""
Why = tuple[Reason, str] | None
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


class OracleWatch:
    """Follow every feed of a chain's markets from head to head, and say on which not to rest.

    `rounds` tells of a market's assets how many rounds were heard of, `followed` is told each time a
    feed came after the pools, and how many seconds that took.
    """

    def __init__(
        self,
        pools: PoolPrices,
        doubt: Doubt,
        expected: Mapping[Address, Expected],
        rounds: Callable[[str], Mapping[Address, int]],
        followed: Callable[[str, str, int], None] = lambda _market, _asset, _seconds: None,
    ) -> None:
        self._pools = pools
        self._doubt = doubt
        self._expected = expected
        self._rounds = rounds
        self._followed = followed
        self._feeds: dict[Key, Feed] = {}
        self._names: dict[Address, str] = {}
        self._now = 0

    def observe(self, view: View) -> None:
        """Take a head's prices, and what pools give now."""
        feeds = dollars(view)
        self._pools.look(view.head.number, feeds, view.tokens)
        quoted = self._pools.at(feeds, view.tokens)
        seen: dict[Key, Feed] = {}
        self._names = names(view.tokens.values())
        for market, prices in view.prices.items():
            rounds = self._rounds(market)
            for asset, value in prices.values.items():
                if asset not in view.tokens or not value:
                    continue
                look = Look(
                    view.head.timestamp,
                    value * WAD // prices.unit,
                    quoted.price(asset),
                    rounds.get(asset, 0),
                )
                key = market, asset
                seen[key], lag = fold(self._feeds.get(key), look, self._of(asset))
                if lag is not None:
                    self._followed(market, self._names[asset], lag)
        # what was not read at this head is not forgotten, as long as its market is there
        kept = {key: feed for key, feed in self._feeds.items() if key[1] in view.tokens}
        self._feeds = kept | seen
        self._now = view.head.timestamp

    def doubtful(self, view: View) -> dict[Key, tuple[Reason, str]]:
        """Return the positions at risk that rest on a feed not to be believed, and why not."""
        found: dict[Key, tuple[Reason, str]] = {}
        quoted = self._pools.at(dollars(view), view.tokens)
        judged: dict[str, dict[Address, Why]] = {}
        for risk in view.at_risk:
            position = risk.position
            said = judged.setdefault(position.market, {})
            for held in (position.collateral, position.debt):
                for leg in held:
                    if leg.token.address not in said:
                        said[leg.token.address] = self._judge(
                            position.home, leg.token, view, quoted
                        )
                    why = said[leg.token.address]
                    if why is not None and is_rested_on(position, leg):
                        found[position.key] = why
        return found

    def standing(self) -> Iterator[FeedStanding]:
        """Yield every feed as of the last head."""
        for (market, asset), feed in sorted(self._feeds.items()):
            expected = self._of(asset)
            silent = stale(feed, self._now, feed.price, expected, self._doubt.beats)
            beat, name = heartbeat(feed, expected), self._names[asset]
            yield FeedStanding(market, name, feed, beat, band(feed, expected), silent)

    def _of(self, asset: Address) -> Expected:
        return self._expected.get(asset, Expected())

    def _judge(self, market: str, token: Token, view: View, quoted: Quoted) -> Why:
        prices, now = view.prices.get(market), view.head.timestamp
        value = None if prices is None else prices.get(token.address)
        if prices is None or not value:
            return None
        price = value * WAD // prices.unit
        feed, expected = self._feeds.get((market, token.address)), self._of(token.address)
        silent = "" if feed is None else stale(feed, now, price, expected, self._doubt.beats)
        if silent:
            return Reason.STALE_ORACLE, f"the feed of {token.symbol} had {silent}"
        off = astray(price, quoted.price(token.address), self._doubt.limit)
        if off:
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
