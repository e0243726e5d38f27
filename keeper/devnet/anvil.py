"""Run one anvil."""

import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from keeper.devnet.guarded import Guarded
from keeper.errors import ConfigError

_LISTENING = re.compile(r"Listening on [\d.]+:(\d+)")
_START_SECONDS = 60.0


class Anvil:
    """Own a node: started by the constructor, ended by `stop` or with this process."""

    def __init__(self, binary: Path, arguments: Sequence[str], host: str, port: int) -> None:
        """Start the node and wait until it listens; port 0 takes a free one.

        Raises ConfigError when the node does not come up.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(binary), "--host", host, "--port", str(port), *arguments]
        self._process = Guarded(command, self._log)
        self.host = host
        try:
            self.port = self._wait(port)
        except BaseException:
            self.stop()
            raise

    @property
    def process_group(self) -> int:
        """Return the id of the process group the node runs in."""
        return self._process.group

    def stop(self) -> None:
        """Kill the node; harmless when already stopped."""
        self._process.stop()
        self._log.close()

    def _wait(self, wanted: int) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            ended = not self._process.running()
            if found := _LISTENING.search(self._output()):
                return int(found[1])
            if ended:
                break
            time.sleep(0.002)
        text = self._output().strip()
        if "Address already in use" in text:
            raise ConfigError(f"port {wanted} is in use", "choose another, or 0 for a free one")
        last = text.splitlines()[-1] if text else "no output"
        raise ConfigError(f"anvil did not start: {last}", "check that it runs: anvil --version")

    def _output(self) -> str:
        # The node shares the file's position, so that is left where it is.
        length = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), length, 0).decode(errors="replace")
