"""The committed bytecode is what the compiler makes of the committed sources, byte for byte."""

from keeper.contracts import build
from keeper.devnet.compile_contracts import ARTIFACTS, compile_contracts


def test_recompiling_the_liquidator_gives_the_committed_bytes() -> None:
    assert build.text() == build.ARTIFACT.read_text(encoding="utf-8")


def test_recompiling_the_local_chains_contracts_gives_the_committed_bytes() -> None:
    assert ARTIFACTS.read_text(encoding="utf-8") == compile_contracts()
