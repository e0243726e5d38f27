"""All instances side by side: which one is down, blind, stopped or short of gas."""

from grafana import limits
from grafana.boards.alike import breakers, gas_left, head_age
from grafana.layout import INSTANCES, JOBS, Board, Row
from grafana.panel import JOB, Panel, Query, below

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
    breakers(HERE, "Yes: this instance plans but does not send. See the runbook under breaker."),
    head_age(HERE, "this instance is blind there; look at its endpoints."),
    gas_left(
        HERE,
        "instance, chain",
        4,
        "Transactions each wallet can pay for at what the dearest of 6 hours cost.",
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
