"""Whether the book is to be believed."""

from grafana import limits
from grafana.panel import CHAIN, JOB, Query, above, figure, total

TRUST = (
    figure(
        "Stopped",
        "short",
        "Markets and venues not acted on now; the others are. /status and the log line market.stopped "
        "or venue.stopped say why. It is loaded anew by itself; one with unknown rules stays stopped.",
        [Query(f"max by (chain, part) (keeper_part_stopped{{{CHAIN}}})", "{{chain}} {{part}}")],
        steps=above(limits.SET),
        alert="KeeperMarketStopped",
    ),
    figure(
        "Faults and rebuilds",
        "short",
        "What stopped a market or venue, by kind, and attempts to load it anew. Failed attempts that "
        "go on: the log line market.rebuild_failed says why.",
        [
            Query(total("keeper_faults_total", "part, kind"), "{{part}} {{kind}}"),
            Query(total("keeper_rebuilds_total", "part, result"), "{{part}} rebuild {{result}}"),
        ],
        steps=(("text", None),),
    ),
    figure(
        "Drift",
        "short",
        "Values in the book that differed from the chain. Not zero: that market stopped; report it.",
        [Query(total("keeper_audit_drift_total", "chain, protocol"), "{{chain}} {{protocol}}")],
        steps=above(limits.ONCE),
        alert="KeeperStateDrift",
    ),
    figure(
        "Audited",
        "short",
        "Values compared with the chain. Zero for an hour: audits do not run.",
        [Query(total("keeper_audit_checked_total", "chain, protocol"), "{{chain}} {{protocol}}")],
    ),
    figure(
        "Snapshot age",
        "s",
        "Time since the book was last written to disk, every journal.snapshot_minutes. Older: the log "
        "line snapshot.failed or snapshot.left_out says why; a restart then takes longer.",
        [
            Query(
                f"time() - max by (chain) (keeper_snapshot_timestamp_seconds{{{CHAIN}}} > 0)",
                "{{chain}}",
            )
        ],
        steps=above(limits.SNAPSHOT_AGE_SECONDS),
        alert="KeeperSnapshotOld",
    ),
    figure(
        "Snapshot size",
        "bytes",
        "What the last snapshot of the book takes in the journal. Up to three are kept.",
        [Query(f"max by (chain) (keeper_snapshot_bytes{{{CHAIN}}})", "{{chain}}")],
    ),
    figure(
        "Snapshot time",
        "s",
        "How long the last snapshot took to write, beside everything else. Minutes: the disk is slow.",
        [Query(f"max by (chain) (keeper_snapshot_duration_seconds{{{CHAIN}}})", "{{chain}}")],
    ),
    figure(
        "Snapshots failed, books rebuilt",
        "short",
        "Snapshots that could not be written: look at the disk. Books loaded anew because a reorg was "
        "deeper than can be undone: the log line book.rebuilt says from what.",
        [
            Query(total("keeper_snapshot_failures_total", "chain"), "{{chain}} failed"),
            Query(total("keeper_book_rebuilds_total", "chain"), "{{chain}} rebuilt"),
        ],
        steps=above(limits.ONCE),
        alert="KeeperBookRebuilt",
    ),
    figure(
        "Plug-in faults",
        "short",
        "Exceptions of strategies. The faulty one is disabled until a restart or a reload.",
        [Query(total("keeper_plugin_errors_total", "plugin", JOB), "{{plugin}}")],
        steps=above(limits.ONCE),
        alert="KeeperPluginFault",
    ),
    figure(
        "Strategies loaded",
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
        steps=(("green", None),),
    ),
    figure(
        "Observations dropped",
        "short",
        "What journal and observers were too slow for; money is never among it. Not zero: the disk "
        "or the CPU is short.",
        [
            Query(f"sum(increase(keeper_journal_dropped_total{{{JOB}}}[$__range]))", "journal"),
            Query(f"sum(increase(keeper_reports_dropped_total{{{CHAIN}}}[$__range]))", "reports"),
        ],
        steps=above(limits.ONCE),
        alert="KeeperObservationsDropped",
    ),
)
