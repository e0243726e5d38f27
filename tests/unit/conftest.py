"""What every unit test runs with."""

from collections.abc import Iterator
from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_command_tree() -> Iterator[None]:
    """Build the command line's forty commands once, not again for each of a hundred calls."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield
