"""The layers settings come from: files, environment, `--set`; each value remembers its own."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from keeper.errors import ConfigError

PREFIX = "KEEPER_"
# an API key in a URL may be 64 hex digits too; anywhere else such a number is a private key
_URL = re.compile(r"\w+://[^\s\"']*")
_KEY = re.compile(r"(?<![0-9a-zA-Z])(?:0[xX])?(?:[0-9a-fA-F]_?){63}[0-9a-fA-F](?![0-9a-zA-Z])")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VENUE = re.compile(r"chains\.[^.]+\.venues\.[^.]+\.venue")
_PATHS = (
    re.compile(r"chains\.[^.]+\.wallets?\.(keystore|password_file)"),
    re.compile(r"journal\.home"),
)

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """Values of one source by path; `name` is what an error calls the source."""

    values: Mapping[KeyPath, Any]
    names: Mapping[KeyPath, str]


def file_layer(path: Path, env: Mapping[str, str]) -> Layer:
    """Read one TOML file; relative paths in it start at its folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", "`keeper init` writes one, -c names another"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if _KEY.search(_URL.sub("", line)):
            raise _private_key(f"{path}:{number}")
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    except ValueError:
        raise ConfigError(f"{path}: holds a number that cannot be read") from None
    values = {}
    for key, value in leaves(tree):
        expanded = _expanded(value, str(path), key, path.parent, env)
        values[key] = _anchored(key, expanded, path.parent)
    return Layer(values, dict.fromkeys(values, str(path)))


def environment_layer(env: Mapping[str, str]) -> Layer:
    """Read KEEPER_MODE and every KEEPER_TABLE__KEY; other KEEPER_ names belong to others."""
    values, names = {}, {}
    for name in sorted(env):
        key = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if name.startswith(PREFIX) and (len(key) > 1 or key == ("mode",)):
            values[key] = _value(env[name], name)
            names[key] = name
    return Layer(values, names)


def override_layer(overrides: Sequence[str], env: Mapping[str, str]) -> Layer:
    """Read `--set a.b=c`."""
    values, names = {}, {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        key = tuple(part.strip() for part in dotted.split("."))
        if not equals or not all(key):
            raise ConfigError("--set needs table.key=value", "--set limits.minimum_profit_usd=3")
        values[key] = _expanded(_value(text, "--set"), "--set", key, Path(), env)
        names[key] = "--set"
    return Layer(values, names)


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tree of values, later layers winning, and where each dotted key came from."""
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            node = tree
            for part in key[:-1]:
                below = node.setdefault(part, {})
                if not isinstance(below, dict):
                    below = node[part] = {}
                node = below
            node[key[-1]] = value
            origins[".".join(key)] = layer.names[key]
    return tree, origins


def leaves(tree: Mapping[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every value with its path; an empty table is a value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _value(text: str, name: str) -> Any:
    if _KEY.search(_URL.sub("", text)):
        raise _private_key(name)
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:
            raise ConfigError(f"{name}: the list or table is not valid JSON") from None
    return text


def _expanded(value: Any, name: str, key: KeyPath, base: Path, env: Mapping[str, str]) -> Any:
    """Replace `${NAME}` by the environment and `file:PATH` by the file's text."""
    if isinstance(value, list):
        return [_expanded(each, name, key, base, env) for each in value]
    if isinstance(value, dict):
        return {each: _expanded(below, name, key, base, env) for each, below in value.items()}
    if isinstance(value, int) and value.bit_length() > 128:
        raise _private_key(f"{name}: {'.'.join(key)}")
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise ConfigError(
                f"{name}: {'.'.join(key)} needs environment variable {match[1]}",
                "set it, or write the value",
            )
        return env[match[1]]

    text = _REFERENCE.sub(replace, value)
    if not text.startswith("file:"):
        return text
    source = base / Path(text.removeprefix("file:").removeprefix("//")).expanduser()
    try:
        return source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{name}: {'.'.join(key)} cannot read {source} ({type(error).__name__})"
        ) from None


def _anchored(key: KeyPath, value: Any, base: Path) -> Any:
    """Make a file's relative path start at the file's folder."""
    if isinstance(value, list):
        return [_anchored(key, each, base) for each in value]
    if isinstance(value, dict):
        return {each: _anchored((*key, each), below, base) for each, below in value.items()}
    dotted = ".".join(key)
    if not isinstance(value, str) or not value:
        return value
    if any(pattern.fullmatch(dotted) for pattern in _PATHS):
        return str(base / Path(value).expanduser())
    names_file = (
        (key[0] == "strategies" and key[-1] == "use")
        or _VENUE.fullmatch(dotted)
        or dotted.endswith((".wallet.signer", ".wallets.signer"))
    )
    if names_file and ".py:" in value:
        return str(base / Path(value).expanduser())
    if key[0] == "strategies" and key[-1] == "command" and value.startswith(("./", "../", "~/")):
        return str(base / Path(value).expanduser())
    return value


def _private_key(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: this looks like a private key, and one is never taken in plain text",
        "`keeper wallet import` makes a keystore; then treat this key as exposed",
    )


def expand(text: str, name: str, env: Mapping[str, str]) -> str:
    """Return a single text with its references replaced, as a file's value would be."""
    return str(_expanded(text, name, ("value",), Path(), env))
