"""`keeper explain ID`: why something was or was not liquidated."""

from dataclasses import asdict
from typing import Annotated

import typer

from keeper.cli.options import AsJson, Configs, Overrides, settings_from


def explain(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="Borrower, opportunity, plan or transaction hash.")
    ],
    configs: Configs,
    overrides: Overrides,
    as_json: AsJson = False,
) -> None:
    """Tell from the journal why something was or was not liquidated."""
    from keeper.cli.screen import amounts, console, show_json
    from keeper.journal.read import JournalReader

    path = settings_from(configs, overrides).settings.journal_file
    found = JournalReader(path).explain(name)
    if found is None:
        console().print(f"the journal {path} knows nothing of {name}", markup=False)
        raise typer.Exit(4)
    if as_json:
        show_json(amounts(asdict(found)))
        return
    from keeper.cli.explanation import lines

    for line in lines(found):
        console().print(line, markup=False, soft_wrap=True)
