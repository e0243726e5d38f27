"""Load creation code: third-party contracts built from packages, and the project's own."""

import json
import re
from pathlib import Path

from keeper.devnet.solidity import Artifact, Job, compile_solidity
from keeper.devnet.toolchain import NPM_FOLDER, Progress

_AAVE = "@aave-dao/aave-v3-origin/src/contracts"
_POOL_LOGIC = ("BorrowLogic", "FlashLoanLogic", "LiquidationLogic", "PoolLogic", "SupplyLogic")
_LOGIC = f"{_AAVE}/protocol/libraries/logic"


def _aave_job(*contracts: str) -> Job:
    return Job(
        compiler="solc-0.8.27",
        settings={"optimizer": {"enabled": True, "runs": 200}, "evmVersion": "shanghai"},
        remappings={
            "openzeppelin-contracts/contracts/": "@openzeppelin/contracts/",
            "openzeppelin-contracts-upgradeable/contracts/": "@openzeppelin/contracts-upgradeable/",
            "solidity-utils/": "@bgd-labs/solidity-utils/src/",
        },
        contracts={f"{path}.sol": (path.rsplit("/", 1)[1],) for path in contracts},
    )


# Two halves of about the same work, compiled side by side.
_AAVE_JOBS = (
    _aave_job(f"{_AAVE}/instances/PoolInstance", *(f"{_LOGIC}/{name}" for name in _POOL_LOGIC)),
    _aave_job(
        f"{_AAVE}/instances/PoolConfiguratorInstance",
        f"{_LOGIC}/ConfiguratorLogic",
        f"{_AAVE}/instances/ATokenInstance",
        f"{_AAVE}/instances/VariableDebtTokenInstance",
        f"{_AAVE}/protocol/configuration/PoolAddressesProvider",
        f"{_AAVE}/protocol/configuration/ACLManager",
        f"{_AAVE}/misc/AaveOracle",
        f"{_AAVE}/misc/PriceOracleSentinel",
        f"{_AAVE}/misc/DefaultReserveInterestRateStrategyV2",
        f"{_AAVE}/helpers/AaveProtocolDataProvider",
        f"{_AAVE}/dependencies/weth/WETH9",
    ),
)
_UNISWAP = {
    "UniswapV3Factory": "v3-core/artifacts/contracts/UniswapV3Factory.sol",
    "SwapRouter": "v3-periphery/artifacts/contracts/SwapRouter.sol",
    "QuoterV2": "v3-periphery/artifacts/contracts/lens/QuoterV2.sol",
    "NonfungiblePositionManager": "v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol",
}
_MULTICALL = re.compile(r"multicall3Bytecode = '(0x[0-9a-f]+)'")


def compile_aave(modules: Path, progress: Progress) -> dict[str, Artifact]:
    """Return Aave v3.6 by contract name, compiled the first time."""
    return compile_solidity("Aave v3.6", _AAVE_JOBS, modules, NPM_FOLDER, progress)


def load_uniswap(modules: Path) -> dict[str, Artifact]:
    """Return Uniswap V3 by contract name, from the artifacts its packages ship."""
    loaded = {}
    for name, path in _UNISWAP.items():
        text = (modules / "@uniswap" / path / f"{name}.json").read_text()
        loaded[name] = Artifact(json.loads(text)["bytecode"][2:])
    return loaded


def load_multicall(modules: Path) -> bytes:
    """Return Multicall3's creation code, which viem ships as a constant."""
    text = (modules / "viem" / "_cjs" / "constants" / "contracts.js").read_text()
    found = _MULTICALL.search(text)
    if found is None:
        raise LookupError("Multicall3's code is not where viem kept it")
    return bytes.fromhex(found[1][2:])


def load_own() -> dict[str, Artifact]:
    """Return the project's devnet contracts by name."""
    text = (Path(__file__).parent / "contracts" / "artifacts.json").read_text()
    return {name: Artifact(item["bytecode"][2:]) for name, item in json.loads(text).items()}
