"""Hard limits and breakers between planning and sending, on from the first day."""

from keeper.risk.gate import Risk, worst_gas_cost
from keeper.risk.limits import DAY, HOUR, Limits
from keeper.risk.lists import Lists

__all__ = ["DAY", "HOUR", "Limits", "Lists", "Risk", "worst_gas_cost"]
