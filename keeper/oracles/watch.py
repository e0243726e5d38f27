"""What a feed does from head to head: how old its round is, and how it follows the pools.

A feed speaks when its price left a band around the last answer, and at the latest after its
heartbeat. Both are set by its operator and stand in no contract: they are named in the settings, or
learned from the rounds it gives. Money is in 1e18ths of a dollar, shares are 1e18ths of one.
"""

from dataclasses import dataclass, replace

from keeper.units import BPS, WAD, Bps

ASSUMED_BAND = Bps(50)
"""Until a band is known: what the large dollar feeds on Ethereum have."""
QUIET_KEPT = 16
AGREEING = 4
"""As many of the longest quiet gaps kept have to agree before they are a heartbeat."""
SHORTEST_BEAT = 1_200
MOVES_KEPT = 32
MOVES_NEEDED = 8
BLIND_SECONDS = 300
"""Without a look for so long, nothing is said about when what is found now began."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the settings say of a feed; None is not said."""

    heartbeat: int | None = None
    band: Bps | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one head shows: its time, the feed's price, and the pools' where one is deep enough.

    `rounds` counts the rounds that were heard of otherwise: one may leave the price as it was.
    """

    time: int
    price: int
    pool: int | None = None
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed as of the last look.

    `updated` is when its round was first seen, the first look before any; `quiet` are the seconds
    before rounds that moved next to nothing, `moves` how far the others went. `left` is since when
    the pools are out of the band around its price, `off` how far its price is above theirs. With
    `is_undated` they are out of it since nobody knows when.
    """

    looked: int
    price: int
    rounds: int
    updated: int
    quiet: tuple[int, ...] = ()
    moves: tuple[int, ...] = ()
    left: int | None = None
    is_undated: bool = False
    off: int | None = None
    lag: int | None = None

    def age(self, now: int) -> int:
        """Return the seconds since its last round was seen."""
        return max(now - self.updated, 0)


def fold(feed: Feed | None, look: Look, expected: Expected) -> tuple[Feed, int | None]:
    """Return the feed after a look, and how many seconds it followed behind the pools, if it did."""
    off = away(look.price, look.pool)
    if feed is None:
        is_out = abs(off or 0) * BPS > band(None, expected) * WAD
        first = Feed(look.time, look.price, look.rounds, look.time, is_undated=is_out, off=off)
        return first, None
    limit = band(feed, expected) * WAD // BPS
    unseen = look.time - feed.looked
    before = away(feed.price, look.pool)
    is_out = before is not None and abs(before) > limit
    is_undated = is_out and (feed.is_undated or unseen > BLIND_SECONDS)
    left = None if not is_out or is_undated else look.time if feed.left is None else feed.left
    after = replace(
        feed,
        looked=look.time,
        price=look.price,
        rounds=look.rounds,
        left=left,
        is_undated=is_undated,
        off=off,
    )
    if look.price == feed.price and look.rounds == feed.rounds:
        return after, None
    lag = None if left is None else max(look.time - left, 0)
    after = replace(
        after,
        updated=look.time,
        left=look.time if off is not None and abs(off) > limit else None,
        is_undated=False,
        lag=feed.lag if lag is None else lag,
    )
    gap = look.time - feed.updated
    # A round that nobody looked for in time would make the gap longer than it was.
    if 0 < unseen * 50 <= gap:
        move = abs(look.price - feed.price) * WAD // feed.price
        after = _learn(after, gap, move, expected)
    return after, lag


def take_up(kept: Feed, look: Look, expected: Expected) -> Feed:
    """Return a feed that another process followed before, at the first look of this one.

    What it taught stands. What is dated does as well, unless nobody looked for too long; rounds are
    counted anew by each process.
    """
    if 0 <= look.time - kept.looked <= BLIND_SECONDS:
        return replace(kept, rounds=look.rounds)
    first, _ = fold(None, look, expected)
    learned = replace(first, quiet=kept.quiet, moves=kept.moves)
    is_out = abs(first.off or 0) * BPS > band(learned, expected) * WAD
    return replace(learned, is_undated=is_out)


def _learn(feed: Feed, gap: int, move: int, expected: Expected) -> Feed:
    beat = heartbeat(feed, expected)
    quiet = feed.quiet
    if beat is not None and gap * 2 > beat * 3:
        quiet = ()  # it would have come sooner, had that been its heartbeat
    if move * 2 * BPS < band(feed, expected) * WAD:
        return replace(feed, quiet=(*quiet, gap)[-QUIET_KEPT:])
    early = beat is None or gap * 4 < beat * 3
    moves = (*feed.moves, move)[-MOVES_KEPT:] if early else feed.moves
    return replace(feed, quiet=quiet, moves=moves)


def heartbeat(feed: Feed, expected: Expected) -> int | None:
    """Return after how many seconds a feed speaks at the latest, None when nobody knows.

    Learned where the longest of its quiet gaps are alike, as only a clock makes them.
    """
    if expected.heartbeat is not None:
        return expected.heartbeat
    longest = sorted(feed.quiet, reverse=True)[:AGREEING]
    if len(longest) < AGREEING or longest[0] < SHORTEST_BEAT:
        return None
    return longest[0] if longest[-1] >= longest[0] - longest[0] // 100 - 30 else None


def band(feed: Feed | None, expected: Expected) -> Bps:
    """Return how far the price goes before a feed speaks: as set, as learned, or as assumed.

    Learned is the lower quartile of the moves of rounds that no heartbeat is known to have brought.
    """
    if expected.band is not None:
        return expected.band
    if feed is None or len(feed.moves) < MOVES_NEEDED:
        return ASSUMED_BAND
    return Bps(max(sorted(feed.moves)[len(feed.moves) // 4] * BPS // WAD, 1))


def away(price: int, pool: int | None) -> int | None:
    """Return how far a price is above the pools' in 1e18ths of theirs, rounded down."""
    return None if not pool else price * WAD // pool - WAD


def stale(feed: Feed, now: int, price: int, expected: Expected, beats: int) -> str:
    """Say that a feed is silent for more than so many heartbeats; empty when it is not, or unknown.

    `price` is the feed's at `now`, which may be later than the last look, but no more than
    `BLIND_SECONDS`: a round since then may have left the price as it was.
    """
    beat = heartbeat(feed, expected)
    age = feed.age(now)
    if not beats or beat is None or price != feed.price or age <= beats * beat:
        return ""
    if now - feed.looked > BLIND_SECONDS:
        return ""
    return f"no round for {age} s, with a heartbeat of {beat} s"


def astray(price: int, pool: int | None, limit: Bps) -> str:
    """Say that a price is further than a limit from the pools'; empty when it is not."""
    off = away(price, pool)
    if not limit or off is None or abs(off) * BPS <= limit * WAD:
        return ""
    side = "above" if off > 0 else "below"
    return f"{abs(off) * BPS // WAD} bps {side} the pools"
