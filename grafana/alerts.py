"""Recording and alert rules. Each alert has its heading in README.md, each figure is in limits.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana import limits

MINUTE = 60
CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True, slots=True)
class Record:
    """A query that is computed ahead, named level:metric:operation."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that has to hold for some seconds before somebody is called."""

    name: str
    severity: str
    seconds: int
    expr: str
    summary: str


HEAD_AGE = "chain:keeper_head_age:ratio"
INCLUSION = "chain:keeper_inclusion:ratio_rate1h"
TRANSACTIONS = "chain:keeper_transactions:rate1h"
NET_PROFIT = "chain:keeper_net_profit_usd:increase1d"

RECORDS: Sequence[Record] = (
    Record(
        HEAD_AGE,
        "(time() - max by (chain) (keeper_head_timestamp_seconds > 0))"
        f" / ({limits.HEAD_GRACE_BLOCKS} * max by (chain) (keeper_block_time_seconds)"
        f" + {limits.HEAD_GRACE_SECONDS})",
    ),
    Record(TRANSACTIONS, "sum by (chain) (rate(keeper_transactions_total[1h]))"),
    Record(
        INCLUSION,
        'sum by (chain) (rate(keeper_transactions_total{outcome="included"}[1h]))'
        " / (sum by (chain) (rate(keeper_transactions_total[1h])) > 0)",
    ),
    Record(
        NET_PROFIT,
        "sum by (chain) (increase(keeper_revenue_usd_total[1d]))"
        " - sum by (chain) (increase(keeper_cost_usd_total[1d]))",
    ),
)

_BY_HAND = "operator_pause|kill_file"
_BREAKERS_BY_HAND = f'keeper_breaker_open{{breaker=~"{_BY_HAND}"}}'
_NOT_LIVE = 'keeper_build_info{mode!="live"}'
_NOT_OURS = "unprofitable|dust|denied|not_running"
"""Why a liquidation by others is no loss: we would not have taken it, or KeeperDown called before."""
_SEEN = "max by (job, instance) (max_over_time(keeper_build_info[{}]))"


def _kept(gauge: str) -> str:
    """Return a gauge through failed scrapes: one of them would start the clock of a long alert anew."""
    return f"last_over_time({gauge}[5m])"


ALERTS: Sequence[Alert] = (
    Alert(
        "KeeperDown",
        CRITICAL,
        0,
        "absent_over_time(keeper_build_info[5m])",
        "No keeper is scraped",
    ),
    Alert(
        "KeeperInstanceDown",
        CRITICAL,
        0,
        f"({_SEEN.format('1h')} unless {_SEEN.format('5m')}) and on () keeper_build_info",
        "{{ $labels.instance }} is not scraped any more, others are",
    ),
    Alert(
        "KeeperHeadStale",
        CRITICAL,
        MINUTE,
        f"{HEAD_AGE} > {limits.HEAD_LATE:g}",
        "{{ $labels.chain }} has no fresh block: {{ $value | humanizePercentage }} of the age allowed",
    ),
    Alert(
        "KeeperNotStarted",
        WARNING,
        30 * MINUTE,
        f"max by (chain) ({_kept('keeper_head_timestamp_seconds')}) == 0",
        "{{ $labels.chain }} is loaded for half an hour and has no head yet",
    ),
    Alert(
        "KeeperBreakerOpen",
        CRITICAL,
        0,
        f'max by (chain, breaker) (keeper_breaker_open{{breaker!~"{_BY_HAND}"}}) >= {limits.SET}',
        "{{ $labels.breaker }} stops sending on {{ $labels.chain }}",
    ),
    Alert(
        "KeeperPaused",
        WARNING,
        30 * MINUTE,
        f"max by (chain, breaker) ({_kept(_BREAKERS_BY_HAND)}) >= {limits.SET}",
        "{{ $labels.chain }} is paused by hand for half an hour ({{ $labels.breaker }})",
    ),
    Alert(
        "KeeperMarketStopped",
        CRITICAL,
        10 * MINUTE,
        f"max by (chain, part) ({_kept('keeper_part_stopped')}) >= {limits.SET}",
        "{{ $labels.part }} on {{ $labels.chain }} is not acted on",
    ),
    Alert(
        "KeeperFeedStale",
        WARNING,
        5 * MINUTE,
        f"max by (chain, market, asset) ({_kept('keeper_oracle_age_seconds')}"
        f" / ({_kept('keeper_oracle_heartbeat_seconds')} > 0)) > {limits.FEED_BEATS}",
        "The feed of {{ $labels.asset }} for {{ $labels.market }} on {{ $labels.chain }} is silent",
    ),
    Alert(
        "KeeperStateDrift",
        WARNING,
        0,
        f"sum by (chain, protocol) (increase(keeper_audit_drift_total[30m])) >= {limits.ONCE}",
        "The book of {{ $labels.protocol }} on {{ $labels.chain }} differed from the chain",
    ),
    Alert(
        "KeeperNothingSent",
        WARNING,
        5 * MINUTE,
        'sum by (chain, instance) (increase(keeper_funnel_total{stage="bid"}[30m])) > 0'
        ' unless sum by (chain, instance) (increase(keeper_funnel_total{stage="submitted"}[30m])) > 0'
        f" unless on (instance) {_kept(_NOT_LIVE)}",
        "{{ $labels.chain }} has profitable liquidations and sent none of them",
    ),
    Alert(
        "KeeperMissedLiquidation",
        WARNING,
        0,
        "sum by (chain, protocol, reason) (increase("
        f'keeper_missed_total{{reason!~"{_NOT_OURS}"}}[15m])) >= {limits.ONCE}',
        "Others liquidated on {{ $labels.protocol }} of {{ $labels.chain }}: {{ $labels.reason }}",
    ),
    Alert(
        "KeeperRevertRateHigh",
        WARNING,
        10 * MINUTE,
        'sum by (chain) (increase(keeper_transactions_total{outcome="reverted"}[1h]))'
        ' / sum by (chain) (increase(keeper_transactions_total{outcome=~"included|reverted"}[1h]))'
        f" > {limits.REVERTED_SHARE}"
        " and sum by (chain) (increase(keeper_transactions_total[1h]))"
        f" > {limits.REVERTED_LEAST}",
        "{{ $value | humanizePercentage }} of the transactions on {{ $labels.chain }} revert",
    ),
    Alert(
        "KeeperNonceStuck",
        WARNING,
        0,
        "min by (chain, wallet) (min_over_time(keeper_nonces_pending[15m])) > 0"
        " unless on (chain) sum by (chain) (increase(keeper_transactions_total[15m])) > 0",
        "{{ $labels.wallet }} on {{ $labels.chain }} has had transactions pending for 15 minutes",
    ),
    Alert(
        "KeeperWalletRunningDry",
        WARNING,
        5 * MINUTE,
        f"max by (chain, wallet) ({_kept('keeper_wallet_balance_ether')})"
        " / on (chain) group_left () clamp_min("
        "max by (chain) (max_over_time(keeper_plan_cost_ether[6h])), 1e-9)"
        f" < {limits.GAS_TRANSACTIONS}",
        "{{ $labels.wallet }} on {{ $labels.chain }} can pay for {{ $value | humanize }} transactions",
    ),
    Alert(
        "KeeperWalletLow",
        WARNING,
        5 * MINUTE,
        f"max by (chain, wallet) ({_kept('keeper_wallet_low')}) >= {limits.SET}",
        "{{ $labels.wallet }} on {{ $labels.chain }} is under the level you asked to be told of",
    ),
    Alert(
        "KeeperNoEndpoint",
        CRITICAL,
        MINUTE,
        f"max by (chain) (keeper_endpoint_up) < {limits.USED}",
        "{{ $labels.chain }} has no endpoint left",
    ),
    Alert(
        "KeeperEndpointDegraded",
        WARNING,
        5 * MINUTE,
        f"max by (chain, endpoint) ({_kept('keeper_endpoint_up')}) < {limits.USED}",
        "{{ $labels.endpoint }} of {{ $labels.chain }} is left out",
    ),
    Alert(
        "KeeperRpcErrors",
        WARNING,
        10 * MINUTE,
        'sum by (endpoint) (rate(keeper_rpc_requests_total{result!="ok"}[5m]))'
        f" / sum by (endpoint) (rate(keeper_rpc_requests_total[5m])) > {limits.RPC_ERROR_SHARE}",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.endpoint }} fail",
    ),
    Alert(
        "KeeperLoopStalled",
        WARNING,
        10 * MINUTE,
        "histogram_quantile(0.99, sum by (instance, le) (rate(keeper_loop_lag_seconds_bucket[5m])))"
        f" > {limits.LOOP_LAG_SECONDS}",
        "The event loop of {{ $labels.instance }} wakes {{ $value | humanizeDuration }} late",
    ),
    Alert(
        "KeeperPluginFault",
        WARNING,
        0,
        f"sum by (plugin) (increase(keeper_plugin_errors_total[1h])) >= {limits.ONCE}",
        "{{ $labels.plugin }} raised and is disabled",
    ),
    Alert(
        "KeeperReloadFailed",
        WARNING,
        0,
        f"max by (instance) (keeper_strategies_reload_failed) >= {limits.SET}",
        "{{ $labels.instance }} goes on with the strategies it had",
    ),
    Alert(
        "KeeperSnapshotOld",
        WARNING,
        5 * MINUTE,
        f"time() - max by (chain) ({_kept('keeper_snapshot_timestamp_seconds')} > 0)"
        f" > {limits.SNAPSHOT_AGE_SECONDS}",
        "The book of {{ $labels.chain }} was last on disk {{ $value | humanizeDuration }} ago",
    ),
    Alert(
        "KeeperBookRebuilt",
        WARNING,
        0,
        f"sum by (chain) (increase(keeper_book_rebuilds_total[1h])) >= {limits.ONCE}",
        "The whole book of {{ $labels.chain }} had to be loaded anew",
    ),
    Alert(
        "KeeperMessagesFail",
        WARNING,
        10 * MINUTE,
        f"max by (instance, channel) ({_kept('keeper_notifications_waiting')}) > 0"
        " unless on (instance, channel) sum by (instance, channel) ("
        'increase(keeper_notifications_total{result="delivered"}[15m])) > 0',
        "{{ $labels.channel }} delivers nothing, and {{ $value }} messages wait",
    ),
    Alert(
        "KeeperObservationsDropped",
        WARNING,
        0,
        f"sum by (instance) (increase(keeper_journal_dropped_total[15m])) >= {limits.ONCE}"
        f" or sum by (instance) (increase(keeper_reports_dropped_total[15m])) >= {limits.ONCE}",
        "{{ $labels.instance }} drops what it cannot write fast enough",
    ),
)
