"""The committed bytecode is what the compiler makes of the committed sources, byte for byte."""

from keeper.contracts import build
from keeper.devnet.compile_contracts import FOLDER, STAND_INS, compile_contracts


def test_recompiling_what_operators_deploy_gives_the_committed_bytes() -> None:
    for path in build.SOURCES:
        assert build.text(path) == path.with_suffix(".json").read_text(encoding="utf-8")


def test_recompiling_the_local_chains_contracts_gives_the_committed_bytes() -> None:
    for folder in (FOLDER, STAND_INS):
        kept = (folder / "artifacts.json").read_text(encoding="utf-8")
        assert kept == compile_contracts(folder)
