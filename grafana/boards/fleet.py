"""All instances side by side: which one is down, blind, stopped or short of gas."""

from grafana import limits
from grafana.layout import INSTANCES, JOBS, Board, Row
from grafana.panel import JOB, Panel, Query, above, below

ALL = (
    Panel(
        "Instances",
        "table",
        "none",
        "What runs where. An instance that is missing here is down: see KeeperInstanceDown in the "
        "runbook.",
        [Query(f"keeper_build_info{{{JOB}}}", instant=True)],
        width=12,
        height=6,
    ),
    Panel(
        "Scraped",
        "stat",
        "bool_yes_no",
        "Whether Prometheus reaches each instance. No: see whether it runs and its port is open.",
        [Query(f"min by (instance) (up{{{JOB}}})", "{{instance}}")],
        width=6,
        height=6,
        steps=below(limits.UP),
    ),
    Panel(
        "Net profit by instance",
        "bargauge",
        "currencyUSD",
        "Realised revenue less gas and tips. One that only costs: read its skips and reverts.",
        [
            Query(
                f"sum by (instance) (increase(keeper_revenue_usd_total{{{JOB}}}[$__range]))"
                f" - sum by (instance) (increase(keeper_cost_usd_total{{{JOB}}}[$__range]))",
                "{{instance}}",
                instant=True,
            )
        ],
        width=6,
        height=6,
    ),
)
HERE = f'{JOB},instance=~"$instance"'
EACH = (
    Panel(
        "Breakers",
        "stat",
        "bool_yes_no",
        "Yes: this instance plans but does not send. See the runbook under breaker.",
        [
            Query(
                f"max by (chain, breaker) (keeper_breaker_open{{{HERE}}})", "{{chain}} {{breaker}}"
            )
        ],
        width=8,
        steps=above(limits.SET),
        alert="KeeperBreakerOpen",
    ),
    Panel(
        "Head age of what is allowed",
        "stat",
        "percentunit",
        "Three block times and 15 seconds are allowed. Beyond: this instance is blind there; look at its "
        "endpoints.",
        [
            Query(
                f"(time() - max by (chain) (keeper_head_timestamp_seconds{{{HERE}}} > 0))"
                f" / ({limits.HEAD_GRACE_BLOCKS}"
                f" * max by (chain) (keeper_block_time_seconds{{{HERE}}})"
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
        "Gas left",
        "stat",
        "none",
        "Transactions each wallet can pay for at what the last ones cost. Red: fund it.",
        [
            Query(
                f"keeper_wallet_balance_ether{{{HERE}}} / on (instance, chain) group_left () clamp_min("
                "max by (instance, chain) (avg_over_time("
                f"keeper_plan_cost_ether{{{HERE}}}[6h])), 1e-9)",
                "{{chain}} {{wallet}}",
            )
        ],
        width=4,
        steps=below(limits.GAS_TRANSACTIONS),
        decimals=0,
        alert="KeeperWalletRunningDry",
    ),
    Panel(
        "Memory",
        "timeseries",
        "bytes",
        "Resident memory. It should stay level once every market is loaded.",
        [Query(f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}")],
        width=4,
    ),
    Panel(
        "CPU",
        "timeseries",
        "percentunit",
        "Of one core. Near 1 for long: spread the chains over several keepers.",
        [Query(f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])", "{{instance}}")],
        width=4,
    ),
)
FLEET = Board(
    "fleet",
    "keeper-fleet",
    "Keeper: fleet",
    (Row("All", ALL), Row("$instance", EACH, repeat="instance")),
    (JOBS, INSTANCES),
)
