"""The contracts an operator deploys: their committed interfaces, bytecode and bounds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi.abi import encode

from keeper.units import Address


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the compiler made of `liquidator.vy`, and the bounds written in it."""

    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    runtime: bytes
    compiler: str
    evm_version: str
    source_sha256: str
    bounds: Mapping[str, int]

    def creation_code(self, owner: Address, treasury: Address, wrapped_native: Address) -> bytes:
        """Return the code that deploys a liquidator; operators and permissions come later."""
        arguments = encode(["address"] * 3, [owner, treasury, wrapped_native])
        return self.bytecode + arguments

    def runtime_code(self, wrapped_native: Address) -> bytes:
        """Return the code a chain must hold: the immutable stands behind the runtime."""
        return self.runtime + bytes(12) + wrapped_native


@dataclass(frozen=True, slots=True)
class Auctioneer:
    """What the compiler made of `auctioneer.vy`; its immutables stand behind the runtime."""

    bytecode: bytes
    runtime: bytes
    source_sha256: str

    def creation_code(self, clip: Address, gem_join: Address, dollar_join: Address) -> bytes:
        """Return the code that deploys one for a Clipper and two joins."""
        return self.bytecode + encode(["address"] * 3, [clip, gem_join, dollar_join])

    def is_code(self, code: bytes) -> bool:
        """Tell whether a chain holds this code, whatever its immutables are."""
        return code.startswith(self.runtime) and len(code) == len(self.runtime) + 7 * 32


def _load(name: str) -> Any:
    return json.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))


@cache
def liquidator() -> Artifact:
    """Load the committed artifact."""
    raw = _load("liquidator.json")
    return Artifact(
        abi=tuple(raw["abi"]),
        bytecode=bytes.fromhex(raw["bytecode"]),
        runtime=bytes.fromhex(raw["runtime"]),
        compiler=raw["compiler"],
        evm_version=raw["evm_version"],
        source_sha256=raw["source_sha256"],
        bounds=raw["bounds"],
    )


@cache
def auctioneer() -> Auctioneer:
    """Load the committed artifact."""
    raw = _load("auctioneer.json")
    return Auctioneer(
        bytes.fromhex(raw["bytecode"]), bytes.fromhex(raw["runtime"]), raw["source_sha256"]
    )
