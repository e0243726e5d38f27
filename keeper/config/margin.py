"""Who is warned before a liquidation, at which levels, and how often."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from keeper.address import EvmAddress
from keeper.config.fields import UsdAmount, scale
from keeper.config.table import Table
from keeper.units import Usd, Wad

_Health = Annotated[Decimal, Field(lt=1_000, decimal_places=6, allow_inf_nan=False)]


class WatchTable(Table):
    """One list of positions: `addresses`, or everyone who owes more than `above_usd`, or everyone.

    `warning`, `call` and `critical` are healths. `chances` are probabilities of a liquidation within
    `horizon_hours`, from the volatility of now, at which the same levels begin at the latest: in a
    wild market they come earlier. Better is told once it held for `cooldown_minutes` and is
    `hysteresis` above the level; a call that nobody acknowledged within `escalate_minutes` is told
    once more, to the channels of `escalate` as well.
    """

    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    addresses: frozenset[EvmAddress] | None = None
    above_usd: UsdAmount | None = Field(default=None, gt=0)
    chains: frozenset[str] | None = None
    protocols: frozenset[str] | None = None
    markets: frozenset[str] | None = None
    warning: _Health = Decimal("1.25")
    call: _Health = Decimal("1.1")
    critical: _Health = Decimal("1.03")
    chances: tuple[float, float, float] | None = None
    horizon_hours: int = Field(default=24, ge=1, le=168)
    target_health: _Health = Decimal("1.5")
    hysteresis: Decimal = Field(default=Decimal("0.005"), ge=0, lt=1, decimal_places=4)
    cooldown_minutes: int = Field(default=10, ge=0)
    escalate_minutes: int | None = Field(default=None, ge=1)
    escalate: tuple[str, ...] = ()

    @field_validator("addresses")
    @classmethod
    def _somebody(cls, addresses: frozenset[bytes] | None) -> frozenset[bytes] | None:
        if addresses is not None and not addresses:
            raise ValueError("is empty: nobody would be watched")
        return addresses

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.warning > self.call > self.critical > 1:
            raise ValueError(
                f"levels are out of order: warning {self.warning} > call {self.call} > "
                f"critical {self.critical} > 1 is wanted"
            )
        if self.target_health <= self.call:
            raise ValueError("target_health is not above call: it would be told again at once")
        if (
            self.chances is not None
            and not 0 < self.chances[0] < self.chances[1] < self.chances[2] < 1
        ):
            raise ValueError(
                "chances are out of order: 0 < warning < call < critical < 1 is wanted"
            )
        if self.escalate and self.escalate_minutes is None:
            raise ValueError("escalate is of no use without escalate_minutes")
        return self

    @property
    def above(self) -> Usd | None:
        """Return the debt from which on a position is watched."""
        return None if self.above_usd is None else Usd(scale(self.above_usd, 8))


def wad(health: Decimal) -> Wad:
    """Return a health as the protocols have it."""
    return Wad(scale(health, 18))


class Margin(Table):
    """Watch lists by name; `sample_seconds` is how often prices are kept to measure volatility."""

    sample_seconds: int = Field(default=300, ge=1, le=86_400)
    watch: dict[str, WatchTable] = Field(default_factory=dict)

    @field_validator("watch")
    @classmethod
    def _named(cls, watch: dict[str, WatchTable]) -> dict[str, WatchTable]:
        for name in watch:
            if not (name.replace("-", "").replace("_", "").isalnum() and name == name.lower()):
                raise ValueError(f"{name!r} must be a short name of a-z, 0-9, _ and -")
        return watch
