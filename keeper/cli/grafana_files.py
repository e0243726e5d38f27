"""Where the boards and rules that ship with this version are."""

from collections.abc import Iterator
from pathlib import Path

import keeper
from keeper.errors import ConfigError

RUNBOOK = "README.md"
FOLDERS = ("dashboards", "rules", "provisioning")


def home() -> Path:
    """Return the folder: in the installed package, or beside it in a checkout."""
    package = Path(keeper.__file__).parent
    for folder in (package / "grafana", package.parent / "grafana"):
        if (folder / "dashboards").is_dir():
            return folder
    raise ConfigError("this installation has no dashboards", "install the wheel anew")


def files() -> Iterator[tuple[Path, Path]]:
    """Yield each file's name below the folder, and where it is."""
    root = home()
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                yield path.relative_to(root), path
    yield Path(RUNBOOK), root / RUNBOOK
