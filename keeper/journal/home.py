"""The keeper's home directory: where it is, who may read it, and the one process that owns it."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from keeper.errors import ConfigError

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


def home_path(environ: Mapping[str, str]) -> Path:
    """Return $KEEPER_HOME, else $XDG_DATA_HOME/keeper, else ~/.local/share/keeper."""
    if named := environ.get("KEEPER_HOME"):
        return Path(named).expanduser()
    if data := environ.get("XDG_DATA_HOME"):
        return Path(data).expanduser() / "keeper"
    return Path("~/.local/share/keeper").expanduser()


def open_home(path: Path) -> Path:
    """Create the directory when it is missing and close it to other users."""
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        path.chmod(PRIVATE_DIRECTORY)
    except OSError as error:
        raise ConfigError(
            f"the keeper's home {path} cannot be used: {error.strerror}",
            "set KEEPER_HOME to a directory this user owns",
        ) from None
    return path


class HomeLock:
    """Hold the home directory for one process; the kernel lets go when the process ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise `ConfigError` naming the process that holds it."""
        path = self._home / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise ConfigError(
                f"another keeper (process {holder or 'unknown'}) uses {self._home}",
                "stop it, or give this one its own KEEPER_HOME",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; harmless when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
