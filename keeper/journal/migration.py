"""Numbered SQL files applied in order, each once, each in its own transaction."""

import sqlite3
from importlib import resources

from keeper.errors import ConfigError


def migrations() -> list[tuple[int, str]]:
    """Return the shipped migrations as (number, SQL), in order."""
    folder = resources.files("keeper.journal") / "schema"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), (folder / name).read_text("utf-8")) for name in files]


def migrate(connection: sqlite3.Connection) -> int:
    """Bring a database to the newest version and return it; refuse one from a newer keeper."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    steps = migrations()
    newest = steps[-1][0]
    if version > newest:
        raise ConfigError(
            f"the journal has version {version}, this keeper knows {newest}",
            "run the keeper that wrote it, or set another KEEPER_HOME",
        )
    for number, sql in steps:
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
    return newest
