"""Every board is what Grafana's own types say a dashboard is; there is no Grafana to load it into."""

import copy
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from grafana.build import BOARDS
from keeper.devnet.toolchain import find_node, install_packages
from keeper.errors import ConfigError

TYPES = Path(__file__).parent / "types"
SETTINGS = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "target": "es2022",
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "types": [],
    },
    "files": [],
}


def first(board: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the first panel of a kind."""
    panel: dict[str, Any] = next(each for each in board["panels"] if each["type"] == kind)
    return panel


WRONG: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "kind": lambda board: first(board, "stat").update(type="stats"),
    "unit": lambda board: first(board, "stat")["fieldConfig"]["defaults"].update(unit="USD"),
    "place": lambda board: first(board, "stat")["gridPos"].update(w="8"),
    "option": lambda board: first(board, "timeseries")["options"].update(legnd={}),
    "style": lambda board: first(board, "timeseries")["fieldConfig"]["defaults"]["custom"].update(
        drawStyle="bar"
    ),
    "steps": lambda board: first(board, "stat")["fieldConfig"]["defaults"]["thresholds"].update(
        mode="absolut"
    ),
    "query": lambda board: first(board, "stat")["targets"][0].pop("expr"),
    "links": lambda board: board["links"][0].update(type="dashboard"),
    "refresh": lambda board: board["templating"]["list"][1].update(type="label"),
}


def program(board: Mapping[str, Any]) -> str:
    return (
        "import type { Board } from './board.js';\n"
        f"export const board: Board = {json.dumps(board, indent=1)};\n"
    )


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what the compiler says of each board and of each that is spoilt, by name."""
    try:
        modules = install_packages(lambda _: None, TYPES)
        node = find_node().node
    except ConfigError as error:
        pytest.skip(f"no compiler: {error}")
    folder = tmp_path_factory.mktemp("types")
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "board.ts").write_text((TYPES / "board.ts").read_text(encoding="utf-8"))
    programs = {board.file: board.model() for board in BOARDS}
    for name, spoil in WRONG.items():
        spoilt = copy.deepcopy(BOARDS[0].model())
        spoil(spoilt)
        programs[f"wrong-{name}"] = spoilt
    for name, board in programs.items():
        (folder / f"{name}.ts").write_text(program(board), encoding="utf-8")
    settings = {**SETTINGS, "files": [f"{name}.ts" for name in programs]}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    command = [*node, str(modules / "typescript" / "bin" / "tsc"), "-p", ".", "--pretty", "false"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    found: dict[str, list[str]] = {name: [] for name in programs}
    for file, text in re.findall(r"^([\w-]+)\.ts\(.+?: error (.+)$", done.stdout, re.MULTILINE):
        found.setdefault(file, []).append(text)
    assert done.returncode == (2 if any(found.values()) else 0), done.stdout
    return found


@pytest.mark.parametrize("board", [board.file for board in BOARDS])
def test_a_board_is_what_grafana_reads(board: str, complaints: Mapping[str, list[str]]) -> None:
    assert complaints[board] == []


def test_the_types_themselves_are_whole(complaints: Mapping[str, list[str]]) -> None:
    assert "board" not in complaints


@pytest.mark.parametrize("flaw", WRONG)
def test_a_wrong_board_is_refused(flaw: str, complaints: Mapping[str, list[str]]) -> None:
    assert complaints[f"wrong-{flaw}"]
