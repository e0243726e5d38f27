"""How fast it is, and what became of what was sent."""

from grafana import limits
from grafana.panel import BARS, CHAIN, JOB, Panel, Query, above, quantile, total

SPEED = (
    Panel(
        "Head to send",
        "heatmap",
        "s",
        "From a head's arrival to the submission. Exemplars carry the transaction.",
        [
            Query(
                f"sum by (le) (increase(keeper_head_to_send_seconds_bucket{{{CHAIN}}}[$__interval]))",
                "{{le}}",
                exemplar=True,
            )
        ],
        width=8,
        options={"calculate": False, "yAxis": {"unit": "s"}, "exemplars": {"color": "orange"}},
    ),
    Panel(
        "Stage p50 and p99",
        "timeseries",
        "s",
        "Which stage takes the time. Simulation is the node's: a nearer node helps.",
        [
            Query(quantile(q, "keeper_stage_duration_seconds", "stage"), f"{{{{stage}}}} p{name}")
            for q, name in ((0.5, "50"), (0.99, "99"))
        ],
        width=8,
    ),
    Panel(
        "Event loop lag",
        "timeseries",
        "s",
        "How late the loop wakes. Above a tenth of a second: the machine is short of CPU, or a "
        "strategy is slow.",
        [
            Query(quantile(0.99, "keeper_loop_lag_seconds", "", JOB), "p99"),
            Query(f"max(keeper_loop_lag_max_seconds{{{JOB}}})", "worst since the start"),
            Query(f"max(keeper_gc_pause_max_seconds{{{JOB}}})", "longest collection"),
        ],
        width=8,
        steps=above(limits.LOOP_LAG_SECONDS),
        alert="KeeperLoopStalled",
    ),
)

SENDING = (
    Panel(
        "Transactions by outcome",
        "timeseries",
        "short",
        "Reverted ones cost gas: `keeper explain HASH` tells why.",
        [Query(total("keeper_transactions_total", "outcome", CHAIN, "$__interval"), "{{outcome}}")],
        width=12,
        custom=BARS,
    ),
    Panel(
        "Wallet",
        "timeseries",
        "none",
        "Native coin of the operator's wallet, and what profit refilled it by in range. `low` at 1: "
        "it is under the level to warn of; fund it, before plans are refused.",
        [
            Query(f"keeper_wallet_balance_ether{{{CHAIN}}}", "{{chain}} {{wallet}}"),
            Query(f"keeper_wallet_low{{{CHAIN}}}", "{{chain}} {{wallet}} low"),
            Query(
                total("keeper_wallet_refilled_ether_total", "chain"),
                "{{chain}} refilled",
            ),
        ],
        width=6,
    ),
    Panel(
        "Nonces pending",
        "timeseries",
        "short",
        "Signed and not settled. More than one for several blocks: a transaction is stuck.",
        [Query(f"keeper_nonces_pending{{{CHAIN}}}", "{{chain}} {{wallet}}")],
        width=6,
    ),
    Panel(
        "Relays: what they answered",
        "timeseries",
        "short",
        "Refused or unclear for long: /status has its last complaint; check its URL and keys with "
        "`keeper doctor`.",
        [
            Query(
                f"sum by (relay, result) (increase(keeper_relay_requests_total{{{CHAIN}}}"
                "[$__interval]))",
                "{{relay}} {{result}}",
            )
        ],
        custom=BARS,
    ),
    Panel(
        "Relays: what came of it",
        "timeseries",
        "short",
        "Included while it alone held it, while others did as well (shared: each of them counts it), "
        "or held in vain. One that never includes is asked only now and then: remove it.",
        [
            Query(
                f"sum by (relay, outcome) (increase(keeper_relay_transactions_total{{{CHAIN}}}"
                "[$__interval]))",
                "{{relay}} {{outcome}}",
            )
        ],
        custom=BARS,
    ),
    Panel(
        "Relays: time to answer, 95 of 100",
        "timeseries",
        "s",
        "The first that takes a transaction ends the wait; a slow one alone holds up the next plans.",
        [Query(quantile(0.95, "keeper_relay_duration_seconds", "relay"), "{{relay}}")],
    ),
    Panel(
        "Swept to the treasury",
        "timeseries",
        "currencyUSD",
        "Profit sent from the contract to the owner's treasury: no gain and no loss but its gas.",
        [Query(total("keeper_swept_usd_total", "chain", CHAIN, "$__interval"), "{{chain}}")],
        custom=BARS,
    ),
)
