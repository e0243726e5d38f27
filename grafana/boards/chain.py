"""The node it asks, and the process itself."""

from grafana import limits
from grafana.panel import BARS, CHAIN, JOB, Panel, Query, above, below, quantile, total

NODE = (
    Panel(
        "RPC error ratio",
        "timeseries",
        "percentunit",
        "Attempts that failed, by endpoint. Above the line: change the endpoint or add one.",
        [
            Query(
                f'sum by (endpoint) (rate(keeper_rpc_requests_total{{{JOB},result!="ok"}}'
                "[$__rate_interval])) / sum by (endpoint) "
                f"(rate(keeper_rpc_requests_total{{{JOB}}}[$__rate_interval]))",
                "{{endpoint}}",
            )
        ],
        steps=above(limits.RPC_ERROR_SHARE),
        alert="KeeperRpcErrors",
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
        steps=below(limits.USED),
        alert="KeeperEndpointDegraded",
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
