"""The command line without a chain: what it prints, how it exits, what it imports."""

import json
import logging
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import structlog

import keeper
from keeper.cli import main
from keeper.cli.run import resolve_live
from keeper.cli.screen import amounts
from keeper.cli.template import Answers, render
from keeper.config import Settings, load

ROOT = Path(keeper.__file__).parent.parent
POOL = "0x" + "11" * 20
HEAVY = ("web3", "numpy", "pydantic", "aiohttp", "eth_abi", "eth_account", "structlog", "asyncio")
COMMANDS = (
    *(
        "demo",
        "init",
        "run",
        "scan",
        "explain",
        "history",
        "status",
        "watch",
        "doctor",
        "pause",
        "resume",
        "stop",
        "plugins",
        "health",
        "record",
        "replay",
        "stress",
        "report",
    ),
    *("wallet sweep", "wallet convert", "wallet refill"),
    *("margin list", "margin test", "margin ack"),
    *("wallet new", "wallet import", "wallet show", "contract deploy", "contract verify"),
    "contract deploy-auctioneer",
    *("grafana export", "grafana check"),
    *("contract allow", "contract keep", "contract withdraw"),
    *("config check", "config show", "config schema"),
)

Keeper = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Keeper]:
    """Run the command line in this process, in an empty folder; return code, output and errors."""
    for name in list(os.environ):
        if name.startswith("KEEPER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KEEPER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["keeper", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, tuple[int, Any]]]]:
    """Serve JSON pages on a free port; a test fills in what each answers."""
    pages: dict[str, tuple[int, Any]] = {}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            code, body = pages.get(self.path, (404, {}))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", pages
        server.shutdown()
        thread.join()


def settings(folder: Path, more: str = "", endpoint: str = "http://127.0.0.1:1") -> Path:
    path = folder / "keeper.toml"
    path.write_text(
        f"[chains.x]\nchain_id = 1\nendpoints = ['{endpoint}']\n"
        f"[chains.x.markets.aave]\nprotocol = 'aave-v3'\npool = '{POOL}'\n{more}"
    )
    return path


def one_line(err: str) -> str:
    assert err.startswith("keeper: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['keeper', '--help']\nfrom keeper.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "print('\\n'.join(sorted(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    print(f"keeper --help took {time.monotonic() - started:.2f} s")
    loaded = set(done.stdout.splitlines())
    assert "typer" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Keeper, command: str) -> None:
    code, out, _ = cli(*command.split(), "--help")
    assert code == 0
    assert f"Usage: keeper {command}" in out


def test_help_is_grouped_and_complete(cli: Keeper) -> None:
    code, out, _ = cli()
    assert code == 0
    for title in ("Start:", "Look:", "Run:", "Extend and operate:"):
        assert title in out
    for command in COMMANDS:
        assert f"\n  {command.split()[0]} " in out


def test_module_runs_as_the_script_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keeper", "--version"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("keeper")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["run", "--liv"], "--liv"),
        (["explain"], "ID"),
        (["-v", "-q", "plugins"], "exclude each other"),
        (["config", "check"], "keeper.toml: no such file → `keeper init` writes one"),
        (["history", "--csv", "--json"], "exclude each other"),
        (["status", "--url", "ftp://x"], "http://"),
    ],
)
def test_bad_command_line_is_one_line(cli: Keeper, arguments: list[str], expected: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert expected in one_line(err)


@pytest.mark.parametrize("command", ["run", "scan", "doctor", "config check", "contract verify"])
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("[limits]\nminimum_profit_usdd = 1", "did you mean minimum_profit_usd?"),
        (f"key = '{'ab' * 32}'", "private key"),
    ],
)
def test_bad_configuration_is_one_line(
    cli: Keeper, tmp_path: Path, command: str, more: str, expected: str
) -> None:
    settings(tmp_path, more)
    code, out, err = cli(*command.split())
    assert code == 2
    assert expected in one_line(err)
    assert "ab" * 32 not in out + err


def test_chain_must_be_known(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path)
    code, _, err = cli("doctor", "--chain", "y")
    assert code == 2
    assert "no chain is named 'y' → --chain one of: x" in one_line(err)


def test_unreachable_endpoint_is_one_line_without_its_key(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path, endpoint="http://127.0.0.1:1/s3cret-key")
    for command in ("run", "scan"):
        code, out, err = cli(command, "--set", "http.port=0")
        assert code == 2
        assert "no endpoint answers" in one_line(err)
        assert "s3cret-key" not in out + err
    code, out, err = cli("doctor", "--set", "http.port=0")
    assert code == 3
    assert "no endpoint answers" in out
    assert "s3cret-key" not in out + err


def test_doctor_speaks_json(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path)
    code, out, _ = cli("doctor", "--json", "--set", "http.port=0")
    found = json.loads(out)
    assert code == 3
    assert found["problems"] == 1
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states == {
        "config": "ok",
        "strategies": "ok",
        "journal": "ok",
        "control": "ok",
        "port": "ok",
        "endpoints": "fail",
    }


def test_config_is_checked_shown_and_described(cli: Keeper, tmp_path: Path) -> None:
    path = settings(tmp_path, endpoint="http://127.0.0.1:1/s3cret-key")
    assert cli("config", "check")[:2] == (0, "keeper.toml: ok\n")
    code, out, _ = cli("config", "show", "--origin", "-c", str(path), "--set", "http.port=7")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert rows["http.port"] == ["7", "--set"]
    assert rows["chains.x.chain_id"] == ["1", str(path)]
    assert rows["mode"] == ["dry", "default"]
    assert "s3cret-key" not in out
    assert json.loads(cli("config", "show", "--json")[1])["chains"]["x"]["chain_id"] == 1
    schema = json.loads(cli("config", "schema")[1])
    assert set(schema["properties"]) == set(Settings.model_fields)


def test_misspelt_names_and_options_fail_the_check(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path)
    code, _, err = cli("config", "check", "--set", "chains.x.markets.aave.protocol=aave-v33")
    assert (code, "did you mean aave-v3?" in one_line(err)) == (2, True)
    settings(tmp_path, "[strategies.profitability]\nuse = 'profitability'\nmin_profit_us = 1\n")
    code, _, err = cli("config", "check")
    assert (code, "did you mean min_profit_usd?" in one_line(err)) == (2, True)


def test_a_misspelt_strategy_of_the_settings_is_suggested(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path, "[strategies.patient]\nuse = 'profitability'\n")
    code, _, err = cli("scan", "--strategy", "patien")
    assert (code, "--strategy patien: " in one_line(err)) == (2, True)
    assert "did you mean patient?" in err


@pytest.mark.parametrize(
    ("mode", "flag", "sends", "missing"),
    [
        ("live", True, True, ""),
        ("live", False, False, "--live is missing"),
        ("dry", True, False, 'mode = "live" is missing'),
        ("dry", False, False, ""),
    ],
)
def test_sending_takes_both_halves(mode: str, flag: bool, sends: bool, missing: str) -> None:
    live, why = resolve_live(mode, flag=flag)
    assert live is sends
    assert missing in why
    assert bool(why) == bool(missing)


def test_plugins_are_listed_and_loaded(cli: Keeper) -> None:
    code, out, _ = cli("plugins", "--json")
    listed = {each["name"]: each for each in json.loads(out)["plugins"]}
    assert code == 0
    assert {"profitability", "aave-v3", "uniswap-v3"} <= set(listed)
    assert all(each["loads"] for each in listed.values() if each["package"] == "keeper")
    assert "profitability" in cli("plugins")[1]


def test_journal_that_is_not_there_is_one_line(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path)
    for command in (["explain", "0x1234"], ["history"]):
        code, _, err = cli(*command)
        assert (code, "there is no journal" in one_line(err)) == (2, True)


def test_wallet_is_made_imported_and_shown(
    cli: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.execution.keystore.SCRYPT_COST", 2)
    monkeypatch.setenv("PW", "hunter2")
    monkeypatch.setenv("SECRET", "0x" + "00" * 31 + "01")
    code, made, _ = cli("wallet", "new", "new.json", "--password-env", "PW")
    assert code == 0
    importing = ("wallet", "import", "one.json", "--password-env", "PW", "--key-env", "SECRET")
    code, imported, _ = cli(*importing)
    assert (code, imported) == (0, "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf\n")
    code, _, err = cli(*importing)
    assert (code, "never overwritten" in one_line(err)) == (2, True)
    settings(tmp_path, "[chains.x.wallet]\nkeystore = 'new.json'\npassword_env = 'PW'\n")
    code, out, _ = cli("wallet", "show", "--json")
    assert code == 0
    assert json.loads(out)[0]["address"] == made.strip()
    assert (tmp_path / "new.json").stat().st_mode & 0o077 == 0


def test_bad_key_is_refused_without_being_printed(
    cli: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "hunter2")
    monkeypatch.setenv("SECRET", "ab" * 31)
    code, out, err = cli(
        *("wallet", "import", "k.json", "--password-env", "PW", "--key-env", "SECRET")
    )
    assert (code, "no private key" in one_line(err)) == (2, True)
    assert "abab" not in out + err
    code, _, err = cli("wallet", "new", "k.json")
    assert (code, "no password" in one_line(err)) == (2, True)


def test_deployment_is_printed_for_another_wallet(cli: Keeper, tmp_path: Path) -> None:
    path = settings(tmp_path)
    command = ("contract", "deploy", "--owner", POOL, "--treasury", POOL)
    assert "wrapped_native is not configured" in cli(*command)[2]
    path.write_text(path.read_text().replace("chain_id", f"wrapped_native = '{POOL}'\nchain_id"))
    code, out, _ = cli(*command, "--json")
    (action,) = json.loads(out)
    assert code == 0
    assert action["to"] is None
    assert action["data"].endswith(POOL[2:])
    named = ("--clip", POOL, "--gem-join", POOL, "--dollar-join", POOL)
    code, out, _ = cli("contract", "deploy-auctioneer", *named)
    assert code == 0
    assert out.startswith("# deploy the auctioneer\nto:    (new contract)")
    code, _, err = cli("contract", "deploy", "--owner", "0x12", "--treasury", POOL)
    assert (code, "--owner must be an address" in one_line(err)) == (2, True)


def test_sweep_needs_no_node(cli: Keeper, tmp_path: Path) -> None:
    path = settings(tmp_path)
    path.write_text(path.read_text().replace("chain_id", f"contract = '{POOL}'\nchain_id"))
    code, out, _ = cli("contract", "withdraw", POOL, "all", "--json")
    assert code == 0
    assert json.loads(out)[0]["to"] == "0x1111111111111111111111111111111111111111"


STATUS = {
    "state": "warn",
    "version": "1",
    "mode": "dry",
    "uptime": 3725,
    "chains": {
        "x": {
            "state": "ok",
            "head": 21480113,
            "positions": 7,
            "breakers": ["kill_file"],
            "today": {"included": 2, "net_usd": 12.5},
            "riskiest": [{"borrower": "0x" + "ab" * 20, "health": "0.9981"}],
        }
    },
}


def test_status_and_watch_draw_what_a_keeper_serves(
    cli: Keeper, served: tuple[str, dict[str, tuple[int, Any]]]
) -> None:
    url, pages = served
    pages["/status"] = (200, STATUS)
    code, out, _ = cli("status", "--url", url)
    assert code == 0
    for text in ("keeper warn", "up 1:02:05", "head 21 480 113", "kill_file", "0xabab…abab"):
        assert text in out
    assert json.loads(cli("status", "--url", url, "--json")[1]) == STATUS
    code, out, _ = cli("watch", "--url", url, "--times", "2", "--every", "0.1")
    assert (code, "0.9981" in out) == (0, True)
    pages["/status"] = (200, {**STATUS, "state": "fail"})
    assert cli("status", "--url", url)[0] == 3


def test_health_follows_the_pages(
    cli: Keeper, served: tuple[str, dict[str, tuple[int, Any]]]
) -> None:
    url, pages = served
    pages |= {"/healthz": (200, {}), "/readyz": (200, {})}
    assert cli("health", "--url", url)[:2] == (0, "ok\n")
    pages["/readyz"] = (503, {})
    assert cli("health", "--url", url)[:2] == (3, "not ready\n")
    code, _, err = cli("health", "--url", "http://127.0.0.1:1")
    assert (code, "no keeper answers" in one_line(err)) == (3, True)


def test_template_is_valid_with_and_without_the_optional(tmp_path: Path) -> None:
    full = Answers("x", 5, 3, "ws://a/${KEY}", POOL, POOL, POOL, POOL, "k.json", "PW")
    bare = Answers("x", 5, 3, "ws://a", POOL, "", "", "", "", "PW")
    for answers in (full, bare):
        path = tmp_path / "keeper.toml"
        path.write_text(render(answers), encoding="utf-8")
        chain = load([path], env={"KEY": "k"}).settings.chains["x"]
        assert (chain.chain_id, chain.block_time) == (5, 3)
        assert (chain.contract is None, chain.wallet is None) == ((answers is bare),) * 2
        assert tomllib.loads(path.read_text())["mode"] == "dry"


def test_init_writes_without_asking_and_never_over_a_file(cli: Keeper, tmp_path: Path) -> None:
    flags = ("init", "--yes", "--no-check", "--endpoint", "ws://a", "--chain-id", "5")
    code, _, err = cli(*flags)
    assert (code, "--pool is missing" in one_line(err)) == (2, True)
    code, out, _ = cli(*flags, "--pool", POOL)
    assert (code, out) == (0, "wrote keeper.toml\n")
    assert load([tmp_path / "keeper.toml"], env={}).settings.chains["ethereum"].chain_id == 5
    code, _, err = cli(*flags, "--pool", POOL)
    assert (code, "exists" in one_line(err)) == (2, True)
    code, _, err = cli(*flags, "--pool", "0x12", "--force")
    assert (code, "chains.ethereum.markets.aave.pool" in one_line(err)) == (2, True)
    assert load([tmp_path / "keeper.toml"], env={}).settings.chains["ethereum"].chain_id == 5
    assert [path.name for path in tmp_path.iterdir()] == ["keeper.toml"]


def test_a_missing_password_names_the_flags(cli: Keeper, tmp_path: Path) -> None:
    owner = ("--owner", POOL, "--treasury", POOL, "--keystore", "owner.json")
    settings(tmp_path, "[chains.x.wallet]\nkeystore = 'k.json'\n")
    with_native = ("--set", f"chains.x.wrapped_native={POOL}")
    for command in (("wallet", "new", "k.json"), ("contract", "deploy", *owner, *with_native)):
        code, _, err = cli(*command)
        assert (code, "give --password-file or --password-env" in one_line(err)) == (2, True)


def test_values_are_shown_as_one_writes_them(cli: Keeper, tmp_path: Path) -> None:
    settings(tmp_path)
    _, out, _ = cli("config", "show", "--origin")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["chains.x.contract"] == ["–", "default"]
    assert rows["mode"] == ["dry", "default"]
    assert rows["chains.x.endpoints"][0].startswith('[{"url":')


def test_json_gives_amounts_as_text() -> None:
    row = {"net_usd": -150_000_000, "health": 99 * 10**16, "block": 2**60, "tip_usd": None}
    flow = {"received": 7, "gains": {"USDC": 2**70}, "ok": True}
    assert amounts([{**row, "flows": (flow,)}]) == [
        {
            "net_usd": "-1.5",
            "health": "0.99",
            "block": 2**60,
            "tip_usd": None,
            "flows": [{"received": "7", "gains": {"USDC": str(2**70)}, "ok": True}],
        }
    ]
