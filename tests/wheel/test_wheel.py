"""The built wheel, in an empty environment, in a folder that has a `strategies/` of its own."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from keeper.cli.grafana_files import files

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
GROUPS = ("keeper.strategies", "keeper.protocols", "keeper.venues")
SHIPPED = {
    *("full_close", "process", "profitability", "sequence"),
    *("aave-v3", "compound-v2", "liquity-v1", "maker-clip", "morpho-blue"),
    *("balancer-v2", "curve", "erc4626", "quote-api", "uniswap-v2", "uniswap-v3", "wrapped-native"),
}
WHERE = """
import sys
from importlib.metadata import entry_points
for group in sys.argv[1:]:
    for point in entry_points(group=group):
        print(point.name, sys.modules[point.load().__module__].__file__, sep="=")
"""


def output(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command that must succeed and return what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    output(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (built,) = folder.glob("keeper-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the environment's folder of scripts; in it the run lock and the wheel, no more."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=True)
    scripts = folder / "bin"
    install = (BIN / "uv", "pip", "install", "--quiet", "--python", scripts / "python")
    output(*install, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=folder)
    output(*install, "--no-deps", wheel, cwd=folder)
    return scripts


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder where an operator keeps strategies of their own, one of the same name."""
    mine = tmp_path / "strategies"
    mine.mkdir()
    (mine / "__init__.py").write_text("")
    (mine / "mine.py").write_text("class Mine: ...\n")
    (mine / "profitability.py").write_text("raise SystemExit('not the shipped strategy')\n")
    return tmp_path


def test_wheel_holds_every_source_file_and_no_test(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("keeper", "strategies")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    boards = {f"keeper/grafana/{name.as_posix()}" for name, _ in files()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == sources | boards
    assert "keeper/py.typed" in packed


def test_plugins_lists_what_is_shipped(installed: Path, elsewhere: Path) -> None:
    listed = output(installed / "keeper", "plugins", cwd=elsewhere)
    for name in SHIPPED:
        assert name in listed


def test_shipped_strategies_are_not_shadowed(installed: Path, elsewhere: Path) -> None:
    listed = output(installed / "keeper", "plugins", cwd=elsewhere, PYTHONPATH=str(elsewhere))
    for name in SHIPPED:
        assert name in listed


def test_plugins_load_from_the_installed_package(installed: Path, elsewhere: Path) -> None:
    printed = output(installed / "python", "-I", "-c", WHERE, *GROUPS, cwd=elsewhere)
    files = dict(line.split("=", 1) for line in printed.splitlines())
    assert set(files) == SHIPPED
    environment = installed.parent.resolve()
    for name, file in files.items():
        assert Path(file).resolve().is_relative_to(environment), f"{name} came from {file}"


def test_installed_boards_ask_for_what_is_exported(installed: Path, elsewhere: Path) -> None:
    assert " 0 at fault," in output(installed / "keeper", "grafana", "check", cwd=elsewhere)
    printed = output(installed / "keeper", "grafana", "export", "boards", cwd=elsewhere)
    assert "boards/dashboards/keeper.json" in printed
    for line in printed.splitlines():
        name = Path(line).relative_to("boards")
        assert (elsewhere / line).read_text() == (ROOT / "grafana" / name).read_text()
