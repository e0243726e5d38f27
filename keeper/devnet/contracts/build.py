"""Compile the contracts beside this file and write `artifacts.json` (needs the pinned vyper)."""

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ARTIFACTS = FOLDER / "artifacts.json"


def compile_contracts() -> dict[str, dict[str, Any]]:
    """Return {name: {abi, bytecode, compiler, source_sha256}} for every Vyper file here."""
    import vyper

    artifacts = {}
    for path in sorted(FOLDER.glob("*.vy")):
        source = path.read_text()
        output = vyper.compile_code(source, output_formats=["abi", "bytecode"])
        artifacts[path.stem] = {
            "abi": output["abi"],
            "bytecode": output["bytecode"],
            "compiler": f"vyper {vyper.__version__}",
            "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        }
    return artifacts


def render(artifacts: dict[str, dict[str, Any]]) -> str:
    """Return the text of the committed file."""
    return json.dumps(artifacts, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    ARTIFACTS.write_text(render(compile_contracts()))
