"""Processes forked from one that has imported the keeper: imports are what most of their time would go to."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from keeper.cli import main

PARTS = ("pytest", "tests.fake_chain", "tests.plans", "keeper.journal.sqlite", "keeper.risk")
"""What the scripts of the tests of parts use."""
KEEPERS = (
    "eth_account",
    "keeper.devnet.operator",
    "keeper.doctor",
    "tests.chaos.child",
    "tests.live_child",
)
"""What whole keepers and commands use."""
PATIENCE = 120.0


def prepare(preloaded: Sequence[str] = KEEPERS) -> None:
    """Start the process that children are forked from; one for each process, of the first list."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    multiprocessing.set_forkserver_preload([__name__, *preloaded])
    forkserver.ensure_running()


def run_script(script: str, *arguments: str) -> int:
    """Run a script as `python -c` does and return its exit code; negative for a signal."""
    prepare(PARTS)
    return _ended(_process(_execute, script, arguments))


def run_command(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder with just this environment; what it prints is returned."""
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        code = _ended(_process(_command, tuple(arguments), cwd, dict(env), out, err))
        return subprocess.CompletedProcess(
            ["keeper", *arguments], code, out.read_text(), err.read_text()
        )


def _process(target: object, *arguments: object) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=target, args=arguments)  # type: ignore[arg-type]
    process.start()
    return process


def _ended(process: BaseProcess) -> int:
    process.join(PATIENCE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    assert code is not None, f"it goes on after {PATIENCE:g} s"
    return code


def _execute(script: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


def _command(
    arguments: tuple[str, ...], cwd: Path, env: dict[str, str], out: Path, err: Path
) -> None:
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["keeper", *arguments]
    main()
