"""What of the contract's own tokens repays debts instead of a loan."""

from decimal import Decimal
from typing import Literal

from pydantic import Field

from keeper.config.fields import scale
from keeper.config.table import Table
from keeper.units import Bps


class InventoryTable(Table):
    """Which of the contract's tokens may be used, and the part of each that one head may use.

    `kept` is what the owner keeps there (`set_budget`), and no sweep takes; `all` is whatever is
    there, which anybody may sweep to the treasury right before it is needed.
    """

    use: Literal["kept", "all", "off"] = "kept"
    share: Decimal = Field(default=Decimal(1), gt=0, le=1, decimal_places=4)

    @property
    def share_bps(self) -> Bps:
        """Return the part of each token that may be used."""
        return Bps(scale(self.share, 4))
