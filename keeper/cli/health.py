"""`keeper health`: for container health checks; standard library only."""

import typer

from keeper.cli.options import Configs, Overrides
from keeper.cli.remote import Url, address_of, fetch


def health(configs: Configs, overrides: Overrides, url: Url = None) -> None:
    """Exit 0 when a running keeper is alive and ready, 3 when it is not."""
    base = address_of(url, configs, overrides)
    for page, word in (("/healthz", "stuck"), ("/readyz", "not ready")):
        code, _ = fetch(base, page)
        if code != 200:
            print(word)
            raise typer.Exit(3)
    print("ok")
