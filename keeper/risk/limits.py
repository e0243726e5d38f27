"""The figures that are never exceeded."""

from dataclasses import dataclass
from pathlib import Path

from keeper.errors import ConfigError
from keeper.units import Bps, Usd, Wei

HOUR = 3_600.0
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is never exceeded; gas in native wei, dollars with 8 decimals, windows rolling.

    None means that the next larger limit alone holds. `reverts` within `revert_seconds` open a breaker
    that closes when the window has passed. `loss_per_day`, `revert_rate` (of the last
    `revert_rate_of` liquidating transactions) and `estimate_band` (missed `estimate_misses` times in a row) open
    breakers that stay open for `reset_seconds`, or until the operator closes them.
    """

    gas_per_transaction: Wei
    gas_per_day: Wei
    minimum_profit: Usd
    largest_repay: Usd
    kill_file: Path
    reverts: int = 3
    revert_seconds: float = HOUR
    gas_per_hour: Wei | None = None
    repay_per_hour: Usd | None = None
    repay_per_day: Usd | None = None
    loss_per_day: Usd | None = None
    revert_rate: Bps | None = None
    revert_rate_of: int = 20
    estimate_band: Bps | None = None
    estimate_misses: int = 3
    stale_seconds: float | None = None
    reset_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("gas_per_transaction", "gas_per_day", "minimum_profit", "largest_repay"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"limits.{name} is not above zero", "limits cannot be turned off")
        if self.reverts < 1 or self.revert_seconds <= 0:
            raise ConfigError("limits.reverts is below one", "limits cannot be turned off")
