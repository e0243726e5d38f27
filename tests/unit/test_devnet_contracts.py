"""Each committed artifact names the compiler and the source it comes from."""

import hashlib
import json

import pytest

from keeper.devnet.compile_contracts import FOLDER, STAND_INS


@pytest.mark.parametrize(
    "path", sorted([*FOLDER.glob("*.vy"), *STAND_INS.glob("*.vy")]), ids=lambda path: path.stem
)
def test_source_names_its_compiler_and_its_hash(path) -> None:
    source = path.read_text()
    assert source.startswith("# pragma version 0.4.3\n# pragma evm-version cancun\n")
    recorded = json.loads((path.parent / "artifacts.json").read_text())[path.stem]
    assert recorded["source_sha256"] == hashlib.sha256(source.encode()).hexdigest()
    assert recorded["compiler"] == "vyper 0.4.3"
