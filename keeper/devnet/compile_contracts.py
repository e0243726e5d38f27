"""Compile the Vyper contracts of the local chain: `python -m keeper.devnet.compile_contracts`.

Needs the pinned vyper of the development lock; what it writes is committed. What stands in for
contracts that cannot be had is kept apart: it is deployed where it is asked for.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import vyper  # type: ignore[import-untyped]

FOLDER = Path(__file__).parent / "contracts"
STAND_INS = Path(__file__).parent / "stand_ins"


def compile_contracts(folder: Path) -> str:
    """Return the text of a folder's artifacts: {name: {abi, bytecode, compiler, source_sha256}}."""
    artifacts: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.vy")):
        source = path.read_text()
        output = vyper.compile_code(source, output_formats=["abi", "bytecode"])
        artifacts[path.stem] = {
            "abi": output["abi"],
            "bytecode": output["bytecode"],
            "compiler": f"vyper {vyper.__version__}",
            "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        }
    return json.dumps(artifacts, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for folder in (FOLDER, STAND_INS):
        (folder / "artifacts.json").write_text(compile_contracts(folder))
