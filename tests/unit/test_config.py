from pathlib import Path

import pytest

from keeper.config import Settings, chain_named, load, shown, shown_lines
from keeper.errors import ConfigError
from keeper.plugins import check_names

POOL = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2"
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
GOOD = f"""
[chains.ethereum]
chain_id = 1
endpoints = ["wss://user:pw@rpc.example/v2/s3cret?token=t0ken", "http://localhost:8545"]
[chains.ethereum.markets.aave]
protocol = "aave-v3"
pool = "{POOL}"
[strategies.profitability]
use = "profitability"
slippage = 1.5
"""


def write(folder: Path, text: str, name: str = "keeper.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


CHAIN = "[chains.x]\nchain_id = 1\nendpoints = ['ws://a']\n"


def fault(folder: Path, text: str, *overrides: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load([write(folder, text)], overrides, env or {})
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_defaults_need_no_more_than_a_chain(tmp_path: Path) -> None:
    settings = load([write(tmp_path, GOOD)], env={}).settings
    chain = settings.chains["ethereum"]
    assert settings.mode == "dry"
    assert chain.markets["aave"].options == {"pool": POOL}
    assert chain.multicall.hex() == "ca11bde05977b3631167028862be2a173976ca11"
    assert [endpoint.alias for endpoint in chain.endpoints] == ["rpc.example", "localhost:8545"]
    assert [endpoint.is_socket for endpoint in chain.endpoints] == [True, False]


def test_amounts_become_exact_integers(tmp_path: Path) -> None:
    text = GOOD + (
        "[limits]\nminimum_profit_usd = 0.1\ngas_ether_per_transaction = 0.012345678901234567\n"
        "[chains.ethereum.fees]\nmax_fee_gwei = 0.3\npriority_fee_gwei = 0.000000001\n"
    )
    settings = load([write(tmp_path, text)], env={}).settings
    assert settings.limits.minimum_profit == 10_000_000
    assert settings.limits.largest_repay == 1_000_000 * 10**8
    assert settings.limits.gas_wei_per_transaction == 12345678901234567
    assert settings.limits.gas_wei_per_day == 5 * 10**17
    assert settings.chains["ethereum"].fees.max_fee == 300_000_000
    assert settings.chains["ethereum"].fees.priority_fee == 1


def test_set_beats_environment_beats_later_file_beats_earlier(tmp_path: Path) -> None:
    first = write(tmp_path, GOOD + "[http]\nport = 1\nhost = '0.0.0.0'\n[log]\nlevel = 'error'\n")
    second = write(tmp_path, "[http]\nport = 2\n[log]\nlevel = 'warning'\n", "second.toml")
    env = {"KEEPER_HTTP__PORT": "3", "KEEPER_LIMITS__STOP_AFTER_REVERTS": "7"}
    loaded = load([first, second], ["http.port=4"], env)
    assert loaded.settings.http.port == 4
    assert loaded.settings.http.host == "0.0.0.0"
    assert loaded.settings.log.level == "warning"
    assert loaded.settings.limits.stop_after_reverts == 7
    assert load([first, second], env=env).settings.http.port == 3
    assert load([first, second], env={}).settings.http.port == 2
    origin = {key: source for key, _, source in shown_lines(loaded)}
    assert origin["http.port"] == "--set"
    assert origin["http.host"] == str(first)
    assert origin["log.level"] == str(second)
    assert origin["limits.stop_after_reverts"] == "KEEPER_LIMITS__STOP_AFTER_REVERTS"
    assert origin["log.format"] == "default"


def test_lists_come_as_json_from_environment_and_flags(tmp_path: Path) -> None:
    env = {"KEEPER_CHAINS__ETHEREUM__ENDPOINTS": '["ws://a:1", {"url": "ws://b:2", "alias": "b"}]'}
    chain = load([write(tmp_path, GOOD)], env=env).settings.chains["ethereum"]
    assert [endpoint.alias for endpoint in chain.endpoints] == ["a:1", "b"]
    assert "not valid JSON" in fault(tmp_path, GOOD, "chains.ethereum.endpoints=[ws")


def test_endpoints_of_one_host_have_distinct_aliases(tmp_path: Path) -> None:
    loaded = load(
        [write(tmp_path, GOOD)], ['chains.ethereum.endpoints=["ws://a/1","ws://a/2"]'], {}
    )
    aliases = [endpoint.alias for endpoint in loaded.settings.chains["ethereum"].endpoints]
    assert aliases == ["a", "a#2"]


def test_references_are_expanded(tmp_path: Path) -> None:
    write(tmp_path, "ws://from-file/key\n", "endpoint.txt")
    text = GOOD.replace('"wss://user:pw@rpc.example/v2/s3cret?token=t0ken"', '"${RPC}"')
    text = text.replace('"http://localhost:8545"', '"file:endpoint.txt"')
    loaded = load([write(tmp_path, text)], env={"RPC": "wss://from-env/key"})
    hosts = [endpoint.host for endpoint in loaded.settings.chains["ethereum"].endpoints]
    assert hosts == ["from-env", "from-file"]
    assert "environment variable RPC" in fault(tmp_path, text)
    (tmp_path / "endpoint.txt").unlink()
    assert "endpoint.txt" in fault(tmp_path, text, env={"RPC": "ws://a"})


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    text = GOOD.replace('use = "profitability"', 'use = "./mine.py:Mine"') + (
        "[chains.ethereum.wallet]\nkeystore = 'k.json'\npassword_file = '/etc/p'\n"
        "[journal]\nhome = 'state'\n"
    )
    settings = load([write(tmp_path, text)], env={}).settings
    wallet = settings.chains["ethereum"].wallet
    assert wallet is not None
    assert wallet.keystore == tmp_path / "k.json"
    assert wallet.password_file == Path("/etc/p")
    assert settings.journal.home == tmp_path / "state"
    assert settings.kill_file == tmp_path / "state" / "KILL"
    assert settings.strategies["profitability"].use == f"{tmp_path}/mine.py:Mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\nminimum_profit_usdd = 3", "limits.minimum_profit_usdd is no option"),
        ("[limits]\nminimum_profit_usdd = 3", "did you mean minimum_profit_usd?"),
        ("[limit]\nminimum_profit_usd = 3", "did you mean limits?"),
        ("[chains.x]\nchain_idd = 1\nendpoints = ['ws://a']", "did you mean chain_id?"),
        ("[chains.x]\nendpoints = ['ws://a']", "chains.x.chain_id is missing"),
        ("[chains.x]\nchain_id = 1", "chains.x.endpoints is missing"),
        ("[chains.x]\nchain_id = 1\nendpoints = []", "at least 1 item"),
        ("[chains.x]\nchain_id = 1\nendpoints = ['localhost']", "must be a URL such as"),
        ("[chains.x]\nchain_id = 'one'\nendpoints = ['ws://a']", "must be a whole number"),
        ("[chains.'Main Net']\nchain_id = 1\nendpoints = ['ws://a']", "must be a short name"),
        ("[chains]\nx = 3", "chains.x must be a table"),
        ("[limits]\nminimum_profit_usd = 0", "greater than 0"),
        ("[limits]\nminimum_profit_usd = nan", "finite number"),
        ("[limits]\nminimum_profit_usd = 0.123456789", "more than 8 decimals"),
        ("[limits]\nminimum_profit_usd = 2e6", "minimum_profit_usd is more than largest_repay_usd"),
        ("[limits]\ngas_ether_per_transaction = 1", "more than gas_ether_per_day"),
        (
            "[limits]\ngas_ether_per_hour = 0.01",
            "gas_ether_per_transaction is more than gas_ether_per_hour",
        ),
        ("[limits]\ngas_ether_per_hour = 1", "gas_ether_per_hour is more than gas_ether_per_day"),
        (
            "[limits]\nrepay_usd_per_hour = 1000",
            "largest_repay_usd is more than repay_usd_per_hour",
        ),
        (
            "[limits]\nrepay_usd_per_hour = 3e6\nrepay_usd_per_day = 2e6",
            "repay_usd_per_hour is more than repay_usd_per_day",
        ),
        ("[limits]\nrepay_usd_per_day = 1", "largest_repay_usd is more than repay_usd_per_day"),
        ("[breakers]\nloss_usd_per_day = 0", "greater than 0"),
        ("[breakers]\nrevert_rate = 1", "less than 1"),
        ("[breakers]\nreset = 0", "breakers.reset"),
        ("[breakers]\nreset = 'never'", "breakers.reset"),
        (f"{CHAIN}[chains.x.allow]\ntokens = []", "allow.tokens is empty"),
        (
            f"{CHAIN}[chains.x.allow]\ntokens = ['WETH']\n[chains.x.deny]\ntokens = ['WETH']",
            "allow.tokens and deny.tokens both name WETH",
        ),
        (f"{CHAIN}[chains.x.deny]\nprotocols = ['aave-v9']", "deny.protocols names aave-v9"),
        (f"{CHAIN}[chains.x.feeds.WETH]\nheartbeat_seconds = 0", "feeds.WETH.heartbeat_seconds"),
        (f"{CHAIN}[chains.x.feeds.WETH]\nheartbeat = 60", "feeds.WETH.heartbeat"),
        ("[breakers]\nfeed_off_bps = 10000", "less than 10000"),
        ("[limits]\nstop_after_reverts = 0", "greater than or equal to 1"),
        ("mode = 'life'", "'dry' or 'live'"),
        ("[http]\nport = 99999", "less than or equal to 65535"),
        ("[http\nport = 1", "line 1"),
        ("[strategies.mine]\nslippage = 2", "strategies.mine.use is missing"),
        ("[strategies.mine]\nuse = 'm'\nchains = ['x']", "which is no chain here"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    line = fault(tmp_path, text)
    assert expected in line
    assert line.startswith(str(tmp_path / "keeper.toml"))


@pytest.mark.parametrize(
    ("market", "expected"),
    [
        ("protocol = 'aave-v3'\npool = '0x12'", "40 hex digits"),
        ("protocol = 'aave-v3'\npool = 12", "address in quotes"),
        (f"protocol = 'aave-v3'\npool = '{POOL.replace('B', 'b', 1)}'", "wrong checksum"),
        (f"protocol = 'aave-v3'\npool = '0x{'0' * 40}'", "zero address"),
        (f"protocol = 'aave-v3'\npools = '{POOL}'", "did you mean pool?"),
    ],
)
def test_bad_market_names_its_key(tmp_path: Path, market: str, expected: str) -> None:
    chain = "[chains.x]\nchain_id = 1\nendpoints = ['ws://a']\n[chains.x.markets.m]\n"
    loaded = load([write(tmp_path, chain + market)], env={})
    with pytest.raises(ConfigError) as caught:
        check_names(loaded.settings, loaded.origins.blame)
    line = str(caught.value)
    assert expected in line
    assert "chains.x.markets.m.pool" in line
    assert line.startswith(str(tmp_path / "keeper.toml"))
    assert "\n" not in line


def test_wallet_takes_one_password_at_most(tmp_path: Path) -> None:
    wallet = "[chains.ethereum.wallet]\nkeystore = 'k'\n"
    load([write(tmp_path, GOOD + wallet)], env={})
    both = wallet + "password_env = 'A'\npassword_file = 'b'\n"
    assert "not both" in fault(tmp_path, GOOD + both)


def test_every_lane_starts_its_paths_at_the_file(tmp_path: Path) -> None:
    lanes = (
        "[[chains.ethereum.wallets]]\nkeystore = 'a.json'\npassword_file = '/etc/p'\n"
        f"[[chains.ethereum.wallets]]\nsigner = './k.py:Kms'\naddress = '{POOL}'\n"
    )
    chain = load([write(tmp_path, GOOD + lanes)], env={}).settings.chains["ethereum"]
    assert list(chain.lanes) == ["wallets[0]", "wallets[1]"]
    first, second = chain.wallets
    assert (first.keystore, first.password_file) == (tmp_path / "a.json", Path("/etc/p"))
    assert second.signer == f"{tmp_path}/k.py:Kms"


def test_one_wallet_is_one_lane(tmp_path: Path) -> None:
    wallet = "[chains.ethereum.wallet]\nkeystore = 'k'\n"
    chain = load([write(tmp_path, GOOD + wallet)], env={}).settings.chains["ethereum"]
    assert list(chain.lanes) == ["wallet"]
    assert load([write(tmp_path, GOOD)], env={}).settings.chains["ethereum"].lanes == {}


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ("[chains.ethereum.wallet]\nkeystore = 'k'\n%s{ keystore = 'l' }]", "not both"),
        ("%s{ keystore = 'k' }, { keystore = './k' }]", "wallets[0] and wallets[1] hold the same"),
        ("%s{ remote_url = 'http://a' }]", "needs address"),
        ("%s{ keystore = 'k' }]\nlane_cap = 0", "greater than or equal to 1"),
    ],
)
def test_lanes_that_cannot_be_are_refused(tmp_path: Path, lanes: str, expected: str) -> None:
    head, _, table = lanes.rpartition("%s")
    text = GOOD.replace("[chains.ethereum]\n", f"[chains.ethereum]\nwallets = [{table}\n") + head
    assert expected in fault(tmp_path, text)


@pytest.mark.parametrize("key", [KEY, "0x" + KEY, KEY.upper(), "0x" + "_".join(KEY)])
@pytest.mark.parametrize(
    "line",
    ["private_key = '{}'", "# old key {}", "x = ['a', '{}']", "[chains.'{}']", "pk={}#", '"{}"=1'],
)
def test_private_key_is_refused_and_not_printed(tmp_path: Path, line: str, key: str) -> None:
    message = fault(tmp_path, GOOD + line.format(key))
    assert "private key" in message
    assert key not in message
    assert KEY[:16].lower() not in message.lower()


def test_private_key_is_refused_from_flags_environment_and_as_number(tmp_path: Path) -> None:
    for message in (
        fault(tmp_path, GOOD, f"chains.ethereum.wallet.keystore=0x{KEY}"),
        fault(tmp_path, GOOD, env={"KEEPER_CHAINS__ETHEREUM__WALLET__KEYSTORE": KEY}),
        fault(tmp_path, GOOD + f"key = {int(KEY, 16)}"),
    ):
        assert "private key" in message
        assert KEY[:12] not in message


def test_hex_api_key_in_an_endpoint_is_allowed(tmp_path: Path) -> None:
    text = GOOD.replace("v2/s3cret", KEY)
    chain = load([write(tmp_path, text)], env={}).settings.chains["ethereum"]
    assert chain.endpoints[0].alias == "rpc.example"


def test_secrets_are_in_no_repr_and_no_dump(tmp_path: Path) -> None:
    loaded = load([write(tmp_path, GOOD)], env={})
    for text in (repr(loaded), str(shown(loaded.settings)), str(list(shown_lines(loaded)))):
        assert "rpc.example" in text
        for secret in ("s3cret", "t0ken", "pw@"):
            assert secret not in text


def test_value_of_a_mistyped_key_is_not_printed(tmp_path: Path) -> None:
    assert "s3cret" not in fault(tmp_path, "endpoint = 'wss://a/s3cret'")
    assert "s3cret" not in fault(
        tmp_path, "[chains.x]\nchain_id = 's3cret'\nendpoints = ['ws://a']"
    )


def test_missing_file_and_misspelt_environment_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file → `keeper init` writes one"):
        load([tmp_path / "none.toml"], env={})
    line = fault(tmp_path, GOOD, env={"KEEPER_HTTP__PROT": "1"})
    assert line == "KEEPER_HTTP__PROT: http.prot is no option of the keeper → did you mean port?"
    with pytest.raises(ConfigError, match=r"table\.key=value"):
        load([write(tmp_path, GOOD)], ["http.port"], {})


def test_environment_of_an_orchestrator_is_left_alone(tmp_path: Path) -> None:
    env = {"KEEPER_PORT": "tcp://10.0.0.1:9464", "KEEPER_SERVICE_HOST": "10.0.0.1"}
    assert load([write(tmp_path, GOOD)], env=env).settings.http.port == 9464


def test_chain_of_a_command(tmp_path: Path) -> None:
    one = load([write(tmp_path, GOOD)], env={}).settings
    assert chain_named(one, None) == "ethereum"
    with pytest.raises(ConfigError, match="no chain is named 'etherum'"):
        chain_named(one, "etherum")
    with pytest.raises(ConfigError, match="no chain is configured"):
        chain_named(Settings(), None)


def test_schema_describes_every_table() -> None:
    schema = Settings.model_json_schema()
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False


RELAY = (
    GOOD + "[chains.ethereum.relays.builder]\nkind = 'bundle'\nurl = 'https://b.example/s3cret'\n"
)


def test_a_relay_s_secrets_come_by_reference_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "relay.key").write_text("0x" + KEY + "\n", encoding="utf-8")
    text = RELAY + "identity = 'file:relay.key'\nauthorization = '${TOKEN}'\n"
    settings = load([write(tmp_path, text)], env={"TOKEN": "Bearer t0ken"}).settings
    relay = settings.chains["ethereum"].relays["builder"]
    assert relay.identity is not None
    assert relay.identity.get_secret_value() == "0x" + KEY
    assert (relay.blocks, settings.chains["ethereum"].public_after) == (3, 2)
    shown_text = repr(settings) + str(shown(settings))
    for secret in (KEY, "t0ken", "s3cret"):
        assert secret not in shown_text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("identity = '${SHORT}'", "identity is no private key: 64 hexadecimal digits are wanted"),
        ("authorization = '${LINES}'", "authorization is no header"),
        ("blocks = 0", "blocks"),
        ("[chains.ethereum.relays.two]\nkind = 'mail'\nurl = 'https://x'", "kind"),
        ("[chains.ethereum.relays.two]\nkind = 'bundle'\nurl = 'relay.example'", "must be a URL"),
        ("[chains.ethereum.relays.two]\nkind = 'bundle'\nurl = 'ws://x'", "must be a URL"),
        ("[chains.ethereum.relays.two]\nkind = 'bundle'\nurl = 'http://x'", "use https"),
        (
            "[chains.ethereum.relays.two]\nkind = 'bundle'\nurl = 'https://b.example/s3cret'",
            "two and builder are the same relay twice",
        ),
        ("[chains.ethereum.relays.two]\nkind = 'bundle'", "url is missing"),
    ],
)
def test_a_relay_that_cannot_be_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    env = {"SHORT": "0x12", "LINES": "a\nb"}
    line = fault(tmp_path, RELAY + text + "\n", env=env)
    assert said.lower() in line.lower()
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("chain", "expected", "replaces", "usual"),
    [
        ("chain_id = 1", "auction", True, 10**8),
        ("chain_id = 8453", "op-stack", True, 10**8),
        ("chain_id = 42161", "arbitrum", False, 0),
        ("chain_id = 42161\ninclusion = 'auction'", "auction", True, 10**8),
        ("chain_id = 7\ninclusion = 'first-come'", "first-come", False, 0),
        ("chain_id = 1\nfees = { replacement = false }", "auction", False, 10**8),
    ],
)
def test_inclusion_follows_the_chain_unless_told(
    tmp_path: Path, chain: str, expected: str, replaces: bool, usual: int
) -> None:
    path = write(tmp_path, f"[chains.x]\nendpoints = ['ws://a']\n{chain}")
    found = load([path]).settings.chains["x"]
    assert found.inclusion_model == expected
    assert found.replaces is replaces
    assert found.usual_priority_fee == usual


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("chain_id = 1", 12),
        ("chain_id = 11155111", 12),
        ("chain_id = 8453", 2),
        ("chain_id = 130", 1),
        ("chain_id = 42161", 1),
        ("chain_id = 56", 1),
        ("chain_id = 100", 5),
        ("chain_id = 31337", 12),
        ("chain_id = 8453\nblock_time = 4", 4),
    ],
)
def test_block_time_follows_the_chain_unless_told(
    tmp_path: Path, chain: str, expected: int
) -> None:
    loaded = load([write(tmp_path, f"[chains.x]\nendpoints = ['ws://a']\n{chain}")])
    assert loaded.settings.chains["x"].block_time == expected
    assert shown(loaded.settings)["chains"]["x"]["block_time"] == expected


def test_a_chain_without_an_id_is_one_fault(tmp_path: Path) -> None:
    line = fault(tmp_path, "[chains.x]\nendpoints = ['ws://a']\n")
    assert "chains.x.chain_id is missing" in line
    assert "more" not in line


def test_an_unknown_inclusion_is_refused(tmp_path: Path) -> None:
    assert "inclusion" in fault(tmp_path, f"{CHAIN}inclusion = 'lottery'")
