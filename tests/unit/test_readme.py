"""What the README says exists: error lines, make targets, commands and linked files."""

import re
from pathlib import Path

import pytest
from typer.main import get_group

from keeper.cli.contract import app as contract

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "keeper").rglob("*.py"))
)
LINES = re.findall(r"^\| `([^`]+)` \|", README, re.MULTILINE)
COMMANDS = sorted(set(re.findall(r"`keeper ([a-z]+)", README)))


def test_there_are_error_lines() -> None:
    assert len(LINES) >= 8


@pytest.mark.parametrize("line", LINES)
def test_an_error_line_is_one_the_keeper_prints(line: str) -> None:
    for part in re.split(r"…|\d+", line):
        words = part.strip(" ,()`")
        assert words in SOURCES, words


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README))))
def test_a_make_target_exists(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command: str) -> None:
    registered = (ROOT / "keeper" / "cli" / "__init__.py").read_text(encoding="utf-8")
    assert f'"{command}"' in registered


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_a_linked_file_exists(link: str) -> None:
    assert (ROOT / link).exists()


def test_what_deploys_the_contract_is_given_all_that_it_needs() -> None:
    (printed,) = re.findall(r"`keeper contract deploy (--[^`]*)`", README)
    deploy = get_group(contract).commands["deploy"]
    needed = {each.opts[0] for each in deploy.params if each.required}
    assert needed == set(re.findall(r"--[a-z-]+", printed))
