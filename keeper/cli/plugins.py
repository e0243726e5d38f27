"""`keeper plugins`: what can be named in the configuration."""

from dataclasses import asdict
from typing import Annotated

import typer

from keeper.cli.options import AsJson


def plugins(
    as_json: AsJson = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print what a process strategy says and is answered.")
    ] = False,
) -> None:
    """List strategies, protocols and venues, shipped and installed."""
    from keeper import PLUGIN_API
    from keeper.cli.screen import console, show_json, table
    from keeper.plugins import list_plugins, load_named, schema as process_schema

    if schema:
        show_json(process_schema())
        return

    found = []
    for plugin in list_plugins():
        fault = load_named(plugin)
        found.append({**asdict(plugin), "loads": fault is None, "fault": fault})
    if as_json:
        show_json({"plugin_api": PLUGIN_API, "plugins": found})
        return
    rows = [
        (each["kind"], each["name"], f"{each['package']} {each['version']}", each["fault"] or "ok")
        for each in found
    ]
    console().print(table(("kind", "name", "package", "loads"), rows))
