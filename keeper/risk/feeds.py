"""How far a token's feed is from what pools really give, and which plans rest on that feed."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from keeper.ports import Swaps, Venue
from keeper.types import Hop, Plan, Token
from keeper.units import BPS, USD, Address, Bps, Usd, mul_div_down

PROBE = Usd(1_000 * USD)
"""What a trial sale is worth."""
DEEP = 100
"""Times the small trial sale that shows a pool's price; a pool it moves by more is no witness."""
MOVES = Bps(200)
WAY_BACK = Bps(600)
"""What selling and buying back may cost: a fee of one percent and `MOVES`, each way."""
EVERY_HEADS = 10
"""Heads between two looks at all tokens; those of a plan are looked at when it is to be sent."""


def relied_on(plan: Plan) -> tuple[Token, ...]:
    """Return the tokens whose feeds say that a plan is worth sending.

    None for one that ends in the token it repays: what that brings is counted on the chain, in that
    token. Collateral that is kept, and profit that is sold, are worth what a feed says.
    """
    found: dict[Address, Token] = {}
    if plan.sweep is not None and plan.conversion is not None:
        for token in (plan.sweep.token, plan.conversion.receive):
            found[token.address] = token
    for quote in plan.quotes:
        ends = quote.hops[-1].token_out if quote.hops else None
        for step in quote.steps:
            collateral = step.terms.collateral
            if quote.debt.address not in {ends, collateral.address}:
                found |= {collateral.address: collateral, quote.debt.address: quote.debt}
    return tuple(found.values())


Witness = tuple[Address, Address, Bps]
"""A token, what a deep pool gives for it, and how far that is from both feeds."""


class Feeds:
    """Compare feeds with pools; a token deviates when no pool deep enough agrees with its feed.

    Deep enough is what takes the probe both ways: bids alone, far from the market, cost nothing to put up.
    Tokens whose pools agree stand together: one priced by another's feed, as staked ether is, agrees with
    it whatever that says, so that those deviate whose side is not the larger one of two that no pool
    joins. `deviating` are they, by how much more than `limit`, as last looked at. A pool's fee is part of
    the difference.
    """

    def __init__(self, limit: Bps, venues: Callable[[], Iterable[Venue]]) -> None:
        self._limit = limit
        self._venues = venues
        self._prices: dict[Address, Usd] = {}
        self._tokens: dict[Address, Token] = {}
        self._looked: int | None = None
        self.deviating: dict[Address, Bps] = {}

    def observe(
        self, head: int, prices: Mapping[Address, Usd], tokens: Mapping[Address, Token]
    ) -> None:
        """Take a head's prices, dollars per whole token, and now and then look at all tokens."""
        self._prices, self._tokens = dict(prices), dict(tokens)
        self.deviating = {token: bps for token, bps in self.deviating.items() if token in tokens}
        if self._looked is not None and abs(head - self._looked) < EVERY_HEADS:
            return
        self._looked = head
        self.deviating = self._beyond()

    def refusal(self, plan: Plan) -> str:
        """Return which feeds a plan rests on are off, by its own prices; empty when none is."""
        tokens = relied_on(plan)
        if not tokens:
            return ""
        self._tokens |= {token.address: token for token in tokens}
        self._prices |= {
            t.address: plan.prices[t.address] for t in tokens if t.address in plan.prices
        }
        self.deviating = self._beyond()
        off = self.deviating
        return self.describe({t.address: off[t.address] for t in tokens if t.address in off})

    def describe(self, found: Mapping[Address, Bps] | None = None) -> str:
        """Say which tokens deviate and by how much."""
        chosen = self.deviating if found is None else found
        shown = sorted((self._tokens[address].symbol, bps) for address, bps in chosen.items())
        return ", ".join(f"{symbol} by {bps} bps" for symbol, bps in shown)

    def _beyond(self) -> dict[Address, Bps]:
        swaps = [(venue, venue.begin()) for venue in self._venues()]
        witnesses = [each for token in self._tokens.values() for each in self._ask(token, swaps)]
        return beyond(witnesses, self._limit)

    def _ask(self, token: Token, swaps: Iterable[tuple[Venue, Swaps]]) -> Iterator[Witness]:
        """Yield how far each deep pool is from a token's feed and the other's."""
        price = self._prices.get(token.address)
        if not price:
            return
        amount = PROBE * 10**token.decimals // price
        for venue, trial in swaps:
            for hop in venue.hops(token.address):
                value = self._value(venue, trial, hop, amount)
                if value is not None:
                    off = -(-abs(value - PROBE) * BPS // PROBE)
                    yield token.address, hop.token_out, Bps(off)

    def _value(self, venue: Venue, trial: Swaps, hop: Hop, amount: int) -> int | None:
        """Return what the probe brings in dollars; None where the pool is no witness, or it is not known."""
        token, price = self._tokens.get(hop.token_out), self._prices.get(hop.token_out)
        if token is None or not price:
            return None
        part = trial.quote(hop, amount // DEEP) * DEEP
        whole = trial.quote(hop, amount)
        if not part or not whole or whole * BPS < part * (BPS - MOVES):
            return None
        back = (
            trial.quote(each, whole)
            for each in venue.hops(hop.token_out)
            if (each.pool, each.token_out) == (hop.pool, hop.token_in)
        )
        if max(back, default=0) * BPS < amount * (BPS - WAY_BACK):
            return None
        return mul_div_down(whole, price, 10**token.decimals)


def beyond(witnesses: Iterable[Witness], limit: Bps) -> dict[Address, Bps]:
    """Return the tokens that no pool joins to a side as large as their own, by their least difference.

    A side is what pools within the limit join, one way being enough. Where only others of a side face
    the larger one, their least difference is its own.
    """
    told = list(witnesses)
    sides: dict[Address, frozenset[Address]] = {
        token: frozenset({token}) for one, other, _ in told for token in (one, other)
    }
    for one, other, off in told:
        if off <= limit and sides[one] != sides[other]:
            joined = sides[one] | sides[other]
            sides.update(dict.fromkeys(joined, joined))
    own: dict[Address, Bps] = {}
    least: dict[frozenset[Address], Bps] = {}
    for one, other, off in told:
        side = sides[one]
        if side != sides[other] and len(side) <= len(sides[other]):
            own[one] = min(off, own.get(one, off))
            least[side] = min(off, least.get(side, off))
    return {token: own.get(token, least[side]) for token, side in sides.items() if side in least}
