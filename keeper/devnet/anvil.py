"""Run one anvil process that cannot outlive this one."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from keeper.errors import ConfigError

_LISTENING = re.compile(r"Listening on [\d.]+:(\d+)")

# The shell holds the other end of our pipe. When this process ends, however it ends, the pipe
# closes and the node is killed. PR_SET_PDEATHSIG would fire when the *thread* that started the
# node ends, and exists on Linux alone.
_WATCHDOG = """
exec 3<&0
"$@" </dev/null 3<&- &
node=$!
{ read -r _ <&3; kill -9 $node; } >/dev/null 2>&1 &
watch=$!
wait $node
status=$?
kill $watch 2>/dev/null
exit $status
"""


class Anvil:
    """Own a node process group: started by the constructor, ended by `stop`."""

    def __init__(self, binary: Path, arguments: Sequence[str], host: str, port: int) -> None:
        """Start the node and wait until it listens; port 0 takes a free one.

        Raises ConfigError when the node does not come up.
        """
        self._log = tempfile.NamedTemporaryFile(prefix="keeper-anvil-", suffix=".log")  # noqa: SIM115
        command = [str(binary), "--host", host, "--port", str(port), *arguments]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "anvil-watchdog", *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.host = host
        self.port = self._wait(port)

    @property
    def process_group(self) -> int:
        """Return the id of the process group the node runs in."""
        return self._process.pid

    def stop(self) -> None:
        """Kill the node and everything in its group; harmless when already stopped."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _wait(self, wanted: int, timeout: float = 60.0) -> int:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            text = Path(self._log.name).read_text(errors="replace")
            if found := _LISTENING.search(text):
                return int(found[1])
            if self._process.poll() is not None:
                break
            time.sleep(0.002)
        text = Path(self._log.name).read_text(errors="replace").strip()
        self.stop()
        if "Address already in use" in text:
            raise ConfigError(f"port {wanted} is in use", "choose another, or 0 for a free one")
        last = text.splitlines()[-1] if text else "no output"
        raise ConfigError(f"anvil did not start: {last}", "check that it runs: anvil --version")
