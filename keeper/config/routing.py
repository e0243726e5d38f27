"""How collateral is sold on one chain."""

from decimal import Decimal

from pydantic import Field

from keeper.config.fields import UsdAmount, scale
from keeper.config.table import Table
from keeper.units import Bps, Usd


class Routing(Table):
    """Paths of at most `max_hops` pools, none of them dust or far off the oracle.

    Pools whose price is `pool_deviation_bps` or more off are left out, and so are those that give
    less than half their price for `least_depth_usd`; 0 for either leaves out none for that.
    """

    max_hops: int = Field(default=3, ge=1, le=3)
    pool_deviation_bps: int = Field(default=2_000, ge=0, lt=10_000)
    least_depth_usd: UsdAmount = Field(default=Decimal(1_000), ge=0)

    @property
    def pool_deviation(self) -> Bps | None:
        """Return how far a pool may be off the oracle, None for any distance."""
        return Bps(self.pool_deviation_bps) if self.pool_deviation_bps else None

    @property
    def least_depth(self) -> Usd | None:
        """Return the sale a pool has to bear, None for any."""
        return Usd(scale(self.least_depth_usd, 8)) if self.least_depth_usd else None
