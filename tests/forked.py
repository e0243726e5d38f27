"""Scripts that end as a power cut would have them, each in a process forked from one that has imported the keeper."""

import multiprocessing
import sys
from multiprocessing import forkserver

PRELOADED = ["pytest", "tests.fake_chain", "tests.plans", "keeper.journal.sqlite", "keeper.risk"]
PATIENCE = 60.0


def run_script(script: str, *arguments: str) -> int:
    """Run a script as `python -c` does and return its exit code; negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
    process = context.Process(target=_execute, args=(script, arguments))
    process.start()
    process.join(PATIENCE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    assert code is not None, "the script goes on"
    return code


def _execute(script: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
