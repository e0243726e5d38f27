"""Regenerate the artifacts beside the sources: `python -m keeper.contracts.build`."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import vyper  # type: ignore[import-untyped]

COMPILER = "0.4.3"
SOURCE = Path(__file__).with_name("liquidator.vy")
ARTIFACT = SOURCE.with_suffix(".json")
AUCTIONEER = Path(__file__).with_name("auctioneer.vy")
SOURCES = (SOURCE, AUCTIONEER)
_BOUND = re.compile(
    r"^(MAX_[A-Z]+|RUN_RESERVE|ITEM_RESERVE): constant\(uint256\) = (\d+)$", re.MULTILINE
)
_EVM_VERSION = re.compile(r"^# pragma evm-version (\w+)$", re.MULTILINE)


def build(path: Path = SOURCE) -> dict[str, Any]:
    """Compile a source; the result depends on nothing but its text and the compiler.

    Raises RuntimeError when another compiler is installed.
    """
    if vyper.__version__.split("+")[0] != COMPILER:
        raise RuntimeError(f"vyper {COMPILER} is needed, {vyper.__version__} is installed")
    source = path.read_text(encoding="utf-8")
    version = _EVM_VERSION.search(source)
    if version is None:
        raise RuntimeError(f"{path.name} states no evm-version")
    output = vyper.compile_code(source, output_formats=["abi", "bytecode", "bytecode_runtime"])
    return {
        "abi": output["abi"],
        "bytecode": output["bytecode"].removeprefix("0x"),
        "runtime": output["bytecode_runtime"].removeprefix("0x"),
        "compiler": COMPILER,
        "evm_version": version[1],
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "bounds": {name.lower(): int(value) for name, value in _BOUND.findall(source)},
    }


def text(path: Path = SOURCE) -> str:
    """Return the artifact of a source as it is committed."""
    return json.dumps(build(path), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for each in SOURCES:
        each.with_suffix(".json").write_text(text(each), encoding="utf-8")
