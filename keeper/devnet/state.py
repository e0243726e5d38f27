"""Build the chain once, keep its state in the cache, and describe what stands on it."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from keeper.devnet.accounts import Cast
from keeper.devnet.anvil import Anvil
from keeper.devnet.artifacts import compile_aave, load_multicall, load_own, load_uniswap
from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.chain import BLOCK_SECONDS, GWEI, Chain
from keeper.devnet.deploy_aave import AaveDeployer
from keeper.devnet.deploy_tokens import deploy_listings, fund_traders
from keeper.devnet.deploy_uniswap import create_pools, deploy_uniswap
from keeper.devnet.model import Market, Pool, Token, Uniswap
from keeper.devnet.reserves import EMODES, POOLS, RESERVES
from keeper.devnet.rpc import Rpc
from keeper.devnet.toolchain import Progress

MULTICALL = bytes.fromhex("ca11bde05977b3631167028862be2a173976ca11")
CHAIN_ID = 31337
START = 1_790_000_000
BLOCK_GAS_LIMIT = 60_000_000
_STATES = 256
_SOURCES = ("*.py", "contracts/artifacts.json", "npm/package-lock.json", "npm/compile.cjs")


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold the addresses of a built chain."""

    market: Market
    uniswap: Uniswap
    timestamp: int


def node_arguments(block_gas_limit: int, tx_gas_cap: bool, now: int = START) -> list[str]:
    """Return anvil's options: fixed time and accounts, any sender, blocks only when asked.

    The states of the last blocks stay in memory. By default the node moves older ones to the home
    folder, gigabytes that a killed node leaves behind, and goes back to none of them without losing
    contracts. `now` is the latest block's timestamp; a loaded state does not set the node's clock.
    """
    options = {
        "--chain-id": CHAIN_ID,
        "--timestamp": now,
        "--gas-limit": block_gas_limit,
        "--accounts": 20,
        "--block-base-fee-per-gas": GWEI,
        "--prune-history": _STATES,
    }
    flags = ["--no-mining", "--auto-impersonate", "--no-request-size-limit"]
    if tx_gas_cap:
        flags.append("--enable-tx-gas-limit")
    return [str(part) for pair in options.items() for part in pair] + flags


def built_state(anvil: Path, modules: Path, progress: Progress) -> tuple[Path, Layout]:
    """Return the state file and the layout, deploying everything the first time."""
    here = Path(__file__).parent
    files = sorted(path for pattern in _SOURCES for path in here.glob(pattern))

    def build(folder: Path) -> None:
        aave = compile_aave(modules, progress)
        progress("deploying Aave v3.6, Uniswap V3 and Multicall3")
        node = Anvil(anvil, node_arguments(BLOCK_GAS_LIMIT, True), "127.0.0.1", 0)
        chain = Chain(Rpc(node.host, node.port))
        try:
            chain.rpc("anvil_setBlockTimestampInterval", BLOCK_SECONDS)
            layout = _deploy(chain, modules, aave)
            state = json.loads(gzip.decompress(bytes.fromhex(chain.rpc("anvil_dumpState")[2:])))
        finally:
            chain.rpc.close()
            node.stop()
        for item in state["transactions"]:
            item["info"]["traces"] = []
        (folder / "state.json").write_text(json.dumps(state, separators=(",", ":")))
        (folder / "layout.json").write_text(json.dumps(asdict(layout), default=_to_hex, indent=1))

    folder = cached("state", fingerprint(path.read_bytes() for path in files), build)
    return folder / "state.json", _read_layout(folder / "layout.json")


def _deploy(chain: Chain, modules: Path, aave: Mapping[str, Any]) -> Layout:
    own, cast = load_own(), Cast
    deployer = cast.DEPLOYER
    multicall = chain.deploy(deployer, load_multicall(modules))
    code = chain.rpc("eth_getCode", "0x" + multicall.hex(), "latest")
    chain.rpc("anvil_setCode", "0x" + MULTICALL.hex(), code)
    weth = chain.deploy(deployer, aave["WETH9"].linked({}))
    listings = deploy_listings(chain, deployer, own, weth, RESERVES, {})
    builder = AaveDeployer(chain, aave, own, weth)
    market = builder.deploy("Main", deployer, listings, EMODES)
    builder.fill(market, cast.LENDER, cast.ANCHOR, RESERVES)
    uniswap = deploy_uniswap(chain, deployer, load_uniswap(modules), weth)
    pools = create_pools(chain, uniswap, market, cast.LENDER, weth, POOLS)
    deployed = replace(uniswap, pools=pools)
    fund_traders(chain, market, deployed)
    chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    chain.mine()
    return Layout(market, deployed, chain.timestamp())


def _read_layout(path: Path) -> Layout:
    raw = _from_hex(json.loads(path.read_text()))
    market, uniswap = raw["market"], raw["uniswap"]
    tokens = {symbol: Token(**item) for symbol, item in market.pop("tokens").items()}
    pools = tuple(Pool(**item) for item in uniswap.pop("pools"))
    return Layout(
        Market(tokens=tokens, **market), Uniswap(pools=pools, **uniswap), raw["timestamp"]
    )


def _to_hex(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    raise TypeError(f"{type(value).__name__} has no place in a layout")


def _from_hex(value: Any) -> Any:
    match value:
        case dict():
            return {key: _from_hex(item) for key, item in value.items()}
        case list():
            return [_from_hex(item) for item in value]
        case str() if value.startswith("0x"):
            return bytes.fromhex(value[2:])
    return value
