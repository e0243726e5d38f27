"""What came in, what it cost, and what became of every opportunity."""

from grafana.panel import BARS, CHAIN, STRATEGY, Panel, Query, total

MONEY = (
    Panel(
        "Revenue",
        "timeseries",
        "currencyUSD",
        "Realised gains by strategy, before gas and tips.",
        [
            Query(
                total("keeper_revenue_usd_total", "strategy", STRATEGY, "$__interval"),
                "{{strategy}}",
            )
        ],
        width=8,
        custom=BARS,
    ),
    Panel(
        "Costs",
        "timeseries",
        "currencyUSD",
        "Gas and tips. Gas that grows while revenue does not: look at reverted transactions.",
        [Query(total("keeper_cost_usd_total", "kind", STRATEGY, "$__interval"), "{{kind}}")],
        width=8,
        custom=BARS,
    ),
    Panel(
        "Revenue by protocol",
        "bargauge",
        "currencyUSD",
        "Where the money comes from.",
        [
            Query(
                total("keeper_revenue_usd_total", "chain, protocol", STRATEGY),
                "{{chain}} {{protocol}}",
                instant=True,
            )
        ],
        width=8,
    ),
)

LINE = (
    Panel(
        "Funnel",
        "bargauge",
        "short",
        "Opportunities by the furthest stages they reached. A steep fall between two stages: the "
        "skips beside tell why.",
        [
            Query(total("keeper_funnel_total", "stage", STRATEGY), "{{stage}}", instant=True),
        ],
        width=6,
    ),
    Panel(
        "Skips by reason",
        "timeseries",
        "short",
        "Counted when the reason changes. Each reason has its line in the runbook.",
        [Query(total("keeper_skips_total", "reason", STRATEGY, "$__interval"), "{{reason}}")],
        width=10,
        custom=BARS,
    ),
    Panel(
        "Missed, by winner and reason",
        "bargauge",
        "short",
        "Liquidations somebody else had. `late`: bid more or be faster. `unseen`: they act within the "
        "block a price moves in. A skip's reason: its line in the runbook. Name rivals in `rivals`.",
        [
            Query(
                f"topk(8, sum by (winner, reason) (increase(keeper_missed_total{{{CHAIN}}}[$__range])))",
                "{{winner}} {{reason}}",
                instant=True,
            )
        ],
        width=8,
    ),
    Panel(
        "Positions liquidatable",
        "timeseries",
        "short",
        "Health below one at the next block. Many and no plans: read the skips.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions_liquidatable{{{CHAIN}}})",
                "{{chain}} {{protocol}}",
            ),
            Query(
                f"sum by (chain, protocol) (keeper_positions_toxic{{{CHAIN}}})",
                "{{chain}} {{protocol}} toxic",
            ),
        ],
        width=8,
    ),
    Panel(
        "Debt at risk",
        "timeseries",
        "currencyUSD",
        "Debt of the liquidatable positions. Mostly dust stays here for ever; a jump is work.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_debt_at_risk_usd{{{CHAIN}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=8,
    ),
    Panel(
        "Borrowers",
        "timeseries",
        "short",
        "Borrowers with debt in the ledger. A sudden fall is a fault: look at drift and restart.",
        [
            Query(
                f"sum by (chain, protocol) (keeper_positions{{{CHAIN}}})",
                "{{chain}} {{protocol}}",
            )
        ],
        width=8,
    ),
    Panel(
        "Behind the lenders",
        "timeseries",
        "currencyUSD",
        "Reserves and pools that stand behind a market's lenders, and `deficit`: debt that nobody owes "
        "any more. A deficit that grows: liquidations come too late there, by anybody.",
        [
            Query(
                f"sum by (chain, market, kind) (keeper_backstop_usd{{{CHAIN}}})",
                "{{chain}} {{market}} {{kind}}",
            )
        ],
        width=12,
    ),
    Panel(
        "Behind the lenders, by token",
        "timeseries",
        "short",
        "The same in whole tokens, by the token's address.",
        [
            Query(
                f"sum by (chain, market, kind, token) (keeper_backstop_tokens{{{CHAIN}}})",
                "{{chain}} {{market}} {{kind}} {{token}}",
            )
        ],
        width=12,
    ),
)
