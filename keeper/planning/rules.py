"""What an operator fixes for planning, and what a strategy hands over."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from keeper.types import Bid, FlashSource, Hop, Limits, Opportunity, Token
from keeper.units import USD, Address, Bps, Usd, Wei

TRANSACTION_GAS = 16_777_216
"""The protocol's limit on one transaction's gas (EIP-7825)."""


def _nothing(protocol: str, collateral: Token, debt: Token) -> str:
    """Exclude nothing."""
    del protocol, collateral, debt
    return ""


def _anyone(_: FlashSource) -> bool:
    """Take a loan of anyone."""
    return True


def _anywhere(_: Hop) -> bool:
    """Sell through any pool."""
    return True


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Settings of planning on one chain; `priority_fee` prices gas until a strategy has bid.

    `hubs` are the tokens a route may pass through; None means every token a venue knows.
    `excluded` says of a protocol, a collateral and a debt why they are not to be touched, if they are not.
    `lanes` is how many wallets send: with several, transactions are kept independent of each other.
    Pools whose price is further off the oracle than `deviation`, or that give less than half their
    price for `least_depth`, are left out; None leaves out none for that. `largest_repay` and `gas_budget`
    bound one transaction, gas at its worst: limit times maximum fee.
    No first send offers more per gas than `max_fee`, whatever is bid; None leaves bids as they are.
    `toxic_parts` allows calls that leave a position less healthy. `lends` says whose loans may be taken,
    `sells` which hops the contract may make.
    """

    chain: str
    contract: Address
    priority_fee: Wei
    gas_cap: int = 15_000_000
    max_items: int = 100
    max_hops: int = 3
    hubs: frozenset[Address] | None = None
    largest_repay: Usd | None = None
    gas_budget: Wei | None = None
    max_fee: Wei | None = None
    lanes: int = 1
    deviation: Bps | None = Bps(2_000)
    least_depth: Usd | None = Usd(1_000 * USD)
    toxic_parts: bool = False
    excluded: Callable[[str, Token, Token], str] = _nothing
    lends: Callable[[FlashSource], bool] = _anyone
    sells: Callable[[Hop], bool] = _anywhere

    def capped(self, bid: Bid) -> Bid:
        """Return a bid that offers no more per gas than a first send may."""
        if self.max_fee is None or bid.max_fee <= self.max_fee:
            return bid
        priority = min(bid.priority_fee, self.max_fee)
        return replace(bid, max_fee=self.max_fee, priority_fee=Wei(priority))

    def gas_cap_at(self, max_fee: int) -> int:
        """Return the most gas one transaction may ask for when it pays up to `max_fee` for it."""
        cap = min(self.gas_cap, TRANSACTION_GAS)
        return cap if self.gas_budget is None else min(cap, self.gas_budget // max(max_fee, 1))


class Choice(Protocol):
    """An opportunity with what its strategy allows."""

    @property
    def opportunity(self) -> Opportunity:
        """Return the position and its allowed pairs."""
        ...

    @property
    def limits(self) -> Limits:
        """Return the least profit, the largest repay and the venues."""
        ...
