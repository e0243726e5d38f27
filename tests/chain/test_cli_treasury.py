"""What an operator sees and does about profit from the command line, on the real contract."""

import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import keeper.app.till as till_module
from keeper.app.clock import SystemClock
from keeper.app.till import Till, send_sweeps
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.errors import RpcError, TransientError
from keeper.execution.signer import KeySigner
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.ports import Rpc
from keeper.units import Address
from tests.chain.test_cli_chain import ROOT, Keeper, cli, home, mined, operator, refusal, text
from tests.forked import run_command

pytestmark = pytest.mark.chain
__all__ = ["cli", "home", "mined", "operator"]


@pytest.fixture
def filled(mined: Devnet, operator: Operator) -> Operator:
    """Put two tokens worth sweeping and one that is not on the contract."""
    mined.give("USDC", operator.contract, 1_500 * 10**6)
    mined.give("WETH", operator.contract, 10**17)
    mined.give("DAI", operator.contract, 10**14)
    return operator


def rows(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {row["token"]: row for row in document["tokens"]}


def held(net: Devnet, symbol: str, account: bytes) -> int:
    return net.balance(net.tokens[symbol].address, account)


def test_sweep_shows_values_and_gas_and_sends_nothing_dry(
    cli: Keeper, mined: Devnet, filled: Operator, home: Path
) -> None:
    done = cli("wallet", "sweep", "--dry", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["treasury"] == text(filled.treasury)
    found = rows(shown)
    assert set(found) == {"USDC", "WETH", "DAI"}
    price = mined.price("WETH") / 10**8
    assert float(found["WETH"]["USD"]) == pytest.approx(price / 10)
    assert found["USDC"]["amount"] == "1500"
    assert 0 < float(found["DAI"]["USD"]) < float(found["DAI"]["gas USD"])
    assert {row: each["result"] for row, each in found.items()} == {
        "USDC": "would be swept",
        "WETH": "would be swept",
        "DAI": "left",
    }
    assert held(mined, "USDC", filled.contract) == 1_500 * 10**6
    assert not (home / "journal.sqlite").exists()
    assert "would be swept" in cli("wallet", "sweep", "--dry").stdout


def test_sweep_sends_what_is_worth_it_and_journals_it(
    cli: Keeper, mined: Devnet, filled: Operator, home: Path
) -> None:
    wallet = "0x" + filled.wallet.address.hex()
    before = int(mined.rpc("eth_getBalance", wallet, "latest"), 16)
    done = cli("wallet", "sweep", "--token", "WETH", "--json")
    assert done.returncode == 0, done.stderr
    assert held(mined, "WETH", filled.treasury) == 10**17
    assert held(mined, "USDC", filled.contract) == 1_500 * 10**6, "not named"
    mined.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    mined.mine()
    latest = mined.rpc("eth_getBlockByNumber", "latest", False)
    cap = int(latest["baseFeePerGas"], 16) * 3 // 2
    near = (f"max_fee_gwei={cap / 10**9:.9f}", "priority_fee_gwei=0.01")
    settings = [part for each in near for part in ("--set", f"chains.devnet.fees.{each}")]
    done = cli("wallet", "sweep", "--json", *settings)
    assert done.returncode == 0, done.stderr
    result = rows(json.loads(done.stdout))["USDC"]["result"]
    assert result.startswith("swept in 0x")
    paid = mined.rpc("eth_getTransactionByHash", result.removeprefix("swept in "))
    first = int(paid["maxFeePerGas"], 16)
    assert cap * 4 // 5 < first, "the cap holds it down"
    assert first * 11 * 11 <= cap * 10 * 10, "a replacement and a cancel still fit under it"
    assert held(mined, "USDC", filled.treasury) == 1_500 * 10**6
    assert held(mined, "DAI", filled.contract) == 10**14
    after = int(mined.rpc("eth_getBalance", wallet, "latest"), 16)
    spent = JournalReader(home / "journal.sqlite").spent(0)
    assert sum(each.gas for each in spent) == before - after
    assert all(each.net_usd < 0 == each.repaid_usd for each in spent)
    lines = cli("history", "--csv").stdout.splitlines()
    assert [line.split(",")[5] for line in lines[1:]] == ["sweep", "sweep"]
    assert "swept to the treasury" in cli("explain", spent[0].plan).stdout


@pytest.mark.parametrize(
    ("message", "said", "left"),
    [
        ("insufficient funds for gas * price + value", "not sent", 0),
        ("the backend went away", "is not in a block", 1),
    ],
)
async def test_a_sweep_the_node_refuses_keeps_no_later_one_back(
    home: Path,
    filled: Operator,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    said: str,
    left: int,
) -> None:
    class Refusing:
        def __init__(self, rpc: Rpc) -> None:
            self.rpc = rpc

        async def request(self, method: str, params: Sequence[Any]) -> Any:
            if method == "eth_sendRawTransaction":
                raise RpcError(method, -32000, message)
            return await self.rpc.request(method, params)

    monkeypatch.setattr(till_module, "_LOOKS", 1)
    settings = load([home / "keeper.toml"], env={}).settings
    async with AsyncExitStack() as stack:
        till = await Till.open(
            settings, "devnet", [Address(filled.wallet.address)], ["WETH"], stack
        )
        journal = SqliteJournal(settings.journal_file, SystemClock(), 30, lambda _: None)
        journal.open()
        stack.callback(journal.close)
        refused = replace(till, rpc=Refusing(till.rpc))
        signer = KeySigner(filled.wallet.key)
        with pytest.raises(TransientError, match=said):
            await send_sweeps(refused, till.plans(["WETH"]), settings, signer, journal)
        assert len(await journal.pending()) == left


def test_sweep_keeps_the_limits(cli: Keeper, mined: Devnet, filled: Operator) -> None:
    tight = ("--set", "limits.gas_ether_per_transaction=0.0000000001")
    done = cli("wallet", "sweep", *tight)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "gas_transaction" in done.stderr
    assert held(mined, "USDC", filled.contract) == 1_500 * 10**6


def test_bad_input_is_one_line(cli: Keeper) -> None:
    assert "no market here has a token 'DOGE'" in refusal(cli("wallet", "sweep", "--token", "DOGE"))
    assert "wrong checksum" in refusal(
        cli("wallet", "sweep", "--token", "0x87870bca3F3fD6335C3F4ce8392D69350B4fA4E2")
    )
    assert "is no token" in refusal(cli("wallet", "sweep", "--token", "0x" + "12" * 20))
    assert "--cap must be an amount" in refusal(cli("wallet", "refill", "--cap", "-1"))
    levels = ("--set", "treasury.refill_below_ether=1", "--set", "treasury.refill_to_ether=1")
    assert "refill_to_ether is not more" in refusal(cli("wallet", "refill", *levels))


def test_refill_shows_levels_and_what_the_owner_signs(
    cli: Keeper, mined: Devnet, operator: Operator
) -> None:
    done = cli("wallet", "refill", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["wallet"], shown["owner_cap_per_day"]) == ("10", "0")
    assert shown["next_batch_asks_for"] == "0"
    assert "the owner allows none" in cli("wallet", "refill").stdout
    (action,) = json.loads(cli("wallet", "refill", "--cap", "0.5", "--json").stdout)
    mined.rpc(
        "eth_sendTransaction",
        {"from": "0x" + operator.owner.hex(), "to": action["to"], "data": action["data"]},
    )
    levels = ("--set", "treasury.refill_below_ether=11")
    shown = json.loads(cli("wallet", "refill", *levels, "--json").stdout)
    assert shown["owner_cap_per_day"] == "0.5"
    assert shown["next_batch_asks_for"] == "0.5", "12 more are wanted, the cap allows this"


def test_convert_shows_the_rule_to_sign_and_what_it_leaves(
    cli: Keeper, mined: Devnet, filled: Operator
) -> None:
    command = ("wallet", "convert", "USDC", "--to", "WETH", "--per-day", "1000", "--least", "0.2")
    (action,) = json.loads(cli(*command, "--json").stdout)
    assert action["what"] == "let operators sell 1000 USDC a day for 0.2 WETH or more"
    assert action["to"] == text(filled.contract)
    mined.rpc(
        "eth_sendTransaction",
        {"from": "0x" + filled.owner.hex(), "to": action["to"], "data": action["data"]},
    )
    shown = json.loads(cli("wallet", "convert", "--to", "WETH", "--json").stdout)
    assert shown["to"] == "WETH"
    found = rows(shown)
    assert set(found) == {"USDC", "DAI"}
    assert found["USDC"] == {
        "token": "USDC",
        "amount": "1500",
        "left today": "1000",
        "would be sold": "1000",
        "floor WETH": "0.2",
    }
    assert (found["DAI"]["left today"], found["DAI"]["would be sold"]) == ("0", "0")
    assert "convert_to is not set" in refusal(cli("wallet", "convert"))
    assert "an amount and a floor" in refusal(cli("wallet", "convert", "USDC", "--to", "WETH"))
    zero = (*command[:-1], "0")
    assert "--least is zero" in refusal(cli(*zero))


def test_every_wallet_is_seen_and_the_one_with_gas_signs(mined: Devnet, tmp_path: Path) -> None:
    operator = deploy_operator(mined, lanes=2)
    write_settings(mined, operator, tmp_path)
    mined.give("USDC", operator.contract, 1_500 * 10**6)
    first, second = ("0x" + wallet.address.hex() for wallet in operator.wallets)
    mined.rpc("anvil_setBalance", first, hex(10**15))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KEEPER_HOME": str(tmp_path)}
    run = partial(run_command, cwd=tmp_path, env=env)
    shown = json.loads(run(["wallet", "refill", "--json"]).stdout)
    assert shown["wallet"] == "0.001"
    wallets = {name.lower(): each for name, each in shown["wallets"].items()}
    assert wallets == {
        first: {"ether": "0.001", "low": True},
        second: {"ether": "10", "low": False},
    }
    assert run(["wallet", "sweep", "--json"]).returncode == 0
    assert held(mined, "USDC", operator.treasury) == 1_500 * 10**6
    assert int(mined.rpc("eth_getTransactionCount", first, "latest"), 16) == 0
    assert int(mined.rpc("eth_getTransactionCount", second, "latest"), 16) == 1
