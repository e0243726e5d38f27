"""Hard limits and breakers between planning and sending, on from the first day."""

from keeper.risk.feeds import Feeds
from keeper.risk.gate import DEVIATION, Risk, worst_gas_cost
from keeper.risk.limits import DAY, HOUR, Limits
from keeper.risk.lists import Lists

__all__ = ["DAY", "DEVIATION", "HOUR", "Feeds", "Limits", "Lists", "Risk", "worst_gas_cost"]
