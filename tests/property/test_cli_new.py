"""`keeper new strategy` writes what compiles, passes its own test, and loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from keeper.config import load
from keeper.plugins import load_strategy

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=False, capture_output=True, text=True
    )


def test_what_it_writes_passes_lints_and_loads(tmp_path: Path) -> None:
    done = run("-m", "keeper", "new", "strategy", "calm_seas", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"calm_seas.py", "test_calm_seas.py"}
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    config = str(ROOT / "pyproject.toml")
    for tool in (
        ["ruff", "check", "--no-cache", "--config", config, "--ignore", "INP001,S101,ARG002"],
        ["ruff", "format", "--no-cache", "--check", "--config", config],
        ["mypy", "--strict", "--cache-dir", str(tmp_path / ".mypy")],
    ):
        linted = run("-m", *tool, "calm_seas.py", "test_calm_seas.py", cwd=tmp_path)
        assert linted.returncode == 0, linted.stdout + linted.stderr
    (tmp_path / "keeper.toml").write_text("\n".join(done.stdout.splitlines()[2:]))
    settings = load([tmp_path / "keeper.toml"], env={}).settings
    ((name, table),) = settings.strategies.items()
    loaded = load_strategy(name, table, settings, lambda key: key)
    assert (name, type(loaded).__name__) == ("calm_seas", "CalmSeas")


def test_its_test_can_fail(tmp_path: Path) -> None:
    run("-m", "keeper", "new", "strategy", "mine", "--folder", str(tmp_path), cwd=ROOT)
    path = tmp_path / "mine.py"
    path.write_text(path.read_text().replace("if risk.pairs", "if not risk.pairs"))
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert tested.returncode == 1


@pytest.mark.parametrize("existing", ["mine.py", "test_mine.py"])
def test_it_writes_over_nothing(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    done = run("-m", "keeper", "new", "strategy", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{existing} exists" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize("name", ["Calm", "1st", "a-b", "../up", "", "class", "x" * 41, "é"])
def test_a_bad_name_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    done = run("-m", "keeper", "new", "strategy", name, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no name for a strategy" in done.stderr
    assert not list(tmp_path.iterdir())
