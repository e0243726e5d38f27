"""A debt at a stable rate, which each borrower has his own of."""

from collections.abc import Callable
from dataclasses import dataclass

from keeper.protocols.aave_v3.fixed import ray_mul_half_up


@dataclass(frozen=True, slots=True)
class Stable:
    """What is owed of one reserve at a stable rate: principal, rate in ray, and since when."""

    principal: int
    rate: int
    since: int

    def owed(self, compounded: Callable[[int, int], int], timestamp: int) -> int:
        """Return the debt with interest to a moment (StableDebtToken.balanceOf)."""
        return ray_mul_half_up(self.principal, compounded(self.rate, timestamp - self.since))
