"""Options that many commands share, and the settings they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from keeper.config import Loaded

Result = TypeVar("Result")

Configs = Annotated[
    list[Path],
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file; repeatable, later wins.",
        default_factory=list,
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one value: --set http.port=0.",
        default_factory=list,
        show_default=False,
    ),
]
ChainName = Annotated[
    str | None, typer.Option("--chain", metavar="NAME", help="One chain by its name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def settings_from(configs: list[Path], overrides: list[str]) -> Loaded:
    """Load the settings a command line names; raise `ConfigError` for the first fault."""
    from keeper.config import load

    return load(configs, overrides)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end."""
    import asyncio

    return asyncio.run(work)
