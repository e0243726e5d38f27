"""`--strategy NAME`: strategies of one command line, each asked alone on the same heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.options import settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from keeper.app import Variant
    from keeper.config import Loaded

Chosen = Annotated[
    list[str],
    typer.Option(
        "--strategy",
        metavar="NAME[=USE]",
        help="Ask this strategy alone; repeatable, each is a column of its own. Without it, all "
        "strategies of the settings together. NAME=USE gives a strategy a second name, to be set apart.",
        default_factory=list,
        show_default=False,
    ),
]


def load_chosen(configs: list[Path], overrides: list[str], names: list[str]) -> Loaded:
    """Load the settings, with the strategies named on the command line among them."""
    from keeper.errors import ConfigError
    from keeper.plugins import require_strategy

    others = [each for each in overrides if not each.strip().startswith("strategies.")]
    known = settings_from(configs, others)
    added = []
    for each in names:
        name, equals, use = each.partition("=")
        if not name or "." in name or (equals and not use):
            raise ConfigError("--strategy needs NAME or NAME=USE", "--strategy eager=profitability")
        is_set = known.origins.of(f"strategies.{name}") != "default"
        if equals or not is_set:
            require_strategy(use or name, known.settings.strategies, f"--strategy {each}")
            added.append(f"strategies.{name}.use={use or name}")
    return settings_from(configs, [*added, *overrides])


def variants(loaded: Loaded, chain: str, names: list[str]) -> list[Variant]:
    """Return what each strategy named is asked with, or all of the settings' together."""
    from keeper.app import Variant

    settings = loaded.settings
    alone = {"chains": {chain: settings.chains[chain]}}
    chosen = list(dict.fromkeys(each.partition("=")[0] for each in names))
    groups = [[name] for name in chosen] or [list(settings.strategies)]
    return [
        Variant(
            " + ".join(group),
            settings.model_copy(
                update={**alone, "strategies": {name: settings.strategies[name] for name in group}}
            ),
            loaded.origins.blame,
        )
        for group in groups
    ]
