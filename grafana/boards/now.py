"""The first row: may it send, does it see, does it earn."""

from grafana import limits
from grafana.panel import CHAIN, JOB, STRATEGY, Panel, Query, above, below

NOW = (
    Panel(
        "Breakers",
        "stat",
        "bool_yes_no",
        "Yes: the keeper plans but does not send. See the runbook under breaker, then find out why "
        "before you restart it.",
        [
            Query(
                f"max by (chain, breaker) (keeper_breaker_open{{{CHAIN}}})", "{{chain}} {{breaker}}"
            )
        ],
        width=8,
        steps=above(limits.SET),
        alert="KeeperBreakerOpen",
    ),
    Panel(
        "Head age",
        "stat",
        "s",
        "Age of the newest block the keeper has folded. When it grows, look at RPC errors and at the "
        "node's own sync.",
        [Query(f"time() - max by (chain) (keeper_head_timestamp_seconds{{{CHAIN}}})", "{{chain}}")],
        width=4,
        steps=(("text", None),),
        decimals=0,
    ),
    Panel(
        "Head age of what is allowed",
        "stat",
        "percentunit",
        "Three block times and 15 seconds are allowed. Beyond: what falls under its threshold now is "
        "not seen; look at the endpoints.",
        [
            Query(
                f"(time() - max by (chain) (keeper_head_timestamp_seconds{{{CHAIN}}} > 0))"
                f" / ({limits.HEAD_GRACE_BLOCKS}"
                f" * max by (chain) (keeper_block_time_seconds{{{CHAIN}}})"
                f" + {limits.HEAD_GRACE_SECONDS})",
                "{{chain}}",
            )
        ],
        width=4,
        steps=above(limits.HEAD_LATE),
        decimals=0,
        alert="KeeperHeadStale",
    ),
    Panel(
        "Net profit in range",
        "stat",
        "currencyUSD",
        "Realised revenue less gas and tips, reverted transactions included. Dry plans do not count.",
        [
            Query(
                f"sum(increase(keeper_revenue_usd_total{{{STRATEGY}}}[$__range]))"
                f" - sum(increase(keeper_cost_usd_total{{{STRATEGY}}}[$__range]))"
            )
        ],
        width=4,
        steps=(("red", None), ("text", 0), ("green", 0.01)),
    ),
    Panel(
        "Dry profit in range",
        "stat",
        "currencyUSD",
        "What proven plans would have earned. Above zero for long: consider going live.",
        [Query(f"sum(increase(keeper_dry_net_usd_total{{{CHAIN}}}[$__range]))")],
        width=4,
        steps=(("text", None),),
    ),
    Panel(
        "Gas left",
        "stat",
        "none",
        "How many more transactions the wallet can pay for at what the last ones cost. Red: fund it.",
        [
            Query(
                f"keeper_wallet_balance_ether{{{CHAIN}}} / on (chain) group_left () clamp_min("
                f"max by (chain) (avg_over_time(keeper_plan_cost_ether{{{CHAIN}}}[6h])), 1e-9)",
                "{{chain}} {{wallet}}",
            )
        ],
        width=6,
        steps=below(limits.GAS_TRANSACTIONS),
        alert="KeeperWalletRunningDry",
        decimals=0,
    ),
    Panel(
        "Head",
        "stat",
        "none",
        "The newest block folded. Compare it with a block explorer when the age looks right but "
        "nothing happens.",
        [Query(f"max by (chain) (keeper_head_number{{{CHAIN}}})", "{{chain}}")],
        width=6,
    ),
    Panel(
        "Block time",
        "stat",
        "s",
        "Configured seconds between blocks: what the age of a head is judged by. Mend block_time "
        "when the chain differs.",
        [Query(f"max by (chain) (keeper_block_time_seconds{{{CHAIN}}})", "{{chain}}")],
        width=4,
    ),
    Panel(
        "Version",
        "table",
        "none",
        "What runs. Two rows of one instance in range: it was restarted with another version.",
        [Query(f"keeper_build_info{{{JOB}}}", instant=True)],
        width=8,
    ),
)
