"""What makes each alert fire, and what just does not, as Prometheus' own rule tests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from grafana.alerts import ALERTS

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """Series a minute apart; the alert is silent at the minutes `quiet`, and fires at `fires`."""

    alert: str
    series: Mapping[str, str]
    quiet: Sequence[int]
    fires: int
    labels: Labels = field(default_factory=dict)
    summary: str = ""


BUILD = 'keeper_build_info{job="keeper",instance="a",mode="live"}'
DRY = 'keeper_build_info{job="keeper",instance="a",mode="dry"}'
X = {"chain": "x"}
SEEN = "1+0x120"

CASES: Sequence[Case] = (
    Case("KeeperDown", {BUILD: "1+0x10 stale"}, [10, 14], 17, {}, "No keeper is scraped"),
    Case(
        "KeeperInstanceDown",
        {
            BUILD: "1+0x10 stale",
            'keeper_build_info{job="keeper",instance="b",mode="live"}': SEEN,
        },
        [10, 14, 75],
        17,
        {"job": "keeper", "instance": "a"},
        "a is not scraped any more, others are",
    ),
    Case(
        # 3 * 12 + 15 seconds are allowed: at 8 minutes the block of minute 8 is 0 s old
        "KeeperHeadStale",
        {
            'keeper_head_timestamp_seconds{chain="x"}': "0+60x10 600+0x20",
            'keeper_block_time_seconds{chain="x"}': "12+0x30",
        },
        [8, 11],
        13,
        X,
        "x has no fresh block: 352.9% of the age allowed",
    ),
    Case(
        "KeeperNotStarted",
        {'keeper_head_timestamp_seconds{chain="x"}': "0+0x60"},
        [0, 29],
        30,
        X,
        "x is loaded for half an hour and has no head yet",
    ),
    Case(
        "KeeperBreakerOpen",
        {
            'keeper_breaker_open{chain="x",breaker="loss"}': "0+0x5 1+0x5",
            'keeper_breaker_open{chain="x",breaker="operator_pause"}': "1+0x10",
        },
        [5],
        6,
        {"chain": "x", "breaker": "loss"},
        "loss stops sending on x",
    ),
    Case(
        # one scrape fails on the way
        "KeeperPaused",
        {
            'keeper_breaker_open{chain="x",breaker="kill_file"}': "0+0x5 1+0x14 stale 1+0x75",
            'keeper_breaker_open{chain="x",breaker="loss"}': "1+0x95",
        },
        [5, 35],
        36,
        {"chain": "x", "breaker": "kill_file"},
        "x is paused by hand for half an hour (kill_file)",
    ),
    Case(
        "KeeperMarketStopped",
        {'keeper_part_stopped{chain="x",part="market/m"}': "1+0x5 0 1+0x30"},
        [9, 16],
        17,
        {"chain": "x", "part": "market/m"},
        "market/m on x is not acted on",
    ),
    Case(
        # one round in 100 minutes, and one feed of which nobody knows when it is to speak
        "KeeperFeedStale",
        {
            'keeper_oracle_age_seconds{chain="x",market="m",asset="WETH"}': "0+60x120",
            'keeper_oracle_heartbeat_seconds{chain="x",market="m",asset="WETH"}': "3600+0x120",
            'keeper_oracle_age_seconds{chain="x",market="m",asset="GHO"}': "90000+60x120",
            'keeper_oracle_heartbeat_seconds{chain="x",market="m",asset="GHO"}': "NaN+0x120",
        },
        [60, 94],
        96,
        {"chain": "x", "market": "m", "asset": "WETH"},
        "The feed of WETH for m on x is silent",
    ),
    Case(
        "KeeperStateDrift",
        {'keeper_audit_drift_total{chain="x",protocol="p"}': "0+0x10 1+0x60"},
        [10, 45],
        12,
        {"chain": "x", "protocol": "p"},
        "The book of p on x differed from the chain",
    ),
    Case(
        "KeeperNothingSent",
        {
            BUILD: SEEN,
            'keeper_funnel_total{instance="a",chain="x",stage="bid"}': "0+0x10 1+0x60",
            'keeper_funnel_total{instance="a",chain="x",stage="submitted"}': "0+0x70",
            DRY.replace('"a"', '"b"'): SEEN,
            'keeper_funnel_total{instance="b",chain="y",stage="bid"}': "0+0x10 1+0x60",
            'keeper_funnel_total{instance="b",chain="y",stage="submitted"}': "0+0x70",
            'keeper_funnel_total{instance="a",chain="z",stage="bid"}': "0+0x10 1+0x60",
            'keeper_funnel_total{instance="a",chain="z",stage="submitted"}': "0+0x11 1+0x60",
        },
        [10, 15, 50],
        17,
        {"chain": "x", "instance": "a"},
        "x has profitable liquidations and sent none of them",
    ),
    Case(
        "KeeperMissedLiquidation",
        {
            'keeper_missed_total{chain="x",protocol="p",reason="late",winner="w"}': "0+0x10 1+0x60",
            'keeper_missed_total{chain="x",protocol="p",reason="dust",winner="w"}': "0+1x70",
            'keeper_missed_total{chain="x",protocol="p",reason="not_running",winner="w"}': "0+1x70",
        },
        [10, 30],
        12,
        {"chain": "x", "protocol": "p", "reason": "late"},
        "Others liquidated on p of x: late",
    ),
    Case(
        "KeeperRevertRateHigh",
        {
            'keeper_transactions_total{chain="x",outcome="included"}': "0+0.05x60",
            'keeper_transactions_total{chain="x",outcome="reverted"}': "0+0.15x60",
            'keeper_transactions_total{chain="few",outcome="included"}': "0+0x60",
            'keeper_transactions_total{chain="few",outcome="reverted"}': "0+0.05x60",
        },
        [10, 30],
        40,
        X,
        "75% of the transactions on x revert",
    ),
    Case(
        "KeeperNonceStuck",
        {
            'keeper_nonces_pending{chain="x",wallet="w"}': "0+0x5 1+0x60",
            'keeper_transactions_total{chain="x",outcome="included"}': "3+0x70",
            'keeper_nonces_pending{chain="busy",wallet="w"}': "1+0x70",
            'keeper_transactions_total{chain="busy",outcome="included"}': "0+1x70",
        },
        [15, 20],
        22,
        {"chain": "x", "wallet": "w"},
        "w on x has had transactions pending for 15 minutes",
    ),
    Case(
        # started 5 hours before its first plan: what that costs counts at once
        "KeeperWalletRunningDry",
        {
            'keeper_wallet_balance_ether{chain="x",wallet="w"}': "0.1+0x340",
            'keeper_plan_cost_ether{chain="x",wallet="w"}': "0+0x300 0.01+0x40",
            'keeper_wallet_balance_ether{chain="rich",wallet="w"}': "0.21+0x340",
            'keeper_plan_cost_ether{chain="rich",wallet="w"}': "0.01+0x340",
        },
        [300, 305],
        307,
        {"chain": "x", "wallet": "w"},
        "w on x can pay for 10 transactions",
    ),
    Case(
        "KeeperWalletLow",
        {'keeper_wallet_low{chain="x",wallet="w"}': "0+0x5 1+0x20"},
        [5, 10],
        11,
        {"chain": "x", "wallet": "w"},
        "w on x is under the level you asked to be told of",
    ),
    Case(
        "KeeperNoEndpoint",
        {
            'keeper_endpoint_up{chain="x",endpoint="e"}': "1+0x5 0+0x20",
            'keeper_endpoint_up{chain="x",endpoint="f"}': "1+0x8 0+0x20",
        },
        [7, 9],
        10,
        X,
        "x has no endpoint left",
    ),
    Case(
        "KeeperEndpointDegraded",
        {
            'keeper_endpoint_up{chain="x",endpoint="e"}': "1+0x5 0+0x20",
            'keeper_endpoint_up{chain="x",endpoint="f"}': "1+0x30",
        },
        [5, 10],
        11,
        {"chain": "x", "endpoint": "e"},
        "e of x is left out",
    ),
    Case(
        "KeeperRpcErrors",
        {
            'keeper_rpc_requests_total{endpoint="e",method="m",result="ok"}': "0+75x60",
            'keeper_rpc_requests_total{endpoint="e",method="m",result="limited"}': "0+25x60",
            'keeper_rpc_requests_total{endpoint="f",method="m",result="ok"}': "0+95x60",
            'keeper_rpc_requests_total{endpoint="f",method="m",result="error"}': "0+5x60",
        },
        [5, 10],
        15,
        {"endpoint": "e"},
        "25% of the requests to e fail",
    ),
    Case(
        "KeeperLoopStalled",
        {
            'keeper_loop_lag_seconds_bucket{instance="a",le="0.1"}': "0+90x60",
            'keeper_loop_lag_seconds_bucket{instance="a",le="0.5"}': "0+100x60",
            'keeper_loop_lag_seconds_bucket{instance="a",le="+Inf"}': "0+100x60",
            'keeper_loop_lag_seconds_bucket{instance="b",le="0.1"}': "0+100x60",
            'keeper_loop_lag_seconds_bucket{instance="b",le="0.5"}': "0+100x60",
            'keeper_loop_lag_seconds_bucket{instance="b",le="+Inf"}': "0+100x60",
        },
        [5, 10],
        15,
        {"instance": "a"},
        "The event loop of a wakes 460ms late",
    ),
    Case(
        "KeeperPluginFault",
        {'keeper_plugin_errors_total{plugin="p"}': "0+0x10 1+0x90"},
        [10, 75],
        12,
        {"plugin": "p"},
        "p raised and is disabled",
    ),
    Case(
        "KeeperReloadFailed",
        {'keeper_strategies_reload_failed{instance="a"}': "0+0x5 1+0x9"},
        [5],
        6,
        {"instance": "a"},
        "a goes on with the strategies it had",
    ),
    Case(
        "KeeperSnapshotOld",
        {
            'keeper_snapshot_timestamp_seconds{chain="x"}': "300+0x120",
            'keeper_snapshot_timestamp_seconds{chain="never"}': "0+0x120",
        },
        [60, 69],
        71,
        X,
        "The book of x was last on disk 1h 6m 0s ago",
    ),
    Case(
        "KeeperBookRebuilt",
        {'keeper_book_rebuilds_total{chain="x"}': "0+0x10 1+0x90"},
        [10, 75],
        12,
        X,
        "The whole book of x had to be loaded anew",
    ),
    Case(
        "KeeperMessagesFail",
        {
            'keeper_notifications_waiting{instance="a",channel="c"}': "0+0x5 2+0x40",
            'keeper_notifications_total{instance="a",channel="c",result="delivered"}': "5+0x50",
            'keeper_notifications_waiting{instance="a",channel="busy"}': "2+0x50",
            'keeper_notifications_total{instance="a",channel="busy",result="delivered"}': "0+1x50",
        },
        [5, 15],
        17,
        {"instance": "a", "channel": "c"},
        "c delivers nothing, and 2 messages wait",
    ),
    Case(
        "KeeperObservationsDropped",
        {
            'keeper_journal_dropped_total{instance="a"}': "0+0x10 7+0x60",
            'keeper_reports_dropped_total{instance="a"}': "0+0x70",
        },
        [10, 30],
        12,
        {"instance": "a"},
        "a drops what it cannot write fast enough",
    ),
)


def document(rules: str, alerts: Collection[str] = ()) -> str:
    """Return the cases, or those of some alerts, as a file of `promtool test rules`."""
    tests = [_test(case) for case in CASES if not alerts or case.alert in alerts]
    return yaml.safe_dump(
        {"rule_files": [rules], "evaluation_interval": "30s", "tests": tests}, sort_keys=False
    )


def _test(case: Case) -> dict[str, Any]:
    (alert,) = (each for each in ALERTS if each.name == case.alert)
    anchor = f"README.md#{alert.name.lower()}"
    firing = {
        "exp_labels": {**case.labels, "severity": alert.severity},
        "exp_annotations": {"summary": case.summary, "runbook_url": anchor},
    }
    moments: list[tuple[int, list[dict[str, Any]]]] = [(minute, []) for minute in case.quiet] + [
        (case.fires, [firing])
    ]
    return {
        "name": case.alert,
        "interval": "1m",
        "input_series": [
            {"series": series, "values": values} for series, values in case.series.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": expected}
            for minute, expected in sorted(moments, key=lambda moment: moment[0])
        ],
    }
