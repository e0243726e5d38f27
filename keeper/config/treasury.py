"""Where profit goes: sweeps to the owner's treasury, gas for the operator, and when to warn of little."""

from decimal import Decimal
from typing import Self

from pydantic import Field, model_validator

from keeper.config.fields import EtherAmount, UsdAmount, scale
from keeper.config.table import Table
from keeper.units import Bps, Usd, Wei


class Treasury(Table):
    """When profit is swept and gas refilled; without amounts neither happens by itself.

    A token is swept when it is worth more than `sweep_gas_multiple` times the gas of doing so. Before,
    what the owner's rules let operators sell for `convert_to` (a symbol or an address) is sold, for no
    less than the oracles' value less `convert_slippage`.
    """

    sweep_above_usd: UsdAmount | None = Field(default=None, gt=0)
    sweep_hours: int = Field(default=24, ge=1)
    sweep_gas_multiple: int = Field(default=20, ge=1)
    convert_to: str | None = Field(default=None, min_length=1)
    convert_slippage: Decimal = Field(default=Decimal("0.01"), gt=0, lt=1, decimal_places=4)
    refill_below_ether: EtherAmount | None = Field(default=None, gt=0)
    refill_to_ether: EtherAmount | None = Field(default=None, gt=0)
    warn_below_ether: EtherAmount | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.refill_to_ether is not None:
            if self.refill_below_ether is None:
                raise ValueError("refill_to_ether is of no use without refill_below_ether")
            if self.refill_to_ether <= self.refill_below_ether:
                raise ValueError("refill_to_ether is not more than refill_below_ether")
        return self

    @property
    def sweep_above(self) -> Usd | None:
        """Return the dollars on the contract from which on it is swept; None for never."""
        above = self.sweep_above_usd
        return None if above is None else Usd(scale(above, 8))

    @property
    def slippage(self) -> Bps:
        """Return how much less than the oracles' value a conversion may bring."""
        return Bps(scale(self.convert_slippage, 4))

    @property
    def refill_below(self) -> Wei | None:
        """Return the wallet's balance under which plans ask for a refill; None for never."""
        return _wei(self.refill_below_ether)

    @property
    def refill_to(self) -> Wei:
        """Return the balance a refill aims at: twice the lower level where nothing is said."""
        given = self.refill_to_ether
        return _wei(given) or Wei(2 * (self.refill_below or 0))

    def warn_below(self, gas_per_transaction: Wei) -> Wei:
        """Return the balance to warn under: gas for two of the dearest plans where nothing is said."""
        return _wei(self.warn_below_ether) or Wei(2 * gas_per_transaction)


def _wei(value: Decimal | None) -> Wei | None:
    return None if value is None else Wei(scale(value, 18))
