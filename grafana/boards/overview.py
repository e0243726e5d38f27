"""Everything about one keeper, from what matters now to its process."""

from grafana.boards.chain import NODE, PROCESS
from grafana.boards.feeds import FEEDS
from grafana.boards.money import LINE, MONEY
from grafana.boards.now import NOW
from grafana.boards.sending import SENDING, SPEED
from grafana.boards.trust import TRUST
from grafana.layout import CHAINS, JOBS, Board, Row, variable
from grafana.panel import CHAIN

STRATEGIES = variable(
    "strategy", f"label_values(keeper_funnel_total{{{CHAIN}}}, strategy)", many=True
)
OVERVIEW = Board(
    "keeper",
    "keeper-overview",
    "Keeper",
    (
        Row("Now", NOW),
        Row("Money", MONEY),
        Row("Line", LINE),
        Row("Speed", SPEED),
        Row("Sending", SENDING),
        Row("Chain", NODE),
        Row("Feeds", FEEDS),
        Row("Trust", TRUST),
        Row("Process", PROCESS, collapsed=True),
    ),
    (JOBS, CHAINS, STRATEGIES),
)
