"""What stops the keeper: limits, breakers, and the tokens and protocols it may touch."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from keeper.config.fields import EtherAmount, UsdAmount, UserPath, scale
from keeper.config.table import Table
from keeper.units import Bps, Usd, Wei


class Limits(Table):
    """What the keeper never exceeds, whatever a strategy says.

    `toxic_parts` allows liquidations that take a part of a position and leave it less healthy.
    """

    minimum_profit_usd: UsdAmount = Field(default=Decimal(5), gt=0)
    largest_repay_usd: UsdAmount = Field(default=Decimal(1_000_000), gt=0)
    repay_usd_per_hour: UsdAmount | None = Field(default=None, gt=0)
    repay_usd_per_day: UsdAmount | None = Field(default=None, gt=0)
    gas_ether_per_transaction: EtherAmount = Field(default=Decimal("0.05"), gt=0)
    gas_ether_per_hour: EtherAmount | None = Field(default=None, gt=0)
    gas_ether_per_day: EtherAmount = Field(default=Decimal("0.5"), gt=0)
    stop_after_reverts: int = Field(default=3, ge=1)
    toxic_parts: bool = False
    kill_file: UserPath = Path("KILL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rising = (
            ("gas_ether_per_transaction", "gas_ether_per_hour", "gas_ether_per_day"),
            ("minimum_profit_usd", "largest_repay_usd", "repay_usd_per_hour", "repay_usd_per_day"),
        )
        for names in rising:
            given = [name for name in names if getattr(self, name) is not None]
            for smaller, larger in pairwise(given):
                if getattr(self, smaller) > getattr(self, larger):
                    raise ValueError(f"{smaller} is more than {larger}")
        return self

    @property
    def minimum_profit(self) -> Usd:
        """Return the least profit of a liquidation after all costs."""
        return Usd(scale(self.minimum_profit_usd, 8))

    @property
    def repay_per_hour(self) -> Usd | None:
        """Return the most repaid in one hour."""
        return _usd(self.repay_usd_per_hour)

    @property
    def repay_per_day(self) -> Usd | None:
        """Return the most repaid in one day."""
        return _usd(self.repay_usd_per_day)

    @property
    def gas_wei_per_hour(self) -> Wei | None:
        """Return the most the gas of one hour may cost."""
        gas = self.gas_ether_per_hour
        return None if gas is None else Wei(scale(gas, 18))

    @property
    def largest_repay(self) -> Usd:
        """Return the most repaid in one transaction."""
        return Usd(scale(self.largest_repay_usd, 8))

    @property
    def gas_wei_per_transaction(self) -> Wei:
        """Return the most one transaction's gas may cost."""
        return Wei(scale(self.gas_ether_per_transaction, 18))

    @property
    def gas_wei_per_day(self) -> Wei:
        """Return the most the gas of one day may cost."""
        return Wei(scale(self.gas_ether_per_day, 18))


class Breakers(Table):
    """What stops sending until the operator, or `reset` minutes, lets it go on.

    `deviation_bps` is how far a feed may be from every pool before no plan may rest on it, 0 for any;
    `chains.NAME.deviation_bps` says otherwise for one chain. Nothing is sent for a position under a feed
    that is silent for more than `stale_feed_heartbeats` of its heartbeats, or `feed_off_bps` away from
    what pools give; 0 for however long, or far.
    """

    loss_usd_per_day: UsdAmount = Field(default=Decimal(100), gt=0)
    revert_rate: Decimal = Field(default=Decimal("0.5"), gt=0, lt=1, decimal_places=4)
    revert_rate_of: int = Field(default=20, ge=2)
    estimate_band: Decimal = Field(default=Decimal("0.5"), gt=0, decimal_places=4)
    estimate_misses: int = Field(default=3, ge=1)
    deviation_bps: int = Field(default=1_000, ge=0, lt=10_000)
    stale_feed_heartbeats: int = Field(default=3, ge=0)
    feed_off_bps: int = Field(default=3_000, ge=0, lt=10_000)
    stale_head_blocks: int = Field(default=3, ge=2)
    reset: Literal["manual"] | Annotated[int, Field(ge=1)] = "manual"

    @property
    def loss_per_day(self) -> Usd:
        """Return the loss of one day that stops sending."""
        return Usd(scale(self.loss_usd_per_day, 8))

    @property
    def revert_bps(self) -> Bps:
        """Return the share of reverts that stops sending."""
        return Bps(scale(self.revert_rate, 4))

    @property
    def estimate_bps(self) -> Bps:
        """Return how much less than estimated a plan may bring."""
        return Bps(scale(self.estimate_band, 4))

    @property
    def reset_seconds(self) -> float | None:
        """Return after how long a breaker closes; None when only the operator closes it."""
        return None if self.reset == "manual" else 60.0 * self.reset


class Permitted(Table):
    """Tokens by symbol or address, and protocols by name; None where nothing is said."""

    tokens: frozenset[str] | None = None
    protocols: frozenset[str] | None = None


def _usd(value: Decimal | None) -> Usd | None:
    return None if value is None else Usd(scale(value, 8))
