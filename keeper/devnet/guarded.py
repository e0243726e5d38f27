"""Start processes that cannot outlive this one."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# The shell holds the other end of our pipe. When this process ends, however it ends, the pipe
# closes and the whole group is killed. PR_SET_PDEATHSIG would fire when the *thread* that started
# the child ends, spares the child's children, and exists on Linux alone.
_WATCHDOG = """
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ read -r _ <&3; kill -9 0; } >/dev/null 2>&1 &
watch=$!
wait $child
status=$?
kill $watch 2>/dev/null
exit $status
"""


class Guarded:
    """Own a process group: started by the constructor, ended by `stop` or with this process."""

    def __init__(
        self,
        command: Sequence[str],
        output: IO[bytes],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `command` away from our terminal, its output and errors going to `output`."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env=environment,
        )

    @property
    def group(self) -> int:
        """Return the id of the process group."""
        return self._process.pid

    def running(self) -> bool:
        """Return whether the command has not ended yet."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Return the exit status, once there is one."""
        return self._process.wait()

    def stop(self) -> None:
        """Kill the group; harmless when it is gone."""
        # While the shell is not reaped its number cannot belong to anybody else.
        if self.running():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
