"""Hard limits and breakers between planning and sending, on from the first day."""

from keeper.risk.feeds import Feeds
from keeper.risk.gate import DEVIATION, Risk
from keeper.risk.limits import DAY, HOUR, Limits
from keeper.risk.lists import Lists
from keeper.risk.oracles import Doubt, FeedStanding, OracleWatch

__all__ = [
    "DAY",
    "DEVIATION",
    "HOUR",
    "Doubt",
    "FeedStanding",
    "Feeds",
    "Limits",
    "Lists",
    "OracleWatch",
    "Risk",
]
