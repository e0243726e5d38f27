"""`keeper init`: write a commented keeper.toml, asking for what flags do not say, then check it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keeper.cli.options import run_async
from keeper.cli.template import Answers, render
from keeper.errors import ConfigError


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path(
        "keeper.toml"
    ),
    chain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Short name of the chain.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="JSON-RPC URL, or ${NAME} to take it from the environment."
        ),
    ] = None,
    chain_id: Annotated[
        int | None, typer.Option(metavar="ID", help="Default: asked from the endpoint.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Pool of the Aave v3 market.")
    ] = None,
    factory: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Uniswap V3 factory; empty for none.")
    ] = None,
    wrapped_native: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="WETH or its like.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Deployed liquidator, if any.")
    ] = None,
    keystore: Annotated[
        str | None, typer.Option(metavar="FILE", help="Operator's keystore, if any.")
    ] = None,
    password_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable that holds its password [KEEPER_PASSWORD]."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run doctor after it.")] = True,
) -> None:
    """Write a commented keeper.toml, asking what is not given, then run doctor."""
    from keeper.cli.doctor import examine_and_show
    from keeper.config import default_block_time, load
    from keeper.plugins import check_names

    if file.exists() and not force:
        raise ConfigError(f"{file} exists", "name another file, or --force")
    asks = not yes and sys.stdin.isatty()
    url = _answer(
        endpoint, "--endpoint", "JSON-RPC endpoint (ws:// or wss:// is fastest)", asks=asks
    )
    found_id, block_time = (
        (chain_id, default_block_time(chain_id)) if chain_id else run_async(_seen(url))
    )
    answers = Answers(
        chain=_answer(chain, "--chain", "Name of the chain", asks=asks, default="ethereum"),
        chain_id=found_id,
        block_time=block_time,
        endpoint=url,
        pool=_answer(pool, "--pool", "Pool address of the Aave v3 market", asks=asks),
        factory=_answer(factory, "--factory", "Uniswap V3 factory", asks=asks, default=""),
        wrapped_native=_answer(
            wrapped_native, "--wrapped-native", "Wrapped native token", asks=asks, default=""
        ),
        contract=_answer(contract, "--contract", "Liquidator, if deployed", asks=asks, default=""),
        keystore=_answer(keystore, "--keystore", "Operator's keystore", asks=asks, default=""),
        password_env=password_env or "KEEPER_PASSWORD",
    )
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(render(answers), encoding="utf-8")
        draft.chmod(0o600)
        drafted = load([draft])
        check_names(drafted.settings, drafted.origins.blame)
        draft.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    except ConfigError as error:
        message = error.message.replace(str(draft), "init")
        raise ConfigError(message, error.hint) from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"wrote {file}")
    if check:
        raise typer.Exit(run_async(examine_and_show(load([file]))))


def _answer(
    given: str | None, flag: str, question: str, *, asks: bool, default: str | None = None
) -> str:
    if given is not None:
        return given
    if asks:
        return str(typer.prompt(question, default=default, show_default=bool(default)))
    if default is None:
        raise ConfigError(f"{flag} is missing", "give it, or run init in a terminal to be asked")
    return default


async def _seen(url: str) -> tuple[int, int]:
    """Ask the endpoint which chain it serves, and how many seconds lie between its blocks.

    `${NAME}` in the URL is taken from the environment.
    """
    from contextlib import AsyncExitStack

    from pydantic import ValidationError

    from keeper.chain.endpoint import connect
    from keeper.config import Endpoint
    from keeper.config.layers import expand
    from keeper.doctor.block_time import likely_block_time
    from keeper.doctor.node import ask

    try:
        target = Endpoint.model_validate(expand(url, "--endpoint", os.environ))
    except ValidationError:
        raise ConfigError("--endpoint is no URL", "wss://host/key, or ${NAME}") from None
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(
            connect(target.url.get_secret_value(), target.alias, timeout=5, attempts=2)
        )
        answer = await ask(endpoint)
        if answer.head is None:
            raise ConfigError(
                f"the endpoint does not answer: {answer.error}", "check it, or --chain-id"
            )
        return answer.chain_id, await likely_block_time(endpoint, answer.chain_id, answer.head)
