"""Print every figure beside what it is compared with, and merge it into `build/bench.json`.

Each section's figures appear as soon as they are measured; names choose sections: make bench ARGS="folding screen"
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from keeper import log
from keeper.devnet import Devnet
from tests.bench import (
    aave_early,
    by_protocol,
    compound,
    economics,
    exactness,
    folding,
    gas,
    latency,
    liquity,
    loop_lag,
    maker,
    margin,
    million,
    morpho,
    protocols,
    ratios,
    screen,
    sizing_on_chain,
    sizing_time,
    snapshots,
    storms,
    stress,
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
    "economics_losing_plans": 0,
    "uniswap_v3_quotes_different": 0,
    "margin_message_ms_p95": 200,
    "margin_head_to_send_ratio": 1.05,
    "sizing_us_p50": 1_000,
    "sizing_on_chain_runs_not_as_modelled": 0,
    "sizing_on_chain_short": 0,
    "stress_grid_seconds_100k": 10,
    "protocols_missed": 0,
    "protocols_rejected": 0,
    "protocols_reverted": 0,
    "protocols_profit_not_held": 0,
    "protocols_estimate_error_bps": 1,
}
FLOORS: dict[str, float] = {
    "fold_logs_per_second": 100_000,
    "fold_vs_process_log": 50,
    "share_of_optimum": 0.99,
    "gain_over_first_pool": 0,
    "gain_over_best_pool": 0,
    "gain_over_one_by_one": 0,
}


def on_chain(measure: Callable[[Devnet], Mapping[str, float]]) -> Mapping[str, float]:
    """Measure on a chain of its own."""
    with Devnet.start() as net:
        return measure(net)


def latencies(net: Devnet) -> Mapping[str, float]:
    """Measure latencies, and print where their time goes."""
    found, lines = latency.figures(net)
    print(*lines, sep="\n")
    return found


SECTIONS: dict[str, Callable[[], Mapping[str, float]]] = {
    "gas": lambda: on_chain(gas.figures),
    "latency": lambda: on_chain(latencies),
    "storms": lambda: on_chain(storms.figures),
    "ratios": ratios.figures,
    "screen": screen.figures,
    "ticks": ticks.figures,
    "snapshots": snapshots.figures,
    "folding": folding.figures,
    "million": million.figures,
    "loop_lag": loop_lag.figures,
    "stress": stress.figures,
    "economics": lambda: on_chain(lambda net: economics.figures(net, economics.MARKETS)),
    "exactness": lambda: on_chain(exactness.figures),
    "sizing": lambda: on_chain(sizing_time.figures),
    "sizing_on_chain": lambda: on_chain(sizing_on_chain.figures),
    "margin": lambda: on_chain(margin.figures),
    "aave_early": lambda: on_chain(aave_early.figures),
    "morpho": lambda: on_chain(morpho.figures),
    "liquity": lambda: on_chain(liquity.figures),
    "compound": lambda: on_chain(compound.figures),
    "maker": lambda: on_chain(maker.figures),
    "protocols": protocols.figures,
}


def machine() -> str:
    """Return what figures of other machines are compared by."""
    found = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(": ")[2] for line in found if line.startswith("model name")]
    rounds = 1_000_000
    took = []
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(rounds):
            pass
        took.append(time.perf_counter_ns() - start)
    return (
        f"{os.cpu_count()} x {models[0] if models else 'unknown CPU'}, "
        f"{min(took) / rounds:.1f} ns per empty loop iteration, load average {os.getloadavg()[0]:.2f}"
    )


def line(name: str, value: float) -> str:
    """Return a figure beside its target, and whether it missed it."""
    target, floor = TARGETS.get(name), FLOORS.get(name)
    note = ""
    if target is not None:
        note = f"   target ≤ {target:,}" + ("   MISSED" if value > target else "")
    if floor is not None:
        note = f"   target ≥ {floor:,}" + ("   MISSED" if value < floor else "")
    digits = 4 if -10 < value < 10 else 2
    text = f"{value:,.{digits}f}" if value % 1 else f"{value:,.0f}"
    return f"{name:<46} {text:>14}{note}"


def main() -> None:
    """Measure the sections asked for, all of them when none is."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument(
        "--markets", type=int, default=economics.MARKETS, help="that economics judges"
    )
    parser.add_argument(
        "--cases", type=int, default=sizing_on_chain.CASES, help="that sizing_on_chain judges"
    )
    given = parser.parse_args()
    asked = given.sections
    SECTIONS["economics"] = lambda: on_chain(lambda net: economics.figures(net, given.markets))
    SECTIONS["sizing_on_chain"] = lambda: on_chain(
        lambda net: sizing_on_chain.figures(net, given.cases)
    )
    if unknown := sorted(set(asked) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    log.configure("error", "console")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(machine())
    # A whole run begins a new file, so that no figure outlives its name.
    every: dict[str, float] = {}
    if asked and OUT.exists():
        every |= json.loads(OUT.read_text(encoding="utf-8"))
    OUT.parent.mkdir(exist_ok=True)
    for section in asked or SECTIONS:
        print(f"\n--- {section}")
        start = time.monotonic()
        found = SECTIONS[section]()
        for name, value in found.items():
            print(line(name, value))
        every |= found
        OUT.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
        seconds, load = time.monotonic() - start, os.getloadavg()[0]
        print(f"{section}: {seconds:.1f} s, load average {load:.2f}")
    if lines := by_protocol.table(every):
        print("\n--- by protocol", *lines, sep="\n")
    print(f"written to {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main()
