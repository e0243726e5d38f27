"""`keeper status`: what a running keeper says of itself."""

import typer

from keeper.cli.options import AsJson, Configs, Overrides
from keeper.cli.remote import Url, address_of, fetch


def status(
    configs: Configs, overrides: Overrides, url: Url = None, as_json: AsJson = False
) -> None:
    """Print the status of a running keeper; exit 3 when it is failing or not there."""
    from keeper.cli.screen import console, show_json
    from keeper.cli.standing import draw

    _, answer = fetch(address_of(url, configs, overrides), "/status")
    if as_json:
        show_json(answer)
    else:
        console().print(draw(answer))
    raise typer.Exit(3 if answer.get("state") == "fail" else 0)
