"""The import contracts hold, and each can fail; the public face is sorted and light."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keeper

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in a folder, not on the installed ones."""
    return subprocess.run(
        [LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("keeper", "strategies"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    return tmp_path


def test_contracts_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


BREACHES = {
    "keeper/units.py": ("keeper.types", "Imports point one way"),
    "keeper/chain/breach.py": ("keeper.protocols", "Imports point one way"),
    "keeper/journal/breach.py": ("keeper.venues", "Imports point one way"),
    "keeper/protocols/breach.py": ("keeper.protocols.aave_v3", "No lending protocol"),
    "keeper/venues/breach.py": ("keeper.venues.uniswap_v3", "No venue"),
    "strategies/breach.py": ("keeper.types", "Strategies import only"),
    "keeper/errors.py": ("strategies", "keeper never imports"),
}


def test_every_breach_is_found(copy: Path) -> None:
    for module, (imported, _) in BREACHES.items():
        with (copy / module).open("a") as file:
            file.write(f"\nimport {imported}\n")
    done = lint(copy)
    assert done.returncode == 1
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    told = done.stdout.partition("Broken contracts")[2]
    for module, (imported, contract) in BREACHES.items():
        name = module.removesuffix(".py").replace("/", ".")
        assert any(line.startswith(contract) for line in broken), done.stdout
        assert f"{name} -> {imported} " in told, done.stdout


def test_a_module_without_a_layer_is_found(copy: Path) -> None:
    (copy / "keeper" / "unlisted.py").touch()
    done = lint(copy)
    assert done.returncode == 1
    assert "keeper.unlisted" in done.stdout, done.stdout


def test_public_face_is_sorted_and_complete() -> None:
    """Constants, then classes, then functions, as the linter's RUF022 has them."""
    names = keeper.__all__
    assert list(names) == sorted(
        set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(keeper, name) for name in names)


def test_public_face_is_light() -> None:
    script = "import sys, keeper; print(*{'web3', 'numpy', 'aiohttp'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
