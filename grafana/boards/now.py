"""The first row: may it send, does it see, does it earn."""

from grafana.boards.alike import breakers, gas_left, head_age
from grafana.panel import CHAIN, JOB, STRATEGY, Panel, Query

NOW = (
    breakers(
        CHAIN,
        "Yes: the keeper plans but does not send. See the runbook under breaker, then find out why "
        "before you restart it.",
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
    head_age(CHAIN, "what falls under its threshold now is not seen; look at the endpoints."),
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
    gas_left(
        CHAIN,
        "chain",
        6,
        "How many more transactions the wallet can pay for at what the dearest of 6 hours cost.",
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
