"""Creation code of the exchanges the venues trade on, from the packages that ship them."""

import json
import os
from functools import cache
from pathlib import Path

from keeper.devnet.solidity import Artifact, Job, compile_solidity
from keeper.devnet.toolchain import install_packages

LOCKED = Path(__file__).parent / "npm"
_UNISWAP_V2 = {
    "UniswapV2Factory": "v2-core/build/UniswapV2Factory.json",
    "UniswapV2Router02": "v2-periphery/build/UniswapV2Router02.json",
}
# With more runs the vault no longer fits under the code size limit.
_BALANCER_V2 = Job(
    compiler="solc-0.7.6",
    settings={"optimizer": {"enabled": True, "runs": 400}, "evmVersion": "istanbul"},
    remappings={},
    contracts={
        "@balancer-labs/v2-vault/contracts/Vault.sol": ("Vault",),
        "@balancer-labs/v2-vault/contracts/Authorizer.sol": ("Authorizer",),
        "@balancer-labs/v2-pool-weighted/contracts/WeightedPool.sol": ("WeightedPool",),
    },
)

# Packages ship the vaults as abstract contracts: ours fill in no more than what is missing.
_OURS = Path(__file__).parent / "solidity"


@cache
def vault(name: str) -> bytes:
    """Return the creation code of a real vault: OpenZeppelinVault or SolmateVault."""
    modules = install_packages(_quiet, LOCKED)
    job = Job(
        compiler="solc-0.8.27",
        settings={"optimizer": {"enabled": True, "runs": 200}, "evmVersion": "shanghai"},
        remappings={"ours/": f"{os.path.relpath(_OURS, modules)}/"},
        contracts={f"ours/{each.name}": (each.stem,) for each in sorted(_OURS.glob("*.sol"))},
    )
    built: dict[str, Artifact] = compile_solidity("ERC-4626 vaults", [job], modules, LOCKED, _quiet)
    return built[name].linked({})


@cache
def uniswap_v2(name: str) -> bytes:
    """Return the creation code of a Uniswap V2 contract."""
    modules = install_packages(_quiet, LOCKED)
    text = (modules / "@uniswap" / _UNISWAP_V2[name]).read_text()
    return bytes.fromhex(json.loads(text)["bytecode"].removeprefix("0x"))


@cache
def balancer_v2(name: str) -> bytes:
    """Return the creation code of a Balancer V2 contract."""
    modules = install_packages(_quiet, LOCKED)
    built: dict[str, Artifact] = compile_solidity(
        "Balancer V2 pools", [_BALANCER_V2], modules, LOCKED, _quiet
    )
    return built[name].linked({})


def _quiet(_: str) -> None:
    pass
