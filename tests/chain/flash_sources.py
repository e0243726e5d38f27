"""Deploy the real Morpho Blue and Balancer V2 vault, as further sources of flash loans."""

from pathlib import Path

from eth_abi.abi import encode

from keeper.devnet import Cast, Devnet
from keeper.devnet.solidity import Artifact, Job, compile_solidity
from keeper.devnet.toolchain import install_packages

LOCKED = Path(__file__).parent / "npm"
_MORPHO = Job(
    compiler="solc-0.8.19",
    settings={
        "optimizer": {"enabled": True, "runs": 999_999},
        "viaIR": True,
        "evmVersion": "paris",
    },
    remappings={},
    contracts={"@morpho-org/morpho-blue/src/Morpho.sol": ("Morpho",)},
)
# With more runs the vault no longer fits under the code size limit.
_BALANCER = Job(
    compiler="solc-0.7.6",
    settings={"optimizer": {"enabled": True, "runs": 400}, "evmVersion": "istanbul"},
    remappings={},
    contracts={"@balancer-labs/v2-vault/contracts/Vault.sol": ("Vault",)},
)


def deploy_morpho(net: Devnet) -> bytes:
    """Return Morpho Blue; it lends in a flash whatever tokens `net.give` put there, for nothing."""
    return net.deploy(_compiled("Morpho Blue", _MORPHO) + encode(["address"], [Cast.DEPLOYER]))


def deploy_balancer(net: Devnet) -> bytes:
    """Return Balancer's V2 vault; it lends in a flash whatever `net.give` put there, fee 0."""
    weth = net.tokens["WETH"].address
    arguments = encode(["address", "address", "uint256", "uint256"], [Cast.DEPLOYER, weth, 0, 0])
    return net.deploy(_compiled("Balancer V2", _BALANCER) + arguments)


def _compiled(title: str, job: Job) -> bytes:
    modules = install_packages(_quiet, LOCKED)
    artifacts: dict[str, Artifact] = compile_solidity(title, [job], modules, LOCKED, _quiet)
    (name,) = (name for names in job.contracts.values() for name in names)
    return artifacts[name].linked({})


def _quiet(_: str) -> None:
    pass
