"""How near borrowers are to liquidation, and what a fall of prices would bring."""

from grafana.layout import CHAINS, JOBS, Board, Row, variable
from grafana.panel import CHAIN, JOB, Panel, Query, figure, total

PROTOCOL = CHAIN + ',protocol=~"$protocol"'
PROTOCOLS = variable("protocol", f"label_values(keeper_positions{{{CHAIN}}}, protocol)", many=True)
NOW_UNDER, SOON = '"0"', '"0.05"'


def fallen(metric: str, fall: str, by: str = "chain, protocol") -> str:
    """Return what is under after a fall; unknown debts are left out."""
    return f"sum by ({by}) ({metric}{{{PROTOCOL},fall={fall}}} >= 0)"


NEAR = (
    figure(
        "Liquidatable now",
        "short",
        "Positions under their threshold, dust among them. Many and no plans: read the skips on the "
        "overview.",
        [Query(fallen("keeper_health_positions", NOW_UNDER), "{{chain}} {{protocol}}")],
    ),
    figure(
        "Their debt",
        "currencyUSD",
        "What the positions under their threshold owe. A jump is work: see that plans follow.",
        [Query(fallen("keeper_health_debt_usd", NOW_UNDER), "{{chain}} {{protocol}}")],
    ),
    figure(
        "Next liquidations: within 5 %",
        "short",
        "Positions that a fall of 5 % of what they hold against what they owe makes liquidatable, those "
        "that are already left out. Warn their owners, or see that gas and capital suffice.",
        [
            Query(
                f"{fallen('keeper_health_positions', SOON)} - "
                f"{fallen('keeper_health_positions', NOW_UNDER)}",
                "{{chain}} {{protocol}}",
            )
        ],
    ),
    figure(
        "Next liquidations: their debt",
        "currencyUSD",
        "What the positions within 5 % owe. Compare it with what the pools you sell through hold.",
        [
            Query(
                f"{fallen('keeper_health_debt_usd', SOON)} - "
                f"{fallen('keeper_health_debt_usd', NOW_UNDER)}",
                "{{chain}} {{protocol}}",
            )
        ],
    ),
)
DISTRIBUTION = (
    Panel(
        "Positions by distance",
        "bargauge",
        "short",
        "Positions that are liquidatable after such a fall of everything held against everything owed; "
        "1 counts all. A position of health h is under after a fall of more than 1 - 1/h.",
        [
            Query(
                f"sum by (fall) (keeper_health_positions{{{PROTOCOL}}})",
                "{{fall}}",
                instant=True,
            )
        ],
        width=12,
        height=8,
    ),
    Panel(
        "Stress curve: debt after a fall",
        "bargauge",
        "currencyUSD",
        "What those positions owe together. A steep step is where a crash turns into a cascade; markets "
        "whose positions owe in units of their own are not in it.",
        [
            Query(
                f'sum by (fall) (keeper_health_debt_usd{{{PROTOCOL},fall!="1"}} >= 0)',
                "{{fall}}",
                instant=True,
            )
        ],
        width=12,
        height=8,
    ),
)
OVER_TIME = (
    Panel(
        "Debt at risk",
        "timeseries",
        "currencyUSD",
        "Debt of liquidatable positions at each head. It rises in a crash and falls as they are taken; "
        "what stays is dust, or nobody takes it: read the skips.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_debt_at_risk_usd{{{PROTOCOL}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=12,
        height=8,
    ),
    Panel(
        "Debt within a fall",
        "timeseries",
        "currencyUSD",
        "The stress curve over time. When the near lines rise towards the far ones, borrowers let their "
        "distance shrink: a small fall will bring much.",
        [
            Query(
                f'sum by (fall) (keeper_health_debt_usd{{{PROTOCOL},fall!="1"}} >= 0)',
                "{{fall}}",
            )
        ],
        width=12,
        height=8,
    ),
    Panel(
        "Borrowers",
        "timeseries",
        "short",
        "Borrowers with debt. A sudden fall is a fault of the book: look at drift on the overview.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions{{{PROTOCOL}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=12,
        height=8,
    ),
    Panel(
        "Toxic positions",
        "timeseries",
        "short",
        "Positions that a liquidation in part leaves less healthy. They end as bad debt unless they are "
        "taken whole: see `limits.toxic_parts` and the strategy `sequence`.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions_toxic{{{PROTOCOL}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=12,
        height=8,
    ),
)
CALLS = (
    Panel(
        "Watched positions by level",
        "timeseries",
        "short",
        "Positions of each watch by the level told last. Many at once in `critical`: the market moves, "
        "see the stress curve.",
        [
            Query(
                f"sum by (watch, level) (keeper_margin_positions{{{CHAIN}}})",
                "{{watch}} {{level}}",
            )
        ],
    ),
    Panel(
        "Watched debt by level",
        "timeseries",
        "currencyUSD",
        "What those beyond `safe` owe. Compare `critical` with what their owners can add in time.",
        [
            Query(
                f'sum by (watch, level) (keeper_margin_debt_usd{{{CHAIN},level!="safe"}})',
                "{{watch}} {{level}}",
            )
        ],
    ),
    Panel(
        "Messages waiting",
        "stat",
        "short",
        "What is due and not delivered; what is kept for the end of quiet hours is not due. It "
        "grows: the channel is down; the log says why, and nothing is lost meanwhile.",
        [Query(f"max by (channel) (keeper_notifications_waiting{{{JOB}}})", "{{channel}}")],
        width=4,
    ),
    Panel(
        "Messages",
        "stat",
        "short",
        "Delivered, failed and given up in range. Failed ones are tried again; given up ones never "
        "reached anybody: look at the channel's address.",
        [
            Query(
                total("keeper_notifications_total", "channel, result", JOB),
                "{{channel}} {{result}}",
            )
        ],
        width=4,
    ),
)
MARGIN = Board(
    "margin",
    "keeper-margin",
    "Keeper: margin",
    (
        Row("Near the threshold", NEAR),
        Row("Distance", DISTRIBUTION),
        Row("Over time", OVER_TIME),
        Row("Margin calls", CALLS),
    ),
    (JOBS, CHAINS, PROTOCOLS),
)
