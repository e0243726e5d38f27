"""`keeper plugins`: what can be named in the configuration."""

from dataclasses import asdict

from keeper.cli.options import AsJson


def plugins(as_json: AsJson = False) -> None:
    """List strategies, protocols and venues, shipped and installed."""
    from keeper import PLUGIN_API
    from keeper.cli.screen import console, show_json, table
    from keeper.plugins import list_plugins, load_named

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
