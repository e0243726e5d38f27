"""Print every figure beside what it is compared with, and write `build/bench.json`."""

import json
import sys
from pathlib import Path

from keeper import log
from keeper.devnet import Devnet
from tests.bench import (
    folding,
    gas,
    latency,
    loop_lag,
    million,
    ratios,
    screen,
    snapshots,
    storms,
    ticks,
)

OUT = Path("build") / "bench.json"
TARGETS: dict[str, float] = {
    "gas_per_liquidation_20": 160_000,
    "gas_per_item_all_taken_20": 25_000,
    "head_to_send_ms_p95_20": 60,
    "head_to_send_private_ms_p95_20": 60,
    "rpc_requests_per_quiet_head": 2,
    "storm_rejected_sends": 0,
    "storm_reverted": 0,
    "storm_estimate_error_bps": 1,
    **{
        f"storm_{count}_lanes_{lanes}_{figure}": most
        for count in storms.COUNTS
        for lanes in storms.LANES
        for figure, most in (
            ("blocks", 4 if count == storms.COUNTS[-1] else 2),
            ("rejected", 0),
            ("reverted", 0),
        )
    },
    "screen_full_vs_floor": 2.5,
    "screen_full_vs_floor_100k": 2.5,
    "screen_full_vs_floor_10k": 2.5,
    "tick_hits_ratio": 3,
    "snapshot_load_seconds": 5,
    "bytes_per_borrower": 600,
    "loop_lag_ms_p999": 20,
}
FLOORS: dict[str, float] = {"fold_logs_per_second": 100_000, "fold_vs_process_log": 50}


def main() -> None:
    """Measure everything in one run."""
    log.configure("error", "console")
    with Devnet.start() as net:
        found: dict[str, float] = dict(gas.figures(net))
    with Devnet.start() as net:
        more, lines = latency.figures(net)
    found |= more
    with Devnet.start() as net:
        found |= storms.figures(net)
    found |= ratios.figures()
    found |= screen.figures()
    found |= ticks.figures()
    found |= snapshots.figures()
    found |= folding.figures()
    found |= million.figures()
    found |= loop_lag.figures()
    for name, value in found.items():
        target = TARGETS.get(name)
        note = "" if target is None else f"   target ≤ {target:,}"
        if name in FLOORS:
            note = f"   target ≥ {FLOORS[name]:,}"
        text = f"{value:,.2f}" if value % 1 else f"{value:,.0f}"
        print(f"{name:<46} {text:>14}{note}")
    print(*lines, sep="\n")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
