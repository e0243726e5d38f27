"""Load creation code: third-party contracts built from packages, and the project's own."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.toolchain import NPM_FOLDER, Progress, find_node, run_tool

_AAVE = "@aave-dao/aave-v3-origin/src/contracts"
_LOGIC = (
    "BorrowLogic",
    "ConfiguratorLogic",
    "FlashLoanLogic",
    "LiquidationLogic",
    "PoolLogic",
    "SupplyLogic",
)
_AAVE_JOB: dict[str, Any] = {
    "compiler": "solc-0.8.27",
    "settings": {"optimizer": {"enabled": True, "runs": 200}, "evmVersion": "shanghai"},
    "remappings": {
        "openzeppelin-contracts/contracts/": "@openzeppelin/contracts/",
        "openzeppelin-contracts-upgradeable/contracts/": "@openzeppelin/contracts-upgradeable/",
        "solidity-utils/": "@bgd-labs/solidity-utils/src/",
    },
    "contracts": {
        f"{_AAVE}/{folder}/{name}.sol": [name]
        for folder, name in (
            ("instances", "PoolInstance"),
            ("instances", "PoolConfiguratorInstance"),
            ("instances", "ATokenInstance"),
            ("instances", "VariableDebtTokenInstance"),
            ("protocol/configuration", "PoolAddressesProvider"),
            ("protocol/configuration", "ACLManager"),
            ("misc", "AaveOracle"),
            ("misc", "PriceOracleSentinel"),
            ("misc", "DefaultReserveInterestRateStrategyV2"),
            ("helpers", "AaveProtocolDataProvider"),
            ("dependencies/weth", "WETH9"),
            *(("protocol/libraries/logic", name) for name in _LOGIC),
        )
    },
}
_UNISWAP = {
    "UniswapV3Factory": "v3-core/artifacts/contracts/UniswapV3Factory.sol",
    "SwapRouter": "v3-periphery/artifacts/contracts/SwapRouter.sol",
    "QuoterV2": "v3-periphery/artifacts/contracts/lens/QuoterV2.sol",
    "NonfungiblePositionManager": "v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol",
}
_MULTICALL = re.compile(r"multicall3Bytecode = '(0x[0-9a-f]+)'")


@dataclass(frozen=True, slots=True)
class Artifact:
    """Hold creation code in hex (no prefix) and where library addresses go into it."""

    bytecode: str
    links: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def linked(self, libraries: Mapping[str, bytes]) -> bytes:
        """Return the creation code with every library's address in its places."""
        code = self.bytecode
        for library, places in self.links:
            address = libraries[library].hex()
            for place in places:
                code = code[: 2 * place] + address + code[2 * place + 40 :]
        return bytes.fromhex(code)


def compile_aave(modules: Path, progress: Progress) -> dict[str, Artifact]:
    """Return Aave v3.6 by contract name, compiled the first time (about 20 s)."""
    script = NPM_FOLDER / "compile.cjs"
    lock = (NPM_FOLDER / "package-lock.json").read_bytes()
    job = json.dumps(_AAVE_JOB, sort_keys=True).encode()

    def build(folder: Path) -> None:
        progress("compiling Aave v3.6 (once, about 20 s)")
        (folder / "job.json").write_bytes(job)
        command = [*find_node().node, str(script), str(modules), "job.json", "contracts.json"]
        run_tool(command, folder, "compiling Aave v3.6 failed", "clear the cache and retry")

    folder = cached("aave", fingerprint([lock, script.read_bytes(), job]), build)
    return {
        name: Artifact(item["bytecode"], tuple((lib, tuple(at)) for _, lib, at in item["links"]))
        for name, item in json.loads((folder / "contracts.json").read_text()).items()
    }


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
