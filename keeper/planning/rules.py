"""What an operator fixes for planning, and what a strategy hands over."""

from dataclasses import dataclass
from typing import Protocol

from keeper.types import Limits, Opportunity
from keeper.units import Address, Wei

TRANSACTION_GAS = 16_777_216
"""The protocol's limit on one transaction's gas (EIP-7825)."""


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Settings of planning on one chain; `priority_fee` prices gas until a strategy has bid.

    `hubs` are the tokens a route may pass through; None means every token a venue knows.
    """

    chain: str
    contract: Address
    priority_fee: Wei
    gas_cap: int = 15_000_000
    max_items: int = 100
    max_hops: int = 2
    hubs: frozenset[Address] | None = None


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
