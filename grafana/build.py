# ruff: noqa: INP001  (a script beside the files it writes, no package)
"""Write dashboards/keeper.json: `python grafana/build.py`, or `--check` to see that it is current.

The JSON is Grafana's classic model, which Grafana 10 and later load from a provisioned folder.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "keeper.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHAIN = 'job="$job",chain=~"$chain"'
STRATEGY = CHAIN + ',strategy=~"$strategy|none"'
JOB = 'job="$job"'


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query and its legend; `instant` asks for the newest value alone."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `width` is in Grafana's 24 columns, `steps` are thresholds from a value on."""

    title: str
    kind: str
    unit: str
    description: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 7
    steps: Sequence[tuple[str, float | None]] = (("green", None),)
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    decimals: int | None = None


BARS = {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}


def total(metric: str, by: str, selector: str = CHAIN, over: str = "$__range") -> str:
    """Return the increase of a counter by a label."""
    return f"sum by ({by}) (increase({metric}{{{selector}}}[{over}]))"


def quantile(q: float, metric: str, by: str, selector: str = CHAIN) -> str:
    """Return a quantile of a histogram by a label."""
    labels = f"le, {by}" if by else "le"
    rate = f"rate({metric}_bucket{{{selector}}}[$__rate_interval])"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate}))"


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
        steps=(("green", None), ("red", 1)),
    ),
    Panel(
        "Head age",
        "stat",
        "s",
        "Age of the newest block the keeper has folded. When it grows, look at RPC errors and at the "
        "node's own sync.",
        [Query(f"time() - max by (chain) (keeper_head_timestamp_seconds{{{CHAIN}}})", "{{chain}}")],
        width=4,
        steps=(("green", None), ("yellow", 30), ("red", 60)),
        decimals=0,
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
        "How many more transactions the wallet can pay for at what the last ones cost. Below 20: "
        "fund it.",
        [
            Query(
                f"keeper_wallet_balance_ether{{{CHAIN}}} / on (chain) group_left () clamp_min("
                f"max by (chain) (avg_over_time(keeper_plan_cost_ether{{{CHAIN}}}[6h])), 1e-9)",
                "{{chain}} {{wallet}}",
            )
        ],
        width=4,
        steps=(("red", None), ("yellow", 20), ("green", 50)),
        decimals=0,
    ),
    Panel(
        "Head",
        "stat",
        "none",
        "The newest block folded. Compare it with a block explorer when the age looks right but "
        "nothing happens.",
        [Query(f"max by (chain) (keeper_head_number{{{CHAIN}}})", "{{chain}}")],
        width=8,
        height=4,
    ),
    Panel(
        "Block time",
        "stat",
        "s",
        "Configured seconds between blocks: what the age of a head is judged by. Mend block_time "
        "when the chain differs.",
        [Query(f"max by (chain) (keeper_block_time_seconds{{{CHAIN}}})", "{{chain}}")],
        width=4,
        height=4,
    ),
    Panel(
        "Version",
        "table",
        "none",
        "What runs. Two rows of one instance in range: it was restarted with another version.",
        [Query(f"keeper_build_info{{{JOB}}}", instant=True)],
        width=12,
        height=4,
    ),
)

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
        width=12,
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
        width=12,
    ),
)

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
        [Query(f"keeper_nonces_pending{{{CHAIN}}}", "{{chain}}")],
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

NODE = (
    Panel(
        "RPC error ratio",
        "timeseries",
        "percentunit",
        "Attempts that failed, by endpoint. Above a tenth: change the endpoint or add one.",
        [
            Query(
                f'sum by (endpoint) (rate(keeper_rpc_requests_total{{{JOB},result!="ok"}}'
                "[$__rate_interval])) / sum by (endpoint) "
                f"(rate(keeper_rpc_requests_total{{{JOB}}}[$__rate_interval]))",
                "{{endpoint}}",
            )
        ],
    ),
    Panel(
        "RPC p95",
        "timeseries",
        "s",
        "Time of an attempt. It adds to head to send as it is.",
        [Query(quantile(0.95, "keeper_rpc_duration_seconds", "endpoint", JOB), "{{endpoint}}")],
    ),
    Panel(
        "Endpoint lag",
        "timeseries",
        "short",
        "Blocks behind the highest endpoint that is believed. One beyond chains.NAME.allowed_lag is "
        "left out.",
        [
            Query(
                f"max by (chain, endpoint) (keeper_endpoint_lag_blocks{{{CHAIN}}})",
                "{{chain}} {{endpoint}}",
            )
        ],
    ),
    Panel(
        "Endpoints used",
        "timeseries",
        "short",
        "1 while an endpoint is asked, 0 while it is left out; /status says why. None left: nothing "
        "is sent until one answers.",
        [
            Query(
                f"max by (chain, endpoint) (keeper_endpoint_up{{{CHAIN}}})",
                "{{chain}} {{endpoint}}",
            )
        ],
    ),
    Panel(
        "Reorgs, reconnects, back-fill",
        "timeseries",
        "short",
        "Blocks taken back, sockets opened again, blocks fetched after a gap. Many reconnects: the "
        "endpoint drops the socket.",
        [
            Query(total("keeper_reorgs_total", "chain", over="$__interval"), "{{chain}} reorgs"),
            Query(
                total("keeper_ws_reconnects_total", "chain", over="$__interval"),
                "{{chain}} reconnects",
            ),
            Query(
                total("keeper_backfilled_blocks_total", "chain", over="$__interval"),
                "{{chain}} back-filled",
            ),
        ],
        custom=BARS,
    ),
)

TRUST = (
    Panel(
        "Stopped",
        "stat",
        "short",
        "Markets and venues not acted on now; the others are. /status and the log line market.stopped "
        "or venue.stopped say why. It is loaded anew by itself; one with unknown rules stays stopped.",
        [Query(f"max by (chain, part) (keeper_part_stopped{{{CHAIN}}})", "{{chain}} {{part}}")],
        width=6,
        height=5,
        steps=(("green", None), ("red", 1)),
    ),
    Panel(
        "Faults and rebuilds",
        "stat",
        "short",
        "What stopped a market or venue, by kind, and attempts to load it anew. Failed attempts that "
        "go on: the log line market.rebuild_failed says why.",
        [
            Query(total("keeper_faults_total", "part, kind"), "{{part}} {{kind}}"),
            Query(total("keeper_rebuilds_total", "part, result"), "{{part}} rebuild {{result}}"),
        ],
        width=6,
        height=5,
        steps=(("green", None), ("yellow", 1)),
    ),
    Panel(
        "Drift",
        "stat",
        "short",
        "Values in the book that differed from the chain. Not zero: that market stopped; report it.",
        [Query(total("keeper_audit_drift_total", "chain, protocol"), "{{chain}} {{protocol}}")],
        width=6,
        height=5,
        steps=(("green", None), ("red", 1)),
    ),
    Panel(
        "Audited",
        "stat",
        "short",
        "Values compared with the chain. Zero for an hour: audits do not run.",
        [Query(total("keeper_audit_checked_total", "chain, protocol"), "{{chain}} {{protocol}}")],
        width=6,
        height=5,
    ),
    Panel(
        "Snapshot age",
        "stat",
        "s",
        "Time since the book was last written to disk, every journal.snapshot_minutes. Older: the log "
        "line snapshot.failed or snapshot.left_out says why; a restart then takes longer.",
        [
            Query(
                f"time() - max by (chain) (keeper_snapshot_timestamp_seconds{{{CHAIN}}} > 0)",
                "{{chain}}",
            )
        ],
        width=6,
        height=5,
        steps=(("green", None), ("yellow", 3600)),
    ),
    Panel(
        "Snapshot size",
        "stat",
        "bytes",
        "What the last snapshot of the book takes in the journal. Up to three are kept.",
        [Query(f"max by (chain) (keeper_snapshot_bytes{{{CHAIN}}})", "{{chain}}")],
        width=6,
        height=5,
    ),
    Panel(
        "Snapshot time",
        "stat",
        "s",
        "How long the last snapshot took to write, beside everything else. Minutes: the disk is slow.",
        [Query(f"max by (chain) (keeper_snapshot_duration_seconds{{{CHAIN}}})", "{{chain}}")],
        width=6,
        height=5,
    ),
    Panel(
        "Snapshots failed, books rebuilt",
        "stat",
        "short",
        "Snapshots that could not be written: look at the disk. Books loaded anew because a reorg was "
        "deeper than can be undone: the log line book.rebuilt says from what.",
        [
            Query(total("keeper_snapshot_failures_total", "chain"), "{{chain}} failed"),
            Query(total("keeper_book_rebuilds_total", "chain"), "{{chain}} rebuilt"),
        ],
        width=6,
        height=5,
        steps=(("green", None), ("red", 1)),
    ),
    Panel(
        "Plug-in faults",
        "stat",
        "short",
        "Exceptions of strategies. The faulty one is disabled until a restart or a reload.",
        [Query(total("keeper_plugin_errors_total", "plugin", JOB), "{{plugin}}")],
        width=6,
        height=5,
        steps=(("green", None), ("red", 1)),
    ),
    Panel(
        "Strategies loaded",
        "stat",
        "short",
        "How often the strategies were loaded, how many of those were within the range, and whether "
        "the last SIGHUP failed: then the old ones go on, and strategies.not_reloaded says why.",
        [
            Query(f"max(keeper_strategies_generation{{{JOB}}})", "loads"),
            Query(
                f"sum(changes(keeper_strategies_loaded_timestamp_seconds{{{JOB}}}[$__range]))",
                "in this range",
            ),
            Query(f"max(keeper_strategies_reload_failed{{{JOB}}})", "failed"),
        ],
        width=6,
        height=5,
        steps=(("green", None),),
    ),
    Panel(
        "Observations dropped",
        "stat",
        "short",
        "What journal and observers were too slow for; money is never among it. Not zero: the disk "
        "or the CPU is short.",
        [
            Query(f"sum(increase(keeper_journal_dropped_total{{{JOB}}}[$__range]))", "journal"),
            Query(f"sum(increase(keeper_reports_dropped_total{{{CHAIN}}}[$__range]))", "reports"),
        ],
        width=6,
        height=5,
        steps=(("green", None), ("yellow", 1)),
    ),
)

PROCESS = (
    Panel(
        "CPU",
        "timeseries",
        "percentunit",
        "Of one core.",
        [Query(f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])", "{{instance}}")],
        width=6,
    ),
    Panel(
        "Memory",
        "timeseries",
        "bytes",
        "Resident memory. It should stay level once every market is loaded.",
        [Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")],
        width=6,
    ),
    Panel(
        "Garbage collections",
        "timeseries",
        "ops",
        "The oldest generation pauses the loop: compare with its lag.",
        [
            Query(
                "sum by (generation) "
                f"(rate(python_gc_collections_total{{{JOB}}}[$__rate_interval]))",
                "generation {{generation}}",
            )
        ],
        width=6,
    ),
    Panel(
        "File descriptors",
        "timeseries",
        "short",
        "Growing without end: connections leak; report it.",
        [Query(f"process_open_fds{{{JOB}}}", "{{instance}}")],
        width=6,
    ),
)

ROWS: Sequence[tuple[str, Sequence[Panel], bool]] = (
    ("Now", NOW, False),
    ("Money", MONEY, False),
    ("Line", LINE, False),
    ("Speed", SPEED, False),
    ("Sending", SENDING, False),
    ("Chain", NODE, False),
    ("Trust", TRUST, False),
    ("Process", PROCESS, True),
)


def draw(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """Return one panel at a place of the grid."""
    steps = [{"color": colour, "value": value} for colour, value in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": dict(panel.custom),
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": dict(panel.options),
        "targets": [target(query, index, panel.kind) for index, query in enumerate(panel.queries)],
    }


def target(query: Query, index: int, kind: str) -> dict[str, Any]:
    """Return one query of a panel."""
    instant = query.instant or kind == "stat"
    shape = "heatmap" if kind == "heatmap" else "table" if kind == "table" else "time_series"
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": shape,
        "instant": instant,
        "range": not instant,
        "exemplar": query.exemplar,
    }


def layout() -> Iterator[dict[str, Any]]:
    """Yield rows and panels from left to right and downwards; ids follow row and place."""
    y = 0
    for row, (title, panels, collapsed) in enumerate(ROWS, 1):
        head: dict[str, Any] = {
            "id": 100 * row,
            "type": "row",
            "title": title,
            "collapsed": collapsed,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            "panels": [],
        }
        y += 1
        drawn, x, tallest = [], 0, 0
        for place, panel in enumerate(panels, 1):
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            drawn.append(draw(panel, 100 * row + place, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
        if collapsed:
            head["panels"] = drawn
            yield head
        else:
            yield head
            yield from drawn


def variable(name: str, definition: str, *, many: bool) -> dict[str, Any]:
    """Return a variable that offers the values of a label."""
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "definition": definition,
        "query": {"query": definition, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "current": {"text": "All", "value": "$__all"} if many else {},
    }


def annotation(name: str, expr: str, colour: str) -> dict[str, Any]:
    """Return marks where a query is not empty."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "step": "30s",
        "titleFormat": name,
        "textFormat": "{{chain}} {{breaker}} {{version}}",
    }


def board() -> dict[str, Any]:
    """Return the whole dashboard."""
    return {
        "id": None,
        "uid": "keeper-overview",
        "title": "Keeper",
        "tags": ["keeper"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "timezone": "utc",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                variable("job", "label_values(keeper_build_info, job)", many=False),
                variable("chain", f"label_values(keeper_head_number{{{JOB}}}, chain)", many=True),
                variable(
                    "strategy", f"label_values(keeper_funnel_total{{{CHAIN}}}, strategy)", many=True
                ),
            ]
        },
        "annotations": {
            "list": [
                annotation(
                    "Started", f"changes(process_start_time_seconds{{{JOB}}}[1m]) > 0", "blue"
                ),
                annotation("Breaker", f"keeper_breaker_open{{{CHAIN}}} == 1", "red"),
                annotation("Reorg", f"increase(keeper_reorgs_total{{{CHAIN}}}[1m]) > 0", "orange"),
            ]
        },
        "panels": list(layout()),
    }


def main() -> int:
    """Write the dashboard, or with `--check` return 1 when the committed one differs."""
    parser = argparse.ArgumentParser(description="Write dashboards/keeper.json.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    text = json.dumps(board(), indent=1) + "\n"
    if parser.parse_args().check:
        current = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        if not current:
            sys.stderr.write(f"{TARGET.name} is stale: run python grafana/build.py\n")
        return 0 if current else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
