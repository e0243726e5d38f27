"""The installer names what the machine lacks in one line, and exits 2."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fake_python(folder: Path, version: str, *, venv: bool) -> Path:
    """Write a stand-in that answers the three questions the installer asks of an interpreter."""
    old = int(tuple(map(int, version.split("."))) < (3, 11))
    file = folder / "python"
    file.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *print*) echo {version} ;; *exit*) exit {old} ;;'
        f" *ensurepip*) exit {int(not venv)} ;; esac\n"
    )
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("version", "venv", "said"),
    [
        ("3.9", True, "Python 3.11 or newer is needed"),
        ("3.12", False, "python3.12 has no venv module"),
    ],
)
def test_unfit_python_is_one_line(tmp_path: Path, version: str, venv: bool, said: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "environment", tmp_path / ".ci")
    python = fake_python(tmp_path, version, venv=venv)
    done = subprocess.run(
        [tmp_path / ".ci" / "environment", "run"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (tmp_path / ".venv").exists()
