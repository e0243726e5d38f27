"""What `keeper margin` and its tables say, mistakes first."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keeper.config import load
from keeper.errors import ConfigError
from tests.forked import run_command
from tests.webhook import Hook

CHAIN = """
[chains.x]
chain_id = 1
endpoints = ["ws://127.0.0.1:1"]
[chains.x.markets.aave]
protocol = "aave-v3"
[notify.channels.desk]
kind = "webhook"
url = "http://127.0.0.1:1/k3y-of-the-hook"
secret = "0123456789abcdef"
"""
WATCH = '[margin.watch.fund]\nchannels = ["desk"]\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[margin.watch.fund]\nchannels = ["dsek"]',
            "names 'dsek', which is no channel here (desk)",
        ),
        (WATCH + 'addresses = ["0x12"]', "addresses.0 must be an address, 0x and 40 hex digits"),
        (WATCH + "addresses = []", "addresses is empty: nobody would be watched"),
        (WATCH + "call = 1.3", "levels are out of order: warning 1.25 > call 1.3"),
        (WATCH + "critical = 0.99", "critical 0.99 > 1 is wanted"),
        (WATCH + "chances = [0.5, 0.2, 0.7]", "chances are out of order"),
        (WATCH + "target_health = 1.1", "target_health is not above call"),
        (WATCH + 'markets = ["comp"]', "names 'comp', which is no market here"),
        (WATCH + 'protocols = ["comp"]', "names 'comp', which is no protocol here"),
        (WATCH + 'chains = ["y"]', "names 'y', which is no chain here"),
        (WATCH + 'escalate = ["desk"]', "escalate is of no use without escalate_minutes"),
        (
            WATCH + "escalate_minutes = 5\nescalate = ['pager']",
            "names 'pager', which is no channel",
        ),
        ('[margin.watch."A b"]\nchannels = ["desk"]', "must be a short name"),
        ('[notify]\nevents = ["ops"]', "events names 'ops', which is no channel here"),
        ('[notify]\ndigest = "8 am"', "has '8 am' where a time such as"),
        ('[notify.channels.a]\nkind = "apprise"\nurl = "tgram"', "url must be a URL such as"),
        (
            '[notify.channels.a]\nkind = "webhook"\nurl = "http://h/x"\nsecret = "0123456789abcdef"',
            "url would send positions unencrypted: use https",
        ),
        (
            '[notify.channels.a]\nkind = "webhook"\nurl = "https://h/x"\nsecret = "short"',
            "secret of 16 characters or more is wanted",
        ),
        (
            '[notify.channels.a]\nkind = "apprise"\nurl = "json://h"\nquiet = "22:00"',
            "quiet must be two times such as",
        ),
        (
            '[notify.channels.a]\nkind = "apprise"\nurl = "json://h"\ntimezone = "Mars/Base"',
            "names no time zone: 'Mars/Base'",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "keeper.toml"
    path.write_text(CHAIN + text + "\n")
    with pytest.raises(ConfigError) as caught:
        load([path], env={})
    line = str(caught.value)
    assert fault in line
    assert "\n" not in line
    assert "k3y" not in line


Keeper = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Keeper:
    """Run the command line in a folder with a channel that leads nowhere."""
    (tmp_path / "keeper.toml").write_text(CHAIN + WATCH)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPER_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, tmp_path, {**kept, "KEEPER_HOME": str(tmp_path)})

    return run


def test_an_unreachable_webhook_is_one_line_and_exit_3(cli: Keeper) -> None:
    done = cli("margin", "test")
    assert (done.returncode, done.stdout) == (3, "desk: no answer (Connection refused)\n")
    assert done.stderr == ""


def test_a_test_message_arrives_signed(cli: Keeper, tmp_path: Path) -> None:
    with Hook() as hook:
        start = CHAIN.index("[notify")
        (tmp_path / "keeper.toml").write_text(CHAIN[:start] + hook.table)
        done = cli("margin", "test", "desk", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"desk": ""})
    assert [note["topic"] for note in hook.notes] == ["test"]


def test_mistakes_of_the_commands_are_one_line(cli: Keeper) -> None:
    done = cli("margin", "test", "dsek")
    assert done.returncode == 2
    assert done.stderr == "keeper: no channel is named 'dsek' → one of: desk\n"
    done = cli("margin", "ack", "0x12")
    assert done.returncode == 2
    assert done.stderr.startswith("keeper: '0x12' must be an address")
    done = cli("margin", "ack", "0x" + "11" * 20)
    assert done.returncode == 3
    assert "no keeper answers" in done.stderr
    done = cli("margin", "list")
    assert (done.returncode, done.stderr) == (4, "")
    assert done.stdout.startswith("no watched position is near its liquidation\n")


def test_secrets_are_not_shown(cli: Keeper) -> None:
    done = cli("config", "show", "--json")
    assert done.returncode == 0, done.stderr
    assert "k3y" not in done.stdout
    assert "0123456789abcdef" not in done.stdout


def test_the_readme_block_loads(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Margin calls\n")[2]
    block = section.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "webhook.secret").write_text("0123456789abcdef")
    path = tmp_path / "keeper.toml"
    path.write_text(CHAIN[: CHAIN.index("[notify")] + block)
    settings = load([path], env={"CHAT_URL": "json://localhost/room"}).settings
    fund, whales = settings.margin.watch["fund"], settings.margin.watch["whales"]
    assert fund.escalate == ("desk",)
    assert whales.above == 1_000_000 * 10**8
    assert settings.notify.channels["chat"].hours is not None
    assert settings.notify.digest_time is not None
