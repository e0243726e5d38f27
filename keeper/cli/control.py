"""`keeper pause`, `resume` and `stop`: tell a running keeper over the socket in its home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, settings_from

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_SECONDS = 15.0
ENDING_SECONDS = 30.0
"""How much longer than its cancels a keeper may take to end: it writes its book down."""
NOT_CANCELLED = 3


def pause(
    configs: Configs, overrides: Overrides, chain: ChainName = None, as_json: AsJson = False
) -> None:
    """Send nothing more, and go on watching and following what was sent, until `resume`."""
    _command(configs, overrides, {"command": "pause", "chain": chain}, as_json=as_json)


def resume(
    configs: Configs, overrides: Overrides, chain: ChainName = None, as_json: AsJson = False
) -> None:
    """Send again: end a pause, and close the breakers that wait for the operator."""
    _command(configs, overrides, {"command": "resume", "chain": chain}, as_json=as_json)


def stop(
    configs: Configs,
    overrides: Overrides,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="Cancel everything in flight, at most at fees.max_fee_gwei, and wait for the result.",
        ),
    ] = False,
    within: Annotated[
        int,
        typer.Option(
            "--within", metavar="S", min=1, max=3600, help="Seconds --cancel waits; then it ends."
        ),
    ] = 60,
    as_json: AsJson = False,
) -> None:
    """End the keeper as SIGTERM does: no new plan, and what was sent is followed for a while.

    With --cancel each transaction in flight is replaced by one that does nothing; what is included
    all the same counts as included. The exit code is 3 when something is left.
    """
    asked: dict[str, Any] = {"command": "stop"}
    if not cancel:
        _command(configs, overrides, asked, as_json=as_json)
        return
    asked |= {"cancel": True, "seconds": within}
    answer = _command(configs, overrides, asked, as_json=as_json, seconds=within + ENDING_SECONDS)
    if answer["left"] or answer["not_loaded"]:
        raise typer.Exit(NOT_CANCELLED)


def _command(
    configs: list[Path],
    overrides: list[str],
    asked: dict[str, Any],
    *,
    as_json: bool,
    seconds: float = ANSWER_SECONDS,
) -> dict[str, Any]:
    from keeper.cli.screen import show_json
    from keeper.config import chain_named
    from keeper.errors import ConfigError

    settings = settings_from(configs, overrides).settings
    if asked.get("chain") is not None:
        chain_named(settings, asked["chain"])
    answer = ask(settings.journal.home / "control.sock", asked, seconds)
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    if as_json:
        show_json(answer)
    else:
        print(answer["text"])
    return answer


def ask(path: Path, asked: dict[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Return what the keeper at a socket answers; raise `TransientError` when there is none."""
    import json
    import os
    import socket

    from keeper.errors import TransientError

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            # a path may be longer than a socket's address, a name in an open folder is not
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
            connection.sendall(json.dumps(asked).encode() + b"\n")
            with connection.makefile("rb") as answer:
                document: dict[str, Any] = json.loads(answer.readline())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            raise TransientError(f"no keeper answers at {path} ({reason})") from None
    return document
