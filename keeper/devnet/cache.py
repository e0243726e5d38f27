"""Keep what is slow to build outside the repository, keyed by what it was built from."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_folder() -> Path:
    """Return `$KEEPER_CACHE`, else `keeper` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get("KEEPER_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keeper"


def fingerprint(parts: Iterable[bytes]) -> str:
    """Return 16 hex digits that change when any part or the order of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def cached(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name-key`, made by `build(empty folder)` the first time.

    The folder appears whole or not at all, and two processes that start together build it once.
    """
    root = cache_folder()
    target = root / f"{name}-{key}"
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        for abandoned in root.glob(f".{name}-{key}-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        building = Path(tempfile.mkdtemp(prefix=f".{name}-{key}-", dir=root))
        try:
            build(building)
            building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target
