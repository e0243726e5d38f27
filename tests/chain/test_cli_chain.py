"""What an operator gets from the command line beside a chain, mistakes first."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

import keeper
from keeper.chain.endpoint import connect
from keeper.config import Limits
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.doctor.check import State
from keeper.doctor.wallet import check_funds
from keeper.errors import RpcError
from keeper.execution.simulate import Simulator
from keeper.types import NextBlock
from keeper.units import Wei
from tests.forked import run_command
from tests.plans import Plans, address, make_head

pytestmark = pytest.mark.chain
ROOT = Path(keeper.__file__).parent.parent
CHAIN = "chains.devnet"

Keeper = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mined(net: Devnet) -> Devnet:
    net.automine(True)
    return net


@pytest.fixture
def operator(mined: Devnet) -> Operator:
    return deploy_operator(mined)


@pytest.fixture
def home(mined: Devnet, operator: Operator, tmp_path: Path) -> Path:
    write_settings(mined, operator, tmp_path)
    return tmp_path


@pytest.fixture
def cli(home: Path) -> Keeper:
    """Run the command line as an operator does, in the folder of its settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPER_")}

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**kept, "PYTHONPATH": str(ROOT), "KEEPER_HOME": str(home), **variables}
        return run_command(arguments, home, env)

    return run


def text(address: bytes) -> str:
    return to_checksum_address("0x" + address.hex())


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refusal."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("keeper: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}


def test_doctor_finds_all_well(cli: Keeper) -> None:
    done = cli("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = states(done)
    # the local chain's clock is set, not the world's
    assert {found.pop("head"), found.pop("block_time")} <= {"ok", "warn"}
    assert set(found.values()) == {"ok"}
    wanted = {
        "endpoints",
        "eth_simulateV1",
        "multicall",
        "market aave",
        "venue uniswap",
        "pools uniswap",
        "feeds aave",
    }
    assert wanted | {"contract", "wallet", "account", "funds", "roles"} <= set(found)


def test_wrong_chain_id(cli: Keeper) -> None:
    for command in ("run", "scan"):
        line = refusal(cli(command, "--set", f"{CHAIN}.chain_id=5"))
        assert "serves chain id" in line
        assert "the configuration says 5" in line


def test_address_without_code(cli: Keeper) -> None:
    nobody = "0x" + "12" * 20
    line = refusal(cli("run", "--set", f"{CHAIN}.markets.aave.pool={nobody}"))
    assert "has no code" in line
    line = refusal(cli("run", "--set", f"{CHAIN}.contract={nobody}"))
    assert "has no code" in line
    line = refusal(cli("run", "--set", f"{CHAIN}.venues.uniswap.factory={nobody}"))
    assert "has no code" in line


def test_not_an_aave_pool(cli: Keeper, mined: Devnet) -> None:
    token = text(mined.tokens["WETH"].address)
    for command in ("run", "scan"):
        line = refusal(cli(command, "--set", f"{CHAIN}.markets.aave.pool={token}"))
        assert "is not an Aave v3 pool" in line


def test_contracts_of_another_kind(cli: Keeper, mined: Devnet) -> None:
    token = text(mined.tokens["WETH"].address)
    line = refusal(cli("run", "--set", f"{CHAIN}.multicall={token}"))
    assert f"{token.lower()} is no Multicall3" in line
    done = cli("doctor", "--set", f"{CHAIN}.venues.uniswap.factory={token}", "--json")
    found = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert "pools uniswap" in found, found
    assert found["pools uniswap"]["state"] == "warn"
    assert found["pools uniswap"]["detail"]


def test_wrong_keystore_password(cli: Keeper, home: Path) -> None:
    (home / "password").write_text("hunter2")
    done = cli("run")
    assert "wrong password for the keystore" in refusal(done)
    assert "hunter2" not in done.stdout + done.stderr


def test_unfunded_wallet(cli: Keeper, mined: Devnet, operator: Operator) -> None:
    wallet = "0x" + operator.wallet.address.hex()
    mined.rpc("anvil_setBalance", wallet, "0x0")
    line = refusal(cli("run", "--live"))
    assert f"wallet {text(operator.wallet.address)} is empty" in line
    mined.rpc("anvil_setBalance", wallet, "0x1")
    assert states(cli("doctor", "--json"))["funds"] == "warn"


async def test_a_dry_run_needs_no_money(mined: Devnet) -> None:
    poor = address("poor")
    plan = replace(Plans().make(), contract=address("a plain account"), calldata=b"")
    head = replace(make_head(), number=int(mined.rpc("eth_blockNumber"), 16))
    at = NextBlock(head.number + 1, int(time.time()) + 10**9, Wei(10**9))
    async with connect(mined.rpc_url, "main") as rpc:
        state, why, _ = await check_funds(rpc, poor, Limits(), live=False)
        assert (state, why) == (State.WARN, f"wallet {text(poor)} is empty")
        (free,) = await Simulator(rpc, poor, is_free=True).simulate([plan], head, at)
        assert free.ok
        with pytest.raises(RpcError, match=r"(?i)insufficient funds"):
            await Simulator(rpc, poor).simulate([plan], head, at)


def test_contract_operated_by_another(cli: Keeper, mined: Devnet, operator: Operator) -> None:
    mined.send(
        operator.owner,
        operator.contract,
        "set_operator(address,bool)",
        [operator.wallet.address, False],
    )
    assert "is not operated by this wallet" in refusal(cli("run"))


def test_contract_of_somebody_else(cli: Keeper, mined: Devnet) -> None:
    token = text(mined.tokens["WETH"].address)
    line = refusal(cli("run", "--set", f"{CHAIN}.contract={token}"))
    assert "is not this keeper's liquidator" in line
    done = cli("contract", "verify", "--set", f"{CHAIN}.contract={token}")
    assert done.returncode == 3


def test_owner_that_is_the_operator_is_warned_of(
    cli: Keeper, mined: Devnet, operator: Operator
) -> None:
    wallet = operator.wallet.address
    mined.send(operator.owner, operator.contract, "transfer_ownership(address)", [wallet])
    mined.send(wallet, operator.contract, "accept_ownership()")
    done = cli("doctor", "--json")
    assert (done.returncode, states(done)["roles"]) == (0, "warn")


def test_wallet_with_code(cli: Keeper, mined: Devnet, operator: Operator) -> None:
    wallet = "0x" + operator.wallet.address.hex()
    mined.rpc("anvil_setCode", wallet, "0xef0100" + "12" * 20)
    assert "has code or a delegation" in refusal(cli("run"))


def test_verify_compares_the_code_with_its_immutable(cli: Keeper, mined: Devnet) -> None:
    done = cli("contract", "verify", "--json")
    assert done.returncode == 0
    assert [check["state"] for check in json.loads(done.stdout)] == ["ok", "ok"]
    other = text(mined.tokens["USDC"].address)
    done = cli("contract", "verify", "--set", f"{CHAIN}.wrapped_native={other}")
    assert done.returncode == 3
    assert "wraps the native coin" in done.stdout


def test_owner_deploys_allows_and_withdraws(
    cli: Keeper, mined: Devnet, operator: Operator, home: Path
) -> None:
    owner = mined.users[-1]
    key = ("--keystore", "owner.json", "--password-env", "PW")
    made = cli(
        *("wallet", "import", "owner.json", "--password-env", "PW", "--key-env", "SECRET"),
        PW="owner",
        SECRET=owner.key.hex(),
    )
    assert made.stdout.strip() == text(owner.address), made.stderr
    who = ("--owner", text(owner.address), "--treasury", text(operator.treasury))
    done = cli("contract", "deploy", *who, *key, "--json", PW="owner")
    assert done.returncode == 0, done.stderr
    fresh = json.loads(done.stdout)[0]["contract"]
    there = ("--set", f"{CHAIN}.contract={fresh}")

    assert "is not operated by this wallet" in refusal(cli("run", *there))
    shown = json.loads(cli("contract", "allow", *there, "--json").stdout)
    assert len(shown) == 4
    assert {action["to"] for action in shown} == {fresh}
    done = cli("contract", "allow", *there, *key, PW="owner")
    assert done.returncode == 0, done.stderr
    assert json.loads(cli("contract", "allow", *there, "--json").stdout) == []
    assert states(cli("doctor", *there, "--json"))["roles"] == "ok"

    mined.rpc("anvil_setBalance", fresh, hex(10**18))
    before = int(mined.rpc("eth_getBalance", "0x" + operator.treasury.hex(), "latest"), 16)
    done = cli("contract", "withdraw", "native", "0.25", *there, *key, PW="owner")
    assert done.returncode == 0, done.stderr
    after = int(mined.rpc("eth_getBalance", "0x" + operator.treasury.hex(), "latest"), 16)
    assert after - before == 25 * 10**16
    usdc = mined.tokens["USDC"].address
    contract = bytes.fromhex(fresh[2:])
    mined.send(owner.address, contract, "set_budget(address,uint256,uint256)", [usdc, 7, 0])
    done = cli("contract", "keep", text(usdc), "1234.5", *there, *key, PW="owner")
    assert done.returncode == 0, done.stderr
    assert mined.call(contract, "kept(address)", [usdc]) == 1_234_500_000
    assert mined.call(contract, "budgets(address)", [usdc]) == 7
    assert home.joinpath("owner.json").stat().st_mode & 0o077 == 0


def test_init_writes_a_file_that_doctor_accepts(
    cli: Keeper, mined: Devnet, operator: Operator, home: Path
) -> None:
    done = cli(
        *("init", "fresh.toml", "--yes", "--chain", "local", "--endpoint", "${RPC}"),
        *("--pool", text(mined.market.pool), "--factory", text(mined.uniswap.factory)),
        *("--wrapped-native", text(mined.tokens["WETH"].address)),
        *("--contract", text(operator.contract), "--keystore", "operator.json"),
        RPC=mined.ws_url,
        KEEPER_PASSWORD="devnet",
        KEEPER_HTTP__PORT="0",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout
    assert mined.ws_url not in home.joinpath("fresh.toml").read_text()
    assert f"chain_id = {mined.chain_id}" in home.joinpath("fresh.toml").read_text()
