"""Every metric of the keeper: its name, its labels, and the one method that moves it.

Labels are bounded: chains, protocols, strategies, stages, reasons and endpoint aliases, never a
borrower, a transaction or a URL. All children exist from the start, so a rate sees the first event.
Dry results move `keeper_dry_net_usd_total` alone, never transactions, revenue or cost.
"""

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from eth_utils.address import to_checksum_address
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from keeper.types import (
    AtRisk,
    Backstop,
    Cancelled,
    Dropped,
    Head,
    Included,
    Opportunity,
    Plan,
    Prices,
    Quote,
    Reason,
    Receipt,
    Replaced,
    Reverted,
    Skip,
    Stage,
)
from keeper.units import USD, WAD, Address, Hash, Usd, Wei

NOBODY = "none"
"""The strategy label of a skip made before any strategy was asked."""

SPANS = ("view", "select", "quote", "bid", "plan", "simulate", "send")
METHODS = (
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_feeHistory",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getCode",
    "eth_getLogs",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_sendRawTransaction",
    "eth_simulateV1",
    "eth_subscribe",
)
OTHER = "other"
"""The method label of a request that is none of `METHODS`, the winner of whom nobody knows."""
LATE, UNSEEN = "late", "unseen"
NOT_RUNNING, CATCHING_UP = "not_running", "catching_up"
STOPPED = "stopped"
OVERSIGHTS = (LATE, UNSEEN, NOT_RUNNING, CATCHING_UP, STOPPED)
"""Why a liquidation was missed that nobody here had refused: a rival was first, it was not at risk at
the head before, nobody had decided since the start, nobody on the heads before, or its market was
stopped."""
RESULTS = ("ok", "error", "limited", "timeout", "failed")
HANDED = ("taken", "refused", "unclear")
"""How a relay answered; an unclear one may have taken it."""
OUTCOMES: Mapping[type[Receipt], str] = {
    Included: "included",
    Reverted: "reverted",
    Dropped: "dropped",
    Replaced: "replaced",
    Cancelled: "cancelled",
}
FAULTS = ("invariant", "undecodable", "drift", "upgraded", "reorg", "unloaded")
BREAKERS = (
    *("deviation", "estimate", "gas_day", "gas_hour", "gas_transaction", "kill_file", "loss"),
    *(
        "operator_pause",
        "repay_day",
        "repay_hour",
        "revert_rate",
        "reverts",
        "signer",
        "stale_head",
    ),
)

HEALTH_FALLS = ("0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.3", "0.5", "1")
"""Labels of how far collateral falls against debt; the last one counts every position."""

NOTIFIED = ("delivered", "failed", "given_up")
"""How messages to people fared; what failed is tried again."""

_STAGE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8)
_SEND_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.35, 0.5),
    *(0.75, 1, 1.5, 2, 3, 4, 6, 8, 12),
)
_RPC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FEED_BUCKETS = (0, 1, 3, 6, 12, 24, 36, 60, 120, 300, 600, 1_800, 3_600)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


@dataclass(frozen=True, slots=True)
class ChainLabels:
    """What one chain's labels may be; `wallets` are its operators' addresses as text."""

    block_time: int
    protocols: Sequence[str]
    endpoints: Sequence[str] = ()
    wallets: Sequence[str] = ()
    breakers: Sequence[str] = field(default=BREAKERS)
    relays: Sequence[str] = ()
    rivals: Sequence[str] = ()


class Metrics:
    """Holds the registry of one process and moves its metrics."""

    def __init__(
        self,
        *,
        version: str,
        commit: str,
        mode: str,
        chains: Mapping[str, ChainLabels],
        strategies: Sequence[str],
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        build = gauge("keeper_build_info", "Facts about this process", "version", "commit", "mode")
        build.labels(version, commit, mode).set(1)
        self._number = gauge("keeper_head_number", "Number of the last head", "chain")
        self._timestamp = gauge(
            "keeper_head_timestamp_seconds", "Timestamp of the last head", "chain"
        )
        self._block_time = gauge(
            "keeper_block_time_seconds", "Seconds between two blocks of the chain", "chain"
        )
        self._reorgs = counter("keeper_reorgs_total", "Blocks taken back", "chain")
        self._reconnects = counter("keeper_ws_reconnects_total", "WebSocket reconnects", "chain")
        self._backfilled = counter(
            "keeper_backfilled_blocks_total", "Blocks fetched after a gap", "chain"
        )
        self._positions = gauge("keeper_positions", "Borrowers with debt", "chain", "protocol")
        self._liquidatable = gauge(
            "keeper_positions_liquidatable", "Positions with health below 1", "chain", "protocol"
        )
        self._toxic = gauge(
            "keeper_positions_toxic",
            "Liquidatable positions that a liquidation in part leaves less healthy",
            *("chain", "protocol"),
        )
        self._debt = gauge(
            "keeper_debt_at_risk_usd", "Debt of liquidatable positions", "chain", "protocol"
        )
        self._health_positions = gauge(
            "keeper_health_positions",
            "Positions liquidatable after collateral fell against debt by this share",
            *("chain", "protocol", "fall"),
        )
        self._health_debt = gauge(
            "keeper_health_debt_usd",
            "What they owe; NaN where a market's positions owe in units of their own",
            *("chain", "protocol", "fall"),
        )
        self._backstop = gauge(
            "keeper_backstop_usd",
            "What stands behind a market's lenders, or is missing there, by kind",
            *("chain", "protocol", "market", "kind"),
        )
        self._backstop_tokens = gauge(
            "keeper_backstop_tokens",
            "The same in whole tokens, by the token's address",
            *("chain", "protocol", "market", "kind", "token"),
        )
        self._oracle_age = gauge(
            "keeper_oracle_age_seconds",
            "Seconds since a feed's last round was seen",
            *("chain", "market", "asset"),
        )
        self._oracle_heartbeat = gauge(
            "keeper_oracle_heartbeat_seconds",
            "Seconds after which a feed speaks at the latest, set or learned; NaN while not known",
            *("chain", "market", "asset"),
        )
        self._oracle_band = gauge(
            "keeper_oracle_band_ratio",
            "How far a price goes before its feed speaks: set, learned, or assumed",
            *("chain", "market", "asset"),
        )
        self._oracle_off = gauge(
            "keeper_oracle_deviation_ratio",
            "How far a feed is above the pools; NaN where no pool is deep enough",
            *("chain", "market", "asset"),
        )
        self._oracle_lag = histogram(
            "keeper_oracle_lag_seconds",
            "From the head at which pools left a feed's band to its next round",
            _FEED_BUCKETS,
            *("chain", "market", "asset"),
        )
        self._funnel = counter(
            "keeper_funnel_total",
            "Opportunities that reached a stage of the line",
            *("chain", "protocol", "strategy", "stage"),
        )
        self._skips = counter(
            "keeper_skips_total",
            "Opportunities not taken, counted when their reason changes",
            *("chain", "protocol", "strategy", "reason"),
        )
        self._missed = counter(
            "keeper_missed_total",
            "Liquidations by others: why not ours, and by whom",
            *("chain", "protocol", "reason", "winner"),
        )
        self._stage = histogram(
            "keeper_stage_duration_seconds",
            "Time one stage of a head took",
            _STAGE_BUCKETS,
            *("chain", "stage"),
        )
        self._send = histogram(
            "keeper_head_to_send_seconds",
            "From a head's arrival to its transactions' submission",
            _SEND_BUCKETS,
            "chain",
        )
        self._transactions = counter(
            "keeper_transactions_total", "Transactions by how they ended", "chain", "outcome"
        )
        self._revenue = counter(
            "keeper_revenue_usd_total",
            "Realised gains after flash premiums, before gas and tip",
            *("chain", "protocol", "strategy"),
        )
        self._cost = counter(
            "keeper_cost_usd_total",
            "Money spent on inclusion, reverted transactions included",
            *("chain", "protocol", "strategy", "kind"),
        )
        self._dry_net = counter(
            "keeper_dry_net_usd_total", "Net profit of plans proven but not sent", "chain"
        )
        self._plan_cost = gauge(
            "keeper_plan_cost_ether", "Gas cost of the last plan", "chain", "wallet"
        )
        self._balance = gauge(
            "keeper_wallet_balance_ether", "Native coin of the wallet", "chain", "wallet"
        )
        self._low = gauge(
            "keeper_wallet_low",
            "1 while the wallet is under the level to warn of",
            *("chain", "wallet"),
        )
        self._refilled = counter(
            "keeper_wallet_refilled_ether_total",
            "Native coin profit refilled the wallet by",
            *("chain", "wallet"),
        )
        self._swept = counter(
            "keeper_swept_usd_total", "Profit moved from the contract to the treasury", "chain"
        )
        self._nonces = gauge(
            "keeper_nonces_pending", "Transactions signed and not settled", "chain", "wallet"
        )
        self._rpc_requests = counter(
            "keeper_rpc_requests_total", "JSON-RPC attempts", "endpoint", "method", "result"
        )
        self._rpc_duration = histogram(
            "keeper_rpc_duration_seconds", "Time of an attempt", _RPC_BUCKETS, "endpoint", "method"
        )
        self._relay_handed = counter(
            "keeper_relay_requests_total",
            "Transactions handed to a relay by its answer",
            *("chain", "relay", "result"),
        )
        self._relay_duration = histogram(
            "keeper_relay_duration_seconds",
            "Time a relay's answer took",
            _RPC_BUCKETS,
            *("chain", "relay"),
        )
        self._relay_ended = counter(
            "keeper_relay_transactions_total",
            "Transactions a relay held: included while it alone or others too held them, or in vain",
            *("chain", "relay", "outcome"),
        )
        self._breaker = gauge(
            "keeper_breaker_open", "1 while a breaker stops sending", "chain", "breaker"
        )
        self._checked = counter(
            "keeper_audit_checked_total",
            "Values compared with the chain",
            *("chain", "protocol"),
        )
        self._drift = counter(
            "keeper_audit_drift_total",
            "Values that differed from the chain",
            *("chain", "protocol"),
        )
        self._stopped = gauge(
            "keeper_part_stopped", "1 while a market or venue is not acted on", "chain", "part"
        )
        self._faults = counter(
            "keeper_faults_total", "Times a market or venue was stopped", "chain", "part", "kind"
        )
        self._rebuilds = counter(
            "keeper_rebuilds_total",
            "Attempts to load a stopped market or venue anew",
            *("chain", "part", "result"),
        )
        self._endpoint_lag = gauge(
            "keeper_endpoint_lag_blocks",
            "Blocks an endpoint is behind the highest one believed",
            *("chain", "endpoint"),
        )
        self._endpoint_up = gauge(
            "keeper_endpoint_up", "1 while an endpoint is used", "chain", "endpoint"
        )
        self._plugin_errors = counter("keeper_plugin_errors_total", "Faults of a plug-in", "plugin")
        self._generation = gauge(
            "keeper_strategies_generation", "How often the strategies were loaded"
        )
        self._loaded = gauge(
            "keeper_strategies_loaded_timestamp_seconds", "When the strategies were last loaded"
        )
        self._not_reloaded = gauge(
            "keeper_strategies_reload_failed", "Whether the last reload kept the old strategies"
        )
        self._lag = Histogram(
            "keeper_loop_lag_seconds",
            "How late the event loop woke",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self._lag_max = Gauge(
            "keeper_loop_lag_max_seconds",
            "The latest the event loop woke since the start",
            registry=registry,
        )
        self._pause_max = Gauge(
            "keeper_gc_pause_max_seconds",
            "The longest garbage collection since the start",
            registry=registry,
        )
        self._worst_lag = self._worst_pause = 0.0
        self._journal_drops = Counter(
            "keeper_journal_dropped_total",
            "Observations the journal's full queue refused",
            registry=registry,
        )
        self._snapshot_time = gauge(
            "keeper_snapshot_timestamp_seconds", "When the book was last written to disk", "chain"
        )
        self._snapshot_bytes = gauge(
            "keeper_snapshot_bytes", "Size of the last snapshot of the book", "chain"
        )
        self._snapshot_seconds = gauge(
            "keeper_snapshot_duration_seconds", "Time the last snapshot took to write", "chain"
        )
        self._snapshot_failures = counter(
            "keeper_snapshot_failures_total", "Snapshots that could not be written", "chain"
        )
        self._book_rebuilds = counter(
            "keeper_book_rebuilds_total",
            "Times the whole book was loaded anew because undoing was not enough",
            "chain",
        )
        self._report_drops = counter(
            "keeper_reports_dropped_total", "Reports the observers' full queue refused", "chain"
        )
        self._notices = counter(
            "keeper_notifications_total",
            "Messages by channel and how they fared",
            "channel",
            "result",
        )
        self._unsent = gauge(
            "keeper_notifications_waiting",
            "Messages due that a channel has not delivered",
            "channel",
        )
        self._margin_positions = gauge(
            "keeper_margin_positions",
            "Watched positions with debt by the level told last",
            *("chain", "watch", "level"),
        )
        self._margin_debt = gauge(
            "keeper_margin_debt_usd", "What they owe", *("chain", "watch", "level")
        )
        self._wallets = {name: list(labels.wallets) for name, labels in chains.items()}
        self._chains = dict(chains)
        self._create_children(chains, strategies)

    def _create_children(
        self, chains: Mapping[str, ChainLabels], strategies: Sequence[str]
    ) -> None:
        for strategy in strategies:
            self._plugin_errors.labels(strategy)
        for chain, known in chains.items():
            for metric in (
                *(self._number, self._timestamp, self._reorgs, self._reconnects),
                *(self._backfilled, self._send, self._dry_net, self._report_drops),
                *(self._snapshot_time, self._snapshot_bytes, self._snapshot_seconds),
                *(self._snapshot_failures, self._book_rebuilds, self._swept),
            ):
                metric.labels(chain)
            # what a sweep costs belongs to no protocol and no strategy
            self._cost.labels(chain, NOBODY, NOBODY, "gas")
            self._block_time.labels(chain).set(known.block_time)
            for span in SPANS:
                self._stage.labels(chain, span)
            for outcome in OUTCOMES.values():
                self._transactions.labels(chain, outcome)
            for breaker in known.breakers:
                self._breaker.labels(chain, breaker).set(0)
            for wallet in known.wallets:
                fuels = (self._plan_cost, self._balance, self._low, self._refilled, self._nonces)
                for fuel in fuels:
                    fuel.labels(chain, wallet)
            for relay in known.relays:
                self._relay_duration.labels(chain, relay)
                for result in HANDED:
                    self._relay_handed.labels(chain, relay, result)
                for outcome in ("included", "vain"):
                    self._relay_ended.labels(chain, relay, outcome)
            for endpoint in known.endpoints:
                self._endpoint_lag.labels(chain, endpoint)
                self._endpoint_up.labels(chain, endpoint)
            for endpoint, method in product(known.endpoints, (*METHODS, OTHER)):
                self._rpc_duration.labels(endpoint, method)
                for result in RESULTS:
                    self._rpc_requests.labels(endpoint, method, result)
            for protocol in known.protocols:
                for metric in (
                    *(self._positions, self._liquidatable, self._toxic, self._debt),
                    *(self._checked, self._drift),
                ):
                    metric.labels(chain, protocol)
                for fall in HEALTH_FALLS:
                    self._health_positions.labels(chain, protocol, fall)
                    self._health_debt.labels(chain, protocol, fall)
                for reason in Reason:
                    self._skips.labels(chain, protocol, NOBODY, reason)
                for why, winner in product((*OVERSIGHTS, *Reason), (OTHER, *known.rivals)):
                    self._missed.labels(chain, protocol, why, winner)
                for strategy in strategies:
                    self._create_strategy(chain, protocol, strategy)

    def _create_strategy(self, chain: str, protocol: str, strategy: str) -> None:
        for stage in Stage:
            self._funnel.labels(chain, protocol, strategy, stage)
        for reason in Reason:
            self._skips.labels(chain, protocol, strategy, reason)
        self._revenue.labels(chain, protocol, strategy)
        for kind in ("gas", "tip"):
            self._cost.labels(chain, protocol, strategy, kind)

    def head(self, chain: str, head: Head) -> None:
        """Show the last folded head."""
        self._number.labels(chain).set(head.number)
        self._timestamp.labels(chain).set(head.timestamp)

    def reorg(self, chain: str, depth: int) -> None:
        """Count the blocks a reorg took back."""
        self._reorgs.labels(chain).inc(depth)

    def reconnect(self, chain: str) -> None:
        """Count a socket that had to be opened again."""
        self._reconnects.labels(chain).inc()

    def backfilled(self, chain: str, blocks: int) -> None:
        """Count blocks fetched after a gap."""
        self._backfilled.labels(chain).inc(blocks)

    def positions(self, chain: str, protocol: str, borrowers: int) -> None:
        """Show how many borrowers with debt the ledger of a protocol holds."""
        self._positions.labels(chain, protocol).set(borrowers)

    def at_risk(
        self, chain: str, protocol: str, risks: Iterable[AtRisk], units: Mapping[str, int]
    ) -> None:
        """Show a head's liquidatable positions; `units` is each market's base currency unit."""
        mine = [risk.position for risk in risks if risk.position.protocol == protocol]
        debt = sum(position.debt_value / units[position.home] for position in mine)
        self._liquidatable.labels(chain, protocol).set(len(mine))
        self._toxic.labels(chain, protocol).set(sum(position.toxic for position in mine))
        self._debt.labels(chain, protocol).set(debt)

    def health(
        self,
        chain: str,
        protocol: str,
        positions: Sequence[int],
        debts: Sequence[float] | None,
    ) -> None:
        """Show positions and debts in USD for each of `HEALTH_FALLS`; debts may not be known."""
        shown = [math.nan] * len(positions) if debts is None else debts
        for fall, count, debt in zip(HEALTH_FALLS, positions, shown, strict=True):
            self._health_positions.labels(chain, protocol, fall).set(count)
            self._health_debt.labels(chain, protocol, fall).set(debt)

    def backstops(
        self, chain: str, protocol: str, market: str, held: Iterable[Backstop], prices: Prices
    ) -> None:
        """Show a market's insurance and losses; a kind of which a price was not read has no value."""
        values: dict[str, float] = {}
        for each in held:
            whole, price = each.amount / 10**each.token.decimals, prices.get(each.token.address)
            token = to_checksum_address(each.token.address)
            self._backstop_tokens.labels(chain, protocol, market, each.kind, token).set(whole)
            if each.amount:
                worth = math.nan if price is None else whole * price / prices.unit
            else:
                worth = 0.0
            values[each.kind] = values.get(each.kind, 0.0) + worth
        for kind, value in values.items():
            self._backstop.labels(chain, protocol, market, kind).set(value)

    def oracle(
        self,
        chain: str,
        market: str,
        asset: str,
        age: int,
        heartbeat: int | None,
        band: float,
        off: float | None,
    ) -> None:
        """Show one feed: its round's age, what it promises, and how far above the pools it is."""
        labels = chain, market, asset
        self._oracle_age.labels(*labels).set(age)
        self._oracle_heartbeat.labels(*labels).set(math.nan if heartbeat is None else heartbeat)
        self._oracle_band.labels(*labels).set(band)
        self._oracle_off.labels(*labels).set(math.nan if off is None else off)
        self._oracle_lag.labels(*labels)

    def oracle_lag(self, chain: str, market: str, asset: str, seconds: int) -> None:
        """Record how long a feed followed behind the pools."""
        self._oracle_lag.labels(chain, market, asset).observe(seconds)

    def reached(self, chain: str, stage: Stage, opportunities: Iterable[Opportunity]) -> None:
        """Count opportunities that reached a stage."""
        tally = Tally((each.position.protocol, each.strategy) for each in opportunities)
        for (protocol, strategy), count in tally.items():
            self._funnel.labels(chain, protocol, strategy, stage).inc(count)

    def missed(self, chain: str, protocol: str, reason: str, winner: str) -> None:
        """Count a liquidation that somebody else had."""
        self._missed.labels(chain, protocol, reason, winner).inc()

    def skipped(self, chain: str, skips: Iterable[Skip]) -> None:
        """Count skips whose reason changed."""
        tally = Tally((each.protocol, each.strategy or NOBODY, each.reason) for each in skips)
        for (protocol, strategy, reason), count in tally.items():
            self._skips.labels(chain, protocol, strategy, reason).inc(count)

    def stages(self, chain: str, seconds: Mapping[str, float]) -> None:
        """Record how long each stage of a head took."""
        for stage, duration in seconds.items():
            self._stage.labels(chain, stage).observe(duration)

    def head_to_send(self, chain: str, seconds: float, tx_hash: Hash | None = None) -> None:
        """Record the time that wins races, with the transaction as exemplar."""
        exemplar = None if tx_hash is None else {"tx": "0x" + tx_hash.hex()}
        self._send.labels(chain).observe(seconds, exemplar)

    def planned(self, chain: str, plan: Plan) -> None:
        """Show what the last plan's gas costs."""
        wallet = self._wallet_of(chain, plan.sender)
        if wallet is not None:
            self._plan_cost.labels(chain, wallet).set(plan.gas_cost / WAD)

    def _wallet_of(self, chain: str, sender: Address) -> str | None:
        """Return the label of a sender, the first wallet's when it is not known."""
        known = self._wallets[chain]
        label = to_checksum_address(sender) if sender else ""
        return label if label in known else next(iter(known), None)

    def dry(self, chain: str, plan: Plan) -> None:
        """Count what a plan would have earned."""
        self._dry_net.labels(chain).inc(max(plan.net_usd, 0) / USD)

    def receipt(
        self,
        chain: str,
        receipt: Receipt,
        quotes: Sequence[Quote] = (),
        sender: Address = Address(b""),
    ) -> None:
        """Count how a transaction ended and book its money on the plan's protocols and strategies.

        The money of a transaction is shared among its quotes in proportion to their gross profit.
        """
        self._transactions.labels(chain, OUTCOMES[type(receipt)]).inc()
        match receipt:
            case Included():
                done = {item.key for item in receipt.items if item.ok}
                won = [quote for quote in quotes if quote.key in done] or quotes
                for (protocol, strategy), share in _shares(won).items():
                    labels = (chain, protocol, strategy)
                    self._revenue.labels(*labels).inc(share * max(receipt.revenue_usd, 0) / USD)
                    self._cost.labels(*labels, "gas").inc(share * receipt.gas_cost_usd / USD)
                    self._cost.labels(*labels, "tip").inc(share * receipt.tip_usd / USD)
                if receipt.refill and (wallet := self._wallet_of(chain, sender)) is not None:
                    self._refilled.labels(chain, wallet).inc(receipt.refill / WAD)
            case Reverted():
                for (protocol, strategy), share in _shares(quotes).items():
                    cost = self._cost.labels(chain, protocol, strategy, "gas")
                    cost.inc(share * receipt.gas_cost_usd / USD)
            case Cancelled():
                for (protocol, strategy), share in _shares(quotes).items():
                    cost = self._cost.labels(chain, protocol, strategy, "gas")
                    cost.inc(share * receipt.gas_cost_usd / USD)
            case Dropped() | Replaced():
                pass

    def swept(self, chain: str, receipt: Receipt, value: Usd) -> None:
        """Count how a sweep ended, what it moved, and its gas; it is no revenue and no loss."""
        self._transactions.labels(chain, OUTCOMES[type(receipt)]).inc()
        gas = self._cost.labels(chain, NOBODY, NOBODY, "gas")
        match receipt:
            case Included():
                gas.inc(receipt.gas_cost_usd / USD)
                if receipt.gains:
                    self._swept.labels(chain).inc(value / USD)
            case Reverted() | Cancelled():
                gas.inc(receipt.gas_cost_usd / USD)
            case Dropped() | Replaced():
                pass

    def wallet(self, chain: str, wallet: str, balance: Wei, pending: int, *, is_low: bool) -> None:
        """Show a wallet's fuel, its unsettled transactions, and whether it is under its warning."""
        self._balance.labels(chain, wallet).set(balance / WAD)
        self._nonces.labels(chain, wallet).set(pending)
        self._low.labels(chain, wallet).set(int(is_low))

    def rpc(self, endpoint: str, method: str, result: str, seconds: float) -> None:
        """Record one attempt; an endpoint's `Observe`."""
        known = method if method in METHODS else OTHER
        self._rpc_requests.labels(endpoint, known, result).inc()
        self._rpc_duration.labels(endpoint, known).observe(seconds)

    def relay_handed(self, chain: str, relay: str, result: str, seconds: float) -> None:
        """Count a transaction handed to a relay, and how long its answer took."""
        self._relay_handed.labels(chain, relay, result).inc()
        self._relay_duration.labels(chain, relay).observe(seconds)

    def relay_ended(self, chain: str, relay: str, outcome: str) -> None:
        """Count what came of a transaction a relay held: included, shared or vain."""
        self._relay_ended.labels(chain, relay, outcome).inc()

    def breaker(self, chain: str, breaker: str, *, is_open: bool) -> None:
        """Show whether a breaker stops sending."""
        self._breaker.labels(chain, breaker).set(int(is_open))

    def audited(self, chain: str, protocol: str, checked: int, drifts: int) -> None:
        """Count an audit's comparisons and differences."""
        self._checked.labels(chain, protocol).inc(checked)
        self._drift.labels(chain, protocol).inc(drifts)

    def parts(
        self, chain: str, protocols: Mapping[str, str], *, stopped: Callable[[], Iterable[str]]
    ) -> None:
        """Follow the parts of a chain's book, each with the protocol its audits are counted under.

        `stopped` is asked at every scrape which of them are not acted on.
        """
        for part, protocol in protocols.items():
            self._checked.labels(chain, protocol)
            self._drift.labels(chain, protocol)
            self._stopped.labels(chain, part).set_function(partial(_is_among, stopped, part))
            for kind in FAULTS:
                self._faults.labels(chain, part, kind)
            for result in ("ok", "failed"):
                self._rebuilds.labels(chain, part, result)

    def fault(self, chain: str, part: str, kind: str) -> None:
        """Count a part that was stopped."""
        self._faults.labels(chain, part, kind).inc()

    def rebuild(self, chain: str, part: str, *, ok: bool) -> None:
        """Count an attempt to load a stopped part anew."""
        self._rebuilds.labels(chain, part, "ok" if ok else "failed").inc()

    def endpoints(
        self, chain: str, aliases: Iterable[str], standing: Callable[[str], tuple[bool, int | None]]
    ) -> None:
        """Follow endpoints; `standing` is asked at every scrape: used or not, blocks behind."""
        for alias in aliases:
            self._endpoint_lag.labels(chain, alias).set_function(partial(_lag, standing, alias))
            self._endpoint_up.labels(chain, alias).set_function(partial(_is_up, standing, alias))

    def plugin_error(self, plugin: str) -> None:
        """Count a plug-in's fault."""
        self._plugin_errors.labels(plugin).inc()

    def strategies(
        self, names: Iterable[str], generation: int, loaded: float, *, failed: bool
    ) -> None:
        """Show which load of the strategies is in use, and whether a later one failed."""
        self._generation.set(generation)
        self._loaded.set(loaded)
        self._not_reloaded.set(failed)
        for name in names:
            self._plugin_errors.labels(name)
            for chain, known in self._chains.items():
                for protocol in known.protocols:
                    self._create_strategy(chain, protocol, name)

    def loop_lag(self, seconds: float) -> None:
        """Record how late the event loop woke."""
        self._lag.observe(seconds)
        if seconds > self._worst_lag:
            self._worst_lag = seconds
            self._lag_max.set(seconds)

    def gc_pause(self, seconds: float) -> None:
        """Record how long a garbage collection stopped everything."""
        if seconds > self._worst_pause:
            self._worst_pause = seconds
            self._pause_max.set(seconds)

    def journal_dropped(self, count: int) -> None:
        """Count observations the journal refused."""
        self._journal_drops.inc(count)

    def snapshot(self, chain: str, time: float, size: int, seconds: float) -> None:
        """Show when a book was last written to disk, how large it is and how long it took."""
        self._snapshot_time.labels(chain).set(time)
        self._snapshot_bytes.labels(chain).set(size)
        self._snapshot_seconds.labels(chain).set(seconds)

    def snapshot_failed(self, chain: str) -> None:
        """Count a snapshot that could not be written."""
        self._snapshot_failures.labels(chain).inc()

    def book_rebuilt(self, chain: str) -> None:
        """Count a book that had to be loaded anew."""
        self._book_rebuilds.labels(chain).inc()

    def channels(self, names: Iterable[str], waiting: Callable[[str], int]) -> None:
        """Follow channels of messages; `waiting` is asked at every scrape what one still has to do."""
        for name in names:
            self._unsent.labels(name).set_function(partial(waiting, name))
            for result in NOTIFIED:
                self._notices.labels(name, result)

    def notified(self, channel: str, result: str, count: int) -> None:
        """Count messages that were delivered, not delivered, or given up."""
        self._notices.labels(channel, result).inc(count)

    def margin(self, chain: str, watch: str, level: str, positions: int, debt_usd: float) -> None:
        """Show how many positions of a watch stand at a level, and what they owe."""
        self._margin_positions.labels(chain, watch, level).set(positions)
        self._margin_debt.labels(chain, watch, level).set(debt_usd)

    def reports_dropped(self, chain: str, count: int) -> None:
        """Count reports no observer saw."""
        self._report_drops.labels(chain).inc(count)


def _is_among(stopped: Callable[[], Iterable[str]], part: str) -> float:
    return float(part in set(stopped()))


def _is_up(standing: Callable[[str], tuple[bool, int | None]], alias: str) -> float:
    return float(standing(alias)[0])


def _lag(standing: Callable[[str], tuple[bool, int | None]], alias: str) -> float:
    blocks = standing(alias)[1]
    return math.nan if blocks is None else blocks


def _shares(quotes: Sequence[Quote]) -> dict[tuple[str, str], float]:
    """Return each (protocol, strategy)'s share of a plan's gross profit; the shares sum to one."""
    gross: dict[tuple[str, str], int] = {}
    for quote in quotes:
        key = quote.opportunity.position.protocol, quote.opportunity.strategy
        gross[key] = gross.get(key, 0) + max(quote.gross_usd, 1)
    total = sum(gross.values())
    return {key: value / total for key, value in gross.items()}
