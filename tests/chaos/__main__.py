"""Play seeded scenarios on several chains at once: python -m tests.chaos --n 1000 --seed 7.

The last line says how many were played, what was injected and how much drift was found. A scenario
that fails prints the one command that plays it again.
"""

import argparse
import asyncio
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Lock, Thread

import structlog

from keeper.devnet import Devnet
from keeper.errors import ConfigError
from tests.chaos.killed import run_killed
from tests.chaos.plan import make_plan
from tests.chaos.scenario import Outcome, play
from tests.chaos.world import World
from tests.forked import prepare

SCENARIOS_PER_NODE = 100
"""Then a fresh node: one that was set back very often grows slow."""
PROGRESS_SECONDS = 15.0


class Sum:
    """What all scenarios came to so far."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._lock = Lock()
        self._started = self._said = time.monotonic()
        self.played = 0
        self.failed = 0
        self.problems = 0
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.deepest = 0

    def take(self, outcome: Outcome) -> None:
        """Add one outcome; tell of a failure at once and of progress now and then."""
        with self._lock:
            self.played += 1
            self.faults.update(outcome.faults)
            self.counts.update(outcome.counts)
            self.deepest = max(self.deepest, outcome.deepest)
            self.problems += len(outcome.problems)
            if outcome.problems:
                self.failed += 1
                tell_failure(outcome)
            now = time.monotonic()
            if now - self._said >= PROGRESS_SECONDS or self.played == self._wanted:
                self._said = now
                seconds = now - self._started
                print(
                    f"{self.played} of {self._wanted} scenarios, {self.failed} failed, "
                    f"{seconds:.0f} s, {seconds / self.played:.2f} s each",
                    flush=True,
                )

    def tell(self) -> None:
        """Print what was injected by kind, and the last line."""
        print(", ".join(f"{what} {number}" for what, number in sorted(self.counts.items())))
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()) if n)
        print(
            f"{self.played} scenarios, {self.faults.total()} faults injected "
            f"({kinds}; deepest reorg {self.deepest}), drift found: {self.problems}",
            flush=True,
        )


def tell_failure(outcome: Outcome) -> None:
    """Print a failed scenario: what was planned, what was found, and how to play it again."""
    print(f"\nFAILED {make_plan(outcome.seed)}")
    for problem in outcome.problems[:8]:
        print(f"  {problem}")
    print(outcome.trace, end="")
    print(f"again: make chaos SEED={outcome.seed} N=1\n", flush=True)


def work(seeds: list[int]) -> None:
    """Play scenarios and write each outcome to the standard output, length first."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    prepare()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with tempfile.TemporaryDirectory(prefix="keeper-chaos-") as home:
        for start in range(0, len(seeds), SCENARIOS_PER_NODE):
            with Devnet.start() as net:
                world = World(net)
                for seed in seeds[start : start + SCENARIOS_PER_NODE]:
                    folder = Path(home) / str(seed)
                    outcome = asyncio.run(play(world, make_plan(seed), folder, run_killed))
                    pickle.dump(outcome, out)
                    out.flush()


def main() -> int:
    """Return 0 when everything held, 1 when not, 2 without a local chain."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--n", type=int, default=50, help="scenarios (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the first one (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="chains at once (default 2)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    first, count, workers = options.seed, options.n, min(options.workers, options.n)
    if options.work:
        work(list(range(first, first + count * options.workers, options.workers)))
        return 0
    try:
        Devnet.start().stop()  # builds what is missing, once
    except ConfigError as error:
        print(f"no local chain: {error}", file=sys.stderr)
        return 2
    total = Sum(count)
    threads = []
    for worker in range(workers):
        share = len(range(worker, count, workers))
        command = [sys.executable, "-m", "tests.chaos", "--work", "--workers", str(workers)]
        command += ["--seed", str(first + worker), "--n", str(share)]
        threads.append(Thread(target=_follow, args=(command, total)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total.tell()
    if total.played < count:
        print(f"{count - total.played} scenarios were not played: a worker ended", file=sys.stderr)
    return int(total.failed > 0 or total.played < count)


def _follow(command: list[str], total: Sum) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        while True:
            try:
                total.take(pickle.load(worker.stdout))
            except EOFError:
                return


if __name__ == "__main__":
    sys.exit(main())
