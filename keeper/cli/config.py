"""`keeper config`: check, show and describe the configuration."""

from typing import Annotated

import typer

from keeper.cli.grouped import Grouped
from keeper.cli.options import AsJson, Configs, Overrides, settings_from

app = typer.Typer(
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, show and describe the configuration.",
)


@app.command()
def check(configs: Configs, overrides: Overrides) -> None:
    """Validate the configuration, its plug-ins included, without touching the network."""
    from keeper.isolation import close_strategies, open_strategies
    from keeper.plugins import check_names

    loaded = settings_from(configs, overrides)
    check_names(loaded.settings, loaded.origins.blame)
    close_strategies(open_strategies(loaded.settings, loaded.origins.blame))
    print(f"{', '.join(str(path) for path in loaded.files)}: ok")


@app.command()
def show(
    configs: Configs,
    overrides: Overrides,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value came from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting, defaults included; keys in endpoints are left out."""
    from keeper.cli.screen import console, show_json, table
    from keeper.config import shown, shown_lines

    loaded = settings_from(configs, overrides)
    if as_json and origin:
        lines = list(shown_lines(loaded))
        show_json({key: {"value": value, "origin": source} for key, value, source in lines})
    elif as_json:
        show_json(shown(loaded.settings))
    else:
        columns = ("setting", "value", "origin") if origin else ("setting", "value")
        rows = [
            (key, _text(value), source)[: len(columns)]
            for key, value, source in shown_lines(loaded)
        ]
        console().print(table(columns, rows))


@app.command()
def schema() -> None:
    """Print the JSON Schema of keeper.toml, for editors."""
    from keeper.cli.screen import show_json
    from keeper.config import Settings

    show_json(Settings.model_json_schema())


def _text(value: object) -> str:
    """Return a value as one would write it in the file, an absent one as a dash."""
    import json

    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
