"""What `/metrics` says is what promtool accepts."""

import subprocess
from pathlib import Path


def check(promtool: Path, exposition: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, "check", "metrics"],
        input=exposition,
        check=False,
        capture_output=True,
        text=True,
    )


def ours(exposition: str) -> str:
    """Leave out the client library's own metrics of the process and the interpreter."""
    words = (
        line.removeprefix("# HELP ").removeprefix("# TYPE ") for line in exposition.splitlines()
    )
    pairs = zip(words, exposition.splitlines(keepends=True), strict=True)
    return "".join(line for word, line in pairs if word.startswith("keeper_"))


def test_promtool_accepts_every_metric(promtool: Path, exposition: str) -> None:
    done = check(promtool, ours(exposition))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_refuses_a_bad_name(promtool: Path) -> None:
    done = check(promtool, "# TYPE keeper_bad counter\nkeeper_bad 1\n")
    assert done.returncode != 0
    assert "_total" in done.stdout + done.stderr
