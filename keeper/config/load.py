"""Read the settings: `--set` over environment over files (later wins) over defaults."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keeper.config.complaint import complain
from keeper.config.layers import (
    environment_layer,
    file_layer,
    leaves,
    merge,
    override_layer,
)
from keeper.config.schema import Settings
from keeper.errors import ConfigError

DEFAULT_FILE = "keeper.toml"


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each value came from; a key nobody set is a default."""

    names: Mapping[str, str]
    files: tuple[Path, ...]

    def of(self, key: str) -> str:
        """Return the source of a dotted key, or of the nearest key below or above it."""
        for known in self.names:
            if known == key or known.startswith(key + ".") or key.startswith(known + "."):
                return self.names[known]
        return "default"

    def blame(self, key: str) -> str:
        """Return the source an error about this key points at: a missing key's table, say."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            origin = self.of(".".join(parts[:length]))
            if origin != "default":
                return origin
        return str(self.files[-1]) if self.files else "settings"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they came from."""

    settings: Settings
    origins: Origins

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files read, in the order given."""
        return self.origins.files


def files_named(paths: Sequence[Path], env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files to read: those named, else KEEPER_CONFIG, else ./keeper.toml."""
    if paths:
        return tuple(paths)
    if env.get("KEEPER_CONFIG"):
        return tuple(Path(part) for part in env["KEEPER_CONFIG"].split(os.pathsep))
    return (Path(DEFAULT_FILE),)


def load(
    paths: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Loaded:
    """Return validated settings; raise `ConfigError` with one line for the first fault."""
    environment = os.environ if env is None else env
    files = files_named(paths, environment)
    tree, names = merge(
        [
            *(file_layer(path, environment) for path in files),
            environment_layer(environment),
            override_layer(overrides, environment),
        ]
    )
    origins = Origins(names, files)
    try:
        return Loaded(Settings.model_validate(tree), origins)
    except ValidationError as error:
        raise complain(error, Settings, origins.blame) from None


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON values, with endpoints reduced to scheme and host."""
    return settings.model_dump(mode="json")


def shown_lines(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """Yield dotted key, shown value and origin of every setting."""
    for path, value in leaves(shown(loaded.settings)):
        yield ".".join(path), value, loaded.origins.of(".".join(path))


def chain_named(settings: Settings, name: str | None) -> str:
    """Return the chain a command is about; the only one when none is named."""
    known = sorted(settings.chains)
    if not known:
        raise ConfigError("no chain is configured", "add [chains.NAME] or run `keeper init`")
    if name is None and len(known) == 1:
        return known[0]
    if name in settings.chains:
        return str(name)
    choice = ", ".join(known)
    if name is None:
        raise ConfigError("several chains are configured", f"--chain one of: {choice}")
    raise ConfigError(f"no chain is named {name!r}", f"--chain one of: {choice}")
