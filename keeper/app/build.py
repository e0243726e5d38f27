"""Which build this is: the installed version, and the commit where that can be known."""

from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import orjson

NAME = "keeper"


def version() -> str:
    """Return the installed version."""
    try:
        return Distribution.from_name(NAME).version
    except PackageNotFoundError:
        return "0"


def commit() -> str:
    """Return the commit that runs, empty when nothing says so.

    A package installed from a repository names it (PEP 610); an editable one runs what the checkout
    holds, so its HEAD is asked. A wheel says nothing.
    """
    try:
        origin = orjson.loads(Distribution.from_name(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, orjson.JSONDecodeError):
        return ""
    told = origin.get("vcs_info", {}).get("commit_id")
    if isinstance(told, str):
        return told
    if not origin.get("dir_info", {}).get("editable"):
        return ""
    return commit_of(Path(__file__).resolve().parents[2])


def commit_of(checkout: Path) -> str:
    """Return the commit a git checkout is at, empty when it is none."""
    try:
        folder = checkout / ".git"
        if folder.is_file():  # a worktree's
            folder = checkout / folder.read_text().removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        shared = folder / "commondir"
        common = folder / shared.read_text().strip() if shared.exists() else folder
        if (common / name).exists():
            return (common / name).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
