"""How own bids fared against rivals: what strategies shade the next ones by."""

from collections import deque
from collections.abc import Iterable, Mapping

from keeper.fees import TOGETHER, BidOutcome, BidRecord, share_of
from keeper.planning.grouping import CallKey
from keeper.types import Cancelled, Dropped, Included, Plan, Receipt, Replaced, Reverted
from keeper.units import ZERO_ADDRESS, Bps, mul_div_up

KEPT = 256
"""Outcomes held, and plans waited for."""
_NATIVE_UNIT = 10**18


def bid_shares(plan: Plan) -> Mapping[CallKey, Bps]:
    """Return by call which share of its value a plan pays to be included.

    Empty when the native coin had no price: nothing can be said then.
    """
    price = plan.prices.get(ZERO_ADDRESS)
    if not price:
        return {}
    tips = plan.tips or (0,) * len(plan.quotes)
    shares = {}
    for quote, tip in zip(plan.quotes, tips, strict=True):
        priority = mul_div_up(quote.gas * plan.bid.priority_fee, price, _NATIVE_UNIT)
        paid = priority + mul_div_up(tip, price, _NATIVE_UNIT)
        shares[quote.key] = share_of(paid, quote.net_usd + priority)
    return shares


class Contest:
    """Follow sent plans to how they ended.

    A call that held in the plan's transaction is a win, of the way it took. One that met its debt gone, a
    transaction that failed, and one that lost its purpose on its way (`lost`) are losses: as far
    as can be told a rival was there first. What never left, was dropped, or was taken back because it
    was late or the operator said so, says nothing. `relays` are who the next bids are given to.
    """

    def __init__(self, relays: Iterable[str] = ()) -> None:
        self._way = TOGETHER.join(sorted(relays))
        self._waiting: dict[str, Mapping[CallKey, Bps]] = {}
        self._outcomes: deque[BidOutcome] = deque(maxlen=KEPT)

    @property
    def record(self) -> BidRecord:
        """Return the outcomes held, oldest first."""
        return BidRecord(tuple(self._outcomes), self._way)

    def sent(self, plans: Iterable[Plan]) -> None:
        """Take plans that were handed over."""
        for plan in plans:
            self._waiting[plan.id] = bid_shares(plan)
        while len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]

    def settled(self, receipt: Receipt) -> None:
        """Take how a plan ended; a second receipt of one plan changes nothing."""
        if isinstance(receipt, Replaced):
            return  # another transaction of the plan may still be mined
        shares = self._waiting.pop(receipt.plan_id, {})
        match receipt:
            case Included():
                won = {item.key for item in receipt.items if item.ok}
                self._take(shares, won, receipt.relay)
            case Reverted():
                self._take(shares, frozenset(), receipt.relay)
            case Cancelled() | Dropped():
                pass

    def lost(self, plan_id: str, relay: str) -> None:
        """Take that a plan lost its purpose before it was mined, and which relays held it."""
        self._take(self._waiting.pop(plan_id, {}), frozenset(), relay)

    def restore(self, ended: Iterable[tuple[Plan, Iterable[CallKey], str]]) -> None:
        """Take up plans of an earlier process, oldest first, with the calls of each that held and its way."""
        for plan, won, relay in ended:
            self._take(bid_shares(plan), frozenset(won), relay)

    def _take(self, shares: Mapping[CallKey, Bps], won: Iterable[CallKey], relay: str) -> None:
        held = frozenset(won)
        for call, share in shares.items():
            self._outcomes.append(BidOutcome(share, call in held, relay))
