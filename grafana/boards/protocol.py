"""One protocol through the whole line, for a look into what the overview adds up."""

from grafana import limits
from grafana.boards.margin import PROTOCOL, PROTOCOLS
from grafana.layout import CHAINS, JOBS, Board, Row
from grafana.panel import BARS, Panel, Query, above, total

BOOK = (
    Panel(
        "Borrowers",
        "stat",
        "short",
        "Borrowers with debt in the book. Zero: the market is not loaded; see /status.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions{{{PROTOCOL}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=6,
        height=5,
    ),
    Panel(
        "Liquidatable",
        "stat",
        "short",
        "Health below one at the next block. Many and no plans: read the skips below.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions_liquidatable{{{PROTOCOL}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=6,
        height=5,
    ),
    Panel(
        "Audited",
        "stat",
        "short",
        "Values compared with the chain. Zero for an hour: audits do not run.",
        [
            Query(
                total("keeper_audit_checked_total", "chain, protocol", PROTOCOL),
                "{{chain}} {{protocol}}",
            )
        ],
        width=6,
        height=5,
    ),
    Panel(
        "Drift",
        "stat",
        "short",
        "Values that differed from the chain. Not zero: that market stopped and was loaded anew.",
        [
            Query(
                total("keeper_audit_drift_total", "chain, protocol", PROTOCOL),
                "{{chain}} {{protocol}}",
            )
        ],
        width=6,
        height=5,
        steps=above(limits.ONCE),
        alert="KeeperStateDrift",
    ),
)
LINE = (
    Panel(
        "Funnel",
        "bargauge",
        "short",
        "Opportunities by the furthest stage. A steep fall between two: the skips tell why.",
        [Query(total("keeper_funnel_total", "stage", PROTOCOL), "{{stage}}", instant=True)],
    ),
    Panel(
        "Skips by reason",
        "timeseries",
        "short",
        "Each reason has its line in the runbook.",
        [Query(total("keeper_skips_total", "reason", PROTOCOL, "$__interval"), "{{reason}}")],
        custom=BARS,
    ),
    Panel(
        "Reached by strategy",
        "timeseries",
        "short",
        "Which strategy brought an opportunity how far. One that selects and never wins a bid: compare "
        "its limits with the others'.",
        [
            Query(
                total("keeper_funnel_total", "strategy, stage", PROTOCOL, "$__interval"),
                "{{strategy}} {{stage}}",
            )
        ],
        custom=BARS,
    ),
)
MONEY = (
    Panel(
        "Revenue",
        "timeseries",
        "currencyUSD",
        "Realised gains by strategy, before gas and tips. Falling while debt at risk is not: others are "
        "faster, or the skips tell why.",
        [
            Query(
                total("keeper_revenue_usd_total", "strategy", PROTOCOL, "$__interval"),
                "{{strategy}}",
            )
        ],
        width=12,
        custom=BARS,
    ),
    Panel(
        "Costs",
        "timeseries",
        "currencyUSD",
        "Gas and tips. Gas that grows while revenue does not: look at reverted transactions.",
        [Query(total("keeper_cost_usd_total", "kind", PROTOCOL, "$__interval"), "{{kind}}")],
        width=12,
        custom=BARS,
    ),
)
PROTOCOL_BOARD = Board(
    "protocol",
    "keeper-protocol",
    "Keeper: protocol",
    (Row("Book", BOOK), Row("Line", LINE), Row("Money", MONEY)),
    (JOBS, CHAINS, PROTOCOLS),
)
