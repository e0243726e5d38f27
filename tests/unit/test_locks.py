"""What is imported is declared, what is declared is locked, and the locks name no machine."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("grafana", "keeper", "strategies", "tests")
DEVELOPMENT = {"keeper/contracts/build.py", "keeper/devnet/compile_contracts.py"}
"""What developers run to write the committed bytecode."""


@cache
def packages() -> dict[str, list[str]]:
    """Return which distributions hold each module; it takes a while to find out."""
    return dict(packages_distributions())


@cache
def graph() -> grimp.ImportGraph:
    """Return who imports what, at whatever depth of a file."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def module(path: Path) -> str:
    """Return the name of the module that a source file below the checkout is."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def distributions(folder: str) -> list[tuple[str, str]]:
    """Return each source file below a folder with each distribution it imports from."""
    ours = {*sys.stdlib_module_names, *PACKAGES}
    found: list[tuple[str, str]] = []
    for path in sorted(each.relative_to(ROOT) for each in (ROOT / folder).rglob("*.py")):
        imported = graph().find_modules_directly_imported_by(module(path))
        found += [
            (path.as_posix(), canonicalize_name(packages().get(name, [name])[0]))
            for name in sorted({each.partition(".")[0] for each in imported} - ours)
        ]
    return found


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


RUN = declared(PROJECT["project"]["dependencies"])
EXTRA = {name: declared(each) for name, each in PROJECT["project"]["optional-dependencies"].items()}
OPTIONAL = {"keeper/cli/stress_plot.py": "plot"}
"""What needs an extra, and says so in one line where it is missing."""


def test_the_keeper_declares_what_it_imports_and_no_more() -> None:
    imported = [
        (file, name)
        for folder in ("keeper", "strategies")
        for file, name in distributions(folder)
        if file not in DEVELOPMENT
    ]
    others = [(file, name) for file, name in imported if name not in RUN]
    assert all(name in EXTRA[OPTIONAL[file]] for file, name in others), others
    assert {OPTIONAL[file] for file, _ in others} == EXTRA.keys()
    assert RUN - {name for _, name in imported} == set()


def test_tests_and_tools_declare_what_they_import() -> None:
    known = RUN | declared(PROJECT["dependency-groups"]["dev"])
    for folder in PACKAGES:
        assert [each for each in distributions(folder) if each[1] not in known] == []


def stanzas(lock: str) -> dict[str, str]:
    """Return each pinned requirement, marker included, with its hash lines."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    found = re.findall(r"^(\S[^\\\n]*?) *\\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    assert "".join(f"{pin} \\\n{hashes}" for pin, hashes in found) == text
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_everything(lock: str) -> None:
    pins = [Requirement(pin) for pin in stanzas(lock)]
    assert len(pins) > 40
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_index_and_no_machine(lock: str) -> None:
    assert not re.search(r"://|--index|--find-links|(?<![\w.-])/\w", (ROOT / lock).read_text())


def test_development_lock_keeps_what_the_run_lock_chose() -> None:
    run, development = (
        {(pin.partition(" ;")[0], hashes) for pin, hashes in stanzas(lock).items()}
        for lock in LOCKS
    )
    assert run <= development


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_lock_meets_the_declared_ranges(lock: str, wanted: list[str]) -> None:
    pinned = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in map(Requirement, stanzas(lock))
    }
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} has {version}"


def test_locked_prints_a_package_with_its_hashes() -> None:
    done = subprocess.run(
        [ROOT / ".ci" / "locked", "hatchling", "pluggy"],
        check=True,
        capture_output=True,
        text=True,
    )
    pins = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [re.split("==", pin)[0] for pin in pins] == ["hatchling", "pluggy"]
    assert done.stdout.count("--hash=sha256:") >= len(pins)
