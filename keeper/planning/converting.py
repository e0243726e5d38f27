"""What of a token may be sold by the owner's rule, where it brings most, and the plan that does it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from eth_hash.auto import keccak

from keeper.errors import TransientError
from keeper.planning.owner_calls import encode_conversions, encode_convert
from keeper.planning.treasury import Balance
from keeper.ports import Venue
from keeper.types import Call, CallResult, Conversion, Holding, Hop, Plan, PoolSwap, Token
from keeper.units import BPS, Address, Bps, Usd, Wei, mul_div_up

CONVERT_GAS = 130_000
"""Gas under which no conversion comes: a swap with its callback, the rule, and two cold tokens."""

_DAY = 86_400
_UNKNOWN = keccak(b"UnknownFunction()")[:4]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the owner lets operators sell of one token for another (liquidator.vy: set_conversion).

    `per_day` wei bring `least` wei or more, a part of them as much in proportion; `sold` is what the
    UTC day `day` has had.
    """

    per_day: int
    least: int
    day: int
    sold: int

    def left(self, timestamp: int) -> int:
        """Return what may still be sold on the day of a block."""
        return max(self.per_day - (self.sold if timestamp // _DAY == self.day else 0), 0)

    def floor_up(self, amount: int) -> int:
        """Return the least an amount has to bring, rounded up."""
        return mul_div_up(amount, self.least, self.per_day)


@dataclass(frozen=True, slots=True)
class Offer:
    """An amount that may be sold, what a pool gives for it, and the least it has to bring.

    `price` is dollars per whole token received.
    """

    balance: Balance
    amount: int
    swap: PoolSwap
    hop: Hop
    expected: int
    minimum: int
    price: Usd

    @property
    def part(self) -> Balance:
        """Return the balance as if what is sold were all that is loose."""
        held = self.balance
        return replace(held, amount=self.amount, kept=0)


def rule_calls(contract: Address, tokens: Sequence[Token], receive: Token) -> tuple[Call, ...]:
    """Return the reads of each token's rule, in order."""
    return tuple(
        Call(contract, encode_conversions(token.address, receive.address)) for token in tokens
    )


def has_no_rules(result: CallResult) -> bool:
    """Whether a contract answered that it has no rules, having been deployed before there were any.

    It refuses unknown functions by name (liquidator.vy: __default__); anything else is no answer.
    """
    return not result.ok and result.data == _UNKNOWN


def read_rule(result: CallResult) -> Rule:
    """Return a rule; raise `TransientError` when it was not read."""
    if not result.ok or len(result.data) < 128:
        raise TransientError("a rule for conversions was not read")
    words = [int.from_bytes(result.data[at : at + 32], "big") for at in (0, 32, 64, 96)]
    return Rule(*words)


def best_offer(
    balance: Balance,
    receive: Token,
    price: Usd,
    rule: Rule,
    venues: Iterable[Venue],
    slippage: Bps,
    timestamp: int,
) -> Offer | None:
    """Return the pool that gives most for all that may be sold, if that is enough; else None.

    Enough is the owner's floor, and the oracles' value in both tokens less `slippage`, whichever is
    more; `price` is dollars per whole token received.
    """
    amount = min(balance.loose, rule.left(timestamp))
    if not amount or not balance.price or not rule.least:
        return None
    fair = mul_div_up(
        amount * balance.price,
        10**receive.decimals * (BPS - slippage),
        10**balance.token.decimals * price * BPS,
    )
    minimum = max(fair, rule.floor_up(amount), 1)
    found: Offer | None = None
    for venue in venues:
        swaps = venue.begin()
        for hop in venue.hops(balance.token.address):
            if hop.token_out != receive.address:
                continue
            out = swaps.quote(hop, amount)
            if out >= minimum and (found is None or out > found.expected):
                # The owner's rule is carried out in a pool itself (liquidator.vy: convert).
                swap = venue.execution(hop)
                if isinstance(swap, PoolSwap):
                    found = Offer(balance, amount, swap, hop, out, minimum, price)
    return found


def encode_offer(offer: Offer, refill: Wei) -> bytes:
    """Return the calldata that sells an offer and asks for `refill` native wei out of it."""
    return encode_convert(
        offer.swap.factory,
        offer.swap.fee,
        offer.hop.token_in,
        offer.hop.token_out,
        offer.amount,
        offer.minimum,
        refill,
    )


def as_conversion(sweep: Plan, offer: Offer, receive: Token, refill: Wei) -> Plan:
    """Return a sweep of the same token made into a sale: what is sold is what it moves."""
    return replace(
        sweep,
        calldata=encode_offer(offer, refill),
        refill=refill,
        sweep=Holding(offer.balance.token, offer.amount),
        conversion=Conversion(receive, offer.minimum, offer.expected),
        prices={**sweep.prices, receive.address: offer.price},
    )
