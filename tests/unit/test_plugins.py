import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import keeper
from keeper.config import Settings, load
from keeper.errors import ConfigError
from keeper.plugins import (
    SHIPPED,
    build_venue,
    check_names,
    list_plugins,
    load_protocol,
    load_strategy,
    load_venue,
)
from keeper.ports import Strategy
from keeper.units import Address
from keeper.venues.uniswap_v2 import UniswapV2

ROOT = Path(keeper.__file__).parent.parent
MINE = """
from pydantic import BaseModel

from keeper import Limits, Usd


class Mine:
    class Config(BaseModel, extra="forbid"):
        slippage: float = 1.0

    def __init__(self, config):
        self.config = config

    def select(self, view):
        return []

    def limits(self, opportunity, view):
        return Limits(Usd(1))

    def bid(self, quote, view):
        raise NotImplementedError


class Old(Mine):
    PLUGIN_API = 0


class Silent:
    class Config(BaseModel):
        pass


class Bare:
    select = limits = bid = lambda self, *_: None


class Broken(Mine):
    def __init__(self, config):
        raise RuntimeError("no luck")
"""


def settings(folder: Path, options: str = "", use: str = "./mine.py:Mine") -> Settings:
    (folder / "keeper.toml").write_text(f"[strategies.mine]\nuse = '{use}'\n{options}")
    return load([folder / "keeper.toml"], env={}).settings


def opened(settings: Settings, blame: Callable[[str], str] = lambda _: "settings") -> Strategy:
    """Return the strategy of settings as its own process builds it."""
    ((name, table),) = settings.strategies.items()
    return load_strategy(name, table, settings, blame)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    path.chmod(0o644)
    return tmp_path


def test_shipped_names_are_the_declared_entry_points() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared == SHIPPED


def test_everything_shipped_is_listed_and_loads() -> None:
    listed = {(each.kind, each.name) for each in list_plugins() if each.package == "keeper"}
    assert {
        ("strategy", "profitability"),
        ("protocol", "aave-v3"),
        ("venue", "balancer-v2"),
        ("venue", "uniswap-v2"),
        ("venue", "uniswap-v3"),
    } <= listed
    assert load_protocol("aave-v3").__name__ == "AaveV3"
    assert load_venue("uniswap-v3").__name__ == "UniswapV3"
    ((name, default),) = Settings().strategies.items()
    assert (name, default.use, default.chains) == ("profitability", "profitability", None)


def test_shipped_strategy_is_not_shadowed_by_the_working_directory(tmp_path: Path) -> None:
    shadow = tmp_path / "strategies"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("")
    (shadow / "profitability.py").write_text("raise SystemExit('shadow')\n")
    code = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from keeper.config import Settings\nfrom keeper.isolation import open_strategies\n"
        "kind = type(open_strategies(Settings())[0].strategy)\n"
        "print(sys.modules[kind.__module__].__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()) == ROOT / "strategies" / "profitability.py"


def test_file_beside_the_configuration_is_loaded(mine: Path) -> None:
    loaded = opened(settings(mine, "slippage = 2.5"))
    assert loaded.config.slippage == 2.5  # type: ignore[attr-defined]  # the test's own class


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("./none.py:Mine", "no such file"),
        ("./mine.py:Mein", "did you mean Mine?"),
        ("./mine.py:Old", "plug-in API 0"),
        ("./mine.py:Silent", "no method select, limits, bid"),
        ("./mine.py:Bare", "no pydantic model named Config"),
        ("./mine.py:Broken", "does not start: RuntimeError: no luck"),
        ("./bad.py:Mine", "does not load: ZeroDivisionError"),
        ("./exits.py:Mine", "does not load: SystemExit"),
        ("profitabilty", "did you mean profitability?"),
    ],
)
def test_bad_strategy_is_one_line(mine: Path, use: str, expected: str) -> None:
    (mine / "bad.py").write_text("1 / 0\n")
    (mine / "exits.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ConfigError) as caught:
        opened(settings(mine, use=use))
    line = str(caught.value)
    assert expected in line
    assert "strategies.mine.use" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "slipage = 2",
            "strategies.mine.slipage is no option of the keeper → did you mean slippage",
        ),
        ("slippage = 'lots'", "strategies.mine.slippage must be a number"),
    ],
)
def test_bad_option_names_its_key(mine: Path, options: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(settings(mine, options), lambda _: "keeper.toml")
    assert str(caught.value).startswith(f"keeper.toml: {expected}")


def test_world_writable_file_or_folder_is_refused(mine: Path) -> None:
    (mine / "mine.py").chmod(0o646)
    with pytest.raises(ConfigError, match=r"anyone may write to .*mine\.py"):
        opened(settings(mine))
    (mine / "mine.py").chmod(0o644)
    mine.chmod(0o777)
    with pytest.raises(ConfigError, match="anyone may write to"):
        opened(settings(mine))


def test_a_venue_may_be_one_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        """
from keeper.venues.uniswap_v2 import UniswapV2


class Mine(UniswapV2):
    pass
"""
    )
    config = tmp_path / "keeper.toml"
    pool = "0x" + "11" * 20
    config.write_text(
        f"""
[chains.x]
chain_id = 1
endpoints = ["ws://a"]

[chains.x.venues.mine]
venue = "./mine.py:Mine"
factory = "{pool}"
router = "{pool}"
hubs = ["{pool}"]
"""
    )
    settings = load([config]).settings
    check_names(settings)
    table = settings.chains["x"].venues["mine"]
    contract, token = Address(b"\x01" * 20), Address(b"\x02" * 20)
    made = build_venue("x", "mine", table, [token], contract)
    assert isinstance(made, UniswapV2)
    assert (type(made).__name__, made.name, made.contract) == ("Mine", "mine", contract)
    assert made.tokens == {token, Address(b"\x11" * 20)}


def test_names_in_the_configuration_are_checked() -> None:
    chain = {"chain_id": 1, "endpoints": ["ws://a"]}
    pool = "0x" + "11" * 20

    def check(**more: object) -> None:
        check_names(Settings.model_validate({"chains": {"x": {**chain, **more}}}))

    check(markets={"m": {"protocol": "aave-v3", "pool": pool}})
    with pytest.raises(ConfigError, match=r"chains\.x\.markets\.m\.protocol.*did you mean aave-v3"):
        check(markets={"m": {"protocol": "aave-v33", "pool": pool}})
    with pytest.raises(ConfigError, match=r"chains\.x\.venues\.v\.venue.*did you mean uniswap-v3"):
        check(venues={"v": {"venue": "uniswap-3", "factory": pool}})
    both = {"factory": pool, "router": pool}
    check(venues={"v": {"venue": "uniswap-v2", **both, "fee": 2500}})
    with pytest.raises(ConfigError, match=r"chains\.x\.venues\.v\.feee.*did you mean fee\?"):
        check(venues={"v": {"venue": "uniswap-v2", **both, "feee": 2500}})
    with pytest.raises(ConfigError, match=r"chains\.x\.venues\.v\.router is missing"):
        check(venues={"v": {"venue": "uniswap-v2", "factory": pool}})
    with pytest.raises(ConfigError, match=r"chains\.x\.venues\.v\.fee .*less than"):
        check(venues={"v": {"venue": "uniswap-v2", **both, "fee": 1_000_000}})
    table = {"use": "profitability", "protocols": ["aave-3"]}
    with pytest.raises(ConfigError, match=r"strategies\.s\.protocols.*did you mean aave-v3"):
        check_names(Settings.model_validate({"strategies": {"s": table}}))


@pytest.mark.parametrize(
    ("chain", "strategy", "hint"),
    [
        ({"public_after": 3}, {}, "public_after to 2 at most"),
        ({"public_after": 13, "block_time": 2}, {}, "public_after to 12 at most"),
        ({}, {"deadline_seconds": 23}, "public_after to 1 at most"),
        ({}, {"deadline_seconds": 0}, "public_after to 0 at most"),
    ],
)
def test_a_deadline_before_publication_is_refused_in_one_line(
    chain: dict[str, int], strategy: dict[str, int], hint: str
) -> None:
    relay = {"kind": "bundle", "url": "https://relay.example"}
    base = {"chain_id": 1, "endpoints": ["ws://x"]}

    def made(relays: dict[str, object], **changes: object) -> Settings:
        table = {"use": "profitability", **strategy, **changes}
        chains = {"ethereum": {**base, **chain, "relays": relays}, "other": base}
        return Settings.model_validate({"chains": chains, "strategies": {"mine": table}})

    with pytest.raises(ConfigError, match=hint) as caught:
        opened(made({"builder": relay}))
    assert "strategies.mine.deadline_seconds" in str(caught.value)
    assert "\n" not in caught.value.args[0]
    for fine in (
        made({}),
        made({"builder": relay}, chains=["other"]),
        made({"builder": relay}, deadline_seconds=3_600),
    ):
        opened(fine)


def test_what_is_shipped_is_found_without_asking_every_installed_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(group: str) -> list[object]:
        raise AssertionError(f"looked for {group}")

    monkeypatch.setattr("keeper.plugins.entry_points", asked)
    assert load_venue("uniswap-v2") is UniswapV2
    with pytest.raises(AssertionError, match=r"looked for keeper\.venues"):
        load_venue("somebody-elses")
