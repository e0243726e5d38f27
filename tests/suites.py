"""Run the suites that must pass, one process each: python -m tests.suites [NAME ...].

Each is timed beside its budget (on 2 cores); a slow one is named, only a failing one fails.
The last line counts the tests as pytest does.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
REPORTS = ROOT / "build" / "reports"
UNWANTED = {"PYTHONDONTWRITEBYTECODE"}
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2**30
NO_TESTS_COLLECTED = 5
PARALLEL = ("-n", "2", "--dist", "worksteal")


@dataclass(frozen=True, slots=True)
class Suite:
    """One thing that must pass: its commands in order, each a script of this environment with its options."""

    name: str
    budget_s: int
    commands: Sequence[Sequence[str]]
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    suite: Suite
    seconds: float
    ok: bool
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def line(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        late = "  over budget" if self.seconds > self.suite.budget_s else ""
        tests = f"{self.passed:5d} tests" if self.suite.counted else " " * 11
        return (
            f"{self.suite.name:<11}{verdict:<7}{tests}"
            f"{self.seconds:8.1f} s of {self.suite.budget_s} s{late}"
        )


def pytest_suite(name: str, budget_s: int, *options: str) -> Suite:
    command = ["pytest", f"tests/{name}", f"--junitxml={REPORTS / name}.xml", *options]
    return Suite(name, budget_s, [command], counted=True)


WARM_CACHE = "from keeper.devnet import Devnet\nwith Devnet.start(quiet=False): pass"
COMPILE = """
import contextlib, io, pytest
with contextlib.redirect_stdout(io.StringIO()):
    pytest.main(["tests", "--collect-only", "-qq"])
"""
"""Compile all that tests import once: in each suite both processes would, of the same files.

What cannot be collected is for its own suite to say.
"""

SUITES = (
    Suite("builds", 180, [["python", "-c", WARM_CACHE], ["python", "-c", COMPILE]]),
    Suite("lint", 60, [["ruff", "check"], ["ruff", "format", "--check"]]),
    Suite("types", 180, [["mypy"]]),
    Suite("layers", 60, [["lint-imports"]]),
    pytest_suite("unit", 60, *PARALLEL),
    pytest_suite("property", 300, *PARALLEL),
    pytest_suite("chain", 360, *PARALLEL),
    pytest_suite("chaos", 300, *PARALLEL),
    pytest_suite("prometheus", 180),
    pytest_suite("wheel", 60),
)
INSTALL = Suite("install", 120, [])


def count(report: Path) -> tuple[int, int, int]:
    """Read how many tests passed, failed and were skipped from a JUnit report; zeros without one."""
    if not report.exists():
        return 0, 0, 0
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return tests - failed - skipped, failed, skipped


def environment() -> dict[str, str]:
    """Return this environment with compiled modules kept, and temporary files in memory if it has room.

    Hundreds of processes are started: each would compile the keeper anew, and wait for the disk
    at every commit of its journal.
    """
    chosen = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    writable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    if writable and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
        chosen.setdefault("TMPDIR", str(MEMORY))
    return chosen


def run(suite: Suite) -> Outcome:
    print(f"\n--- {suite.name}", flush=True)
    report = REPORTS / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    env = environment()
    start = time.monotonic()
    codes = [
        subprocess.run([BIN / script, *options], cwd=ROOT, env=env, check=False).returncode
        for script, *options in suite.commands
    ]
    seconds = time.monotonic() - start
    if NO_TESTS_COLLECTED in codes and suite.counted:
        print(f"{suite.name}: no test was collected", flush=True)
    passed, failed, skipped = count(report) if suite.counted else (0, 0, 0)
    ok = not any(codes) and (passed > 0 or not suite.counted)
    return Outcome(suite, seconds, ok, passed, failed, skipped)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.suites")
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--since", type=float, help="when the installation began, Unix time")
    options = parser.parse_args()
    if unknown := sorted(set(options.suites) - set(names)):
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = [suite for suite in SUITES if not options.suites or suite.name in options.suites]

    outcomes = []
    if options.since is not None:
        outcomes.append(Outcome(INSTALL, time.time() - options.since, ok=True))
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes += [run(suite) for suite in wanted]

    print()
    for outcome in outcomes:
        print(outcome.line)
    broken = [outcome.suite.name for outcome in outcomes if not outcome.ok]
    if broken:
        print(f"\nfailed: {', '.join(broken)}")
    uncounted = sum(not outcome.ok and not outcome.failed for outcome in outcomes)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes) + uncounted
    skipped = sum(outcome.skipped for outcome in outcomes)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
