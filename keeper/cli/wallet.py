"""`keeper wallet`: make, import and show the operator's keystore; what it sends home, and its gas."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keeper.cli.grouped import Grouped
from keeper.cli.options import AsJson, Configs, Overrides, run_async, settings_from
from keeper.cli.treasury import convert, refill, sweep
from keeper.errors import ConfigError

app = typer.Typer(
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, import and show the operator's keystore; sweep profit and see its gas refilled.",
)
app.command()(sweep)
app.command()(convert)
app.command()(refill)

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", metavar="FILE", help="File that holds the keystore's password."
    ),
]
PasswordEnv = Annotated[
    str | None,
    typer.Option("--password-env", metavar="NAME", help="Environment variable that holds it."),
]
Target = Annotated[
    Path, typer.Argument(metavar="FILE", help="Keystore to write; never overwritten.")
]


@app.command()
def new(file: Target, password_file: PasswordFile = None, password_env: PasswordEnv = None) -> None:
    """Make a new key, write it encrypted, and print its address."""
    from keeper.execution.keystore import create_keystore

    password = _new_password(password_file, password_env)
    _show_address(run_async(create_keystore(file, password)))


@app.command("import")
def import_(
    file: Target,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", metavar="NAME", help="Environment variable that holds the key."),
    ] = None,
) -> None:
    """Encrypt a private key, asked for, piped in or named by --key-env, and print its address."""
    from keeper.execution.keystore import import_keystore

    if key_env is not None:
        if key_env not in os.environ:
            raise ConfigError(
                f"the environment variable {key_env} is not set", "--key-env names it"
            )
        secret = os.environ[key_env]
    else:
        secret = _ask("private key: ") if sys.stdin.isatty() else sys.stdin.readline()
    password = _new_password(password_file, password_env)
    _show_address(run_async(import_keystore(file, secret, password)))


@app.command()
def show(configs: Configs, overrides: Overrides, as_json: AsJson = False) -> None:
    """Show each chain's operator address as far as it is known without opening a key."""
    from eth_utils.address import to_checksum_address

    from keeper.cli.screen import console, show_json, table
    from keeper.signers import stated_address

    chains = settings_from(configs, overrides).settings.chains
    found = [
        {
            "chain": name,
            "address": "–"
            if (known := stated_address(wallet)) is None
            else to_checksum_address(known),
            "keystore": str(wallet.keystore or wallet.signer or "remote"),
        }
        for name, chain in chains.items()
        for wallet in chain.lanes.values()
    ]
    if as_json:
        show_json(found)
    elif found:
        console().print(table(list(found[0]), [list(each.values()) for each in found]))
    else:
        console().print("no wallet is configured")
    raise typer.Exit(0 if found else 4)


def _new_password(file: Path | None, variable: str | None) -> str:
    from keeper.execution.keystore import read_password

    def ask_twice(_: str) -> str:
        first = _ask("new password: ")
        if first != _ask("again: "):
            raise ConfigError("the two passwords differ", "try again")
        return first

    if file is None and variable is None and not sys.stdin.isatty():
        raise ConfigError("no password for the keystore", "give --password-file or --password-env")
    return read_password(file, variable, os.environ, ask_twice)


def _ask(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt)


def _show_address(address: bytes) -> None:
    from eth_utils.address import to_checksum_address

    print(to_checksum_address(address))
