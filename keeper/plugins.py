"""Find and load what extends the keeper: entry points, shipped files, and `file.py:Class`.

What is shipped is loaded from beside the `keeper` package itself, so that neither missing metadata
nor a `strategies/` folder of the operator's own can stand in for it.
"""

import hashlib
import importlib
import importlib.util
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

import keeper
from keeper.config import (
    Market as MarketTable,
    Settings,
    StrategyTable,
    Venue as VenueTable,
    complain,
)
from keeper.errors import ConfigError
from keeper.ports import Strategy, Venue
from keeper.units import ZERO_ADDRESS, Address

STRATEGIES = "keeper.strategies"
PROTOCOLS = "keeper.protocols"
VENUES = "keeper.venues"
SIGNERS = "keeper.signers"
SHIPPED = {
    STRATEGIES: {
        "full_close": "strategies.full_close:FullClose",
        "process": "strategies.process:Process",
        "profitability": "strategies.profitability:Profitability",
        "sequence": "strategies.sequence:Sequence",
    },
    PROTOCOLS: {
        "aave-v3": "keeper.protocols.aave_v3:AaveV3",
        "compound-v2": "keeper.protocols.compound_v2:CompoundV2",
        "liquity-v1": "keeper.protocols.liquity_v1:LiquityV1",
        "maker-clip": "keeper.protocols.maker_clip:MakerClip",
        "morpho-blue": "keeper.protocols.morpho_blue:MorphoBlue",
    },
    VENUES: {
        "balancer-v2": "keeper.venues.balancer_v2:BalancerV2",
        "curve": "keeper.venues.curve:Curve",
        "erc4626": "keeper.venues.erc4626:Erc4626",
        "quote-api": "keeper.venues.quote_api:QuoteApi",
        "uniswap-v2": "keeper.venues.uniswap_v2:UniswapV2",
        "uniswap-v3": "keeper.venues.uniswap_v3:UniswapV3",
        "wrapped-native": "keeper.venues.wrapped_native:WrappedNative",
    },
}
"""The keeper's own entry points, as its package metadata declares them."""
_BESIDE = Path(keeper.__file__).resolve().parent.parent
_METHODS = ("select", "limits", "bid")
SIGNING = ("sign_digest", "sign_transaction")
"""What a signer plug-in may be asked for; one of them suffices."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One thing the keeper could load: `kind` is strategy, protocol, venue or signer."""

    kind: str
    name: str
    target: str
    package: str
    version: str


@dataclass(frozen=True, slots=True)
class NamedStrategy:
    """A configured strategy; None for chains or protocols means all."""

    name: str
    strategy: Strategy
    chains: frozenset[str] | None
    protocols: frozenset[str] | None


def list_plugins() -> list[Plugin]:
    """Return everything that can be named in the configuration, the keeper's own first."""
    kinds = {STRATEGIES: "strategy", PROTOCOLS: "protocol", VENUES: "venue", SIGNERS: "signer"}
    return [
        Plugin(kind, point.name, point.value, *_package(point))
        for group, kind in kinds.items()
        for point in _points(group)
    ]


def load_protocol(name: str, where: str = "") -> Any:
    """Return the class of a lending protocol; raise `ConfigError` for an unknown name."""
    return _load(PROTOCOLS, "protocol", name, where)


def configure_market(
    chain: str,
    name: str,
    table: MarketTable,
    blame: Callable[[str], str] = lambda _: "settings",
) -> tuple[Any, BaseModel]:
    """Return the class of a configured market and its options, validated by its own `Config`.

    Raises `ConfigError` for anything amiss.
    """
    key = f"chains.{chain}.markets.{name}"
    where = f"{blame(f'{key}.protocol')}: {key}.protocol"
    kind = load_protocol(table.protocol, where)
    return kind, _configured(kind, table.protocol, table.options, where, blame, key)


def load_venue(name: str, where: str = "") -> Any:
    """Return the class of a venue, an entry point or a `file.py:Class`.

    Raises `ConfigError` when there is none.
    """
    return _load_file(name, where) if ".py:" in name else _load(VENUES, "venue", name, where)


def build_venue(
    chain: str,
    name: str,
    table: VenueTable,
    tokens: Iterable[Address],
    contract: Address,
    blame: Callable[[str], str] = lambda _: "settings",
) -> Venue:
    """Return a configured venue for tokens and its hubs, made from its own validated `Config`.

    `contract` is who sells on it. Raises `ConfigError` for anything amiss.
    """
    key = f"chains.{chain}.venues.{name}"
    where = f"{blame(f'{key}.venue')}: {key}.venue"
    kind = load_venue(table.venue, where)
    checked = _configured(kind, table.venue, table.options, where, blame, key)

    def made(config: BaseModel) -> Venue:
        venue: Venue = kind.configured(name, config, {*tokens, *table.hubs}, contract)
        return venue

    built: Venue = _instance(made, table.venue, checked, where)
    return built


def load_signer(use: str, options: dict[str, Any], where: str) -> Any:
    """Return a signer plug-in built from its validated `Config`.

    `use` is an entry point of `keeper.signers`, an installed `package.module:Class`, or a
    `file.py:Class`. Raises `ConfigError` for anything amiss.
    """
    if ".py:" in use:
        kind = _load_file(use, where)
    elif ":" in use:
        try:
            kind = EntryPoint(use, use, SIGNERS).load()
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{where}: signer {use} does not load: {_said(error)}") from error
        _check_api(kind, where)
    else:
        kind = _load(SIGNERS, "signer", use, where)
    if not any(callable(getattr(kind, name, None)) for name in SIGNING):
        raise ConfigError(f"{where}: {use} has no method {' or '.join(SIGNING)}")
    return _construct(kind, use, options, where, lambda _: where, "")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of what the `process` strategy says and is answered."""
    found: dict[str, Any] = _load(STRATEGIES, "strategy", "process", "").schema()
    return found


def check_names(settings: Settings, blame: Callable[[str], str] = lambda _: "settings") -> None:
    """Raise `ConfigError` for a protocol, venue or strategy filter that names nothing known."""
    known = {point.name for point in _points(PROTOCOLS)}
    for chain, table in settings.chains.items():
        for market, entry in table.markets.items():
            configure_market(chain, market, entry, blame)
        for venue, place in table.venues.items():
            build_venue(chain, venue, place, (), ZERO_ADDRESS, blame)
    for name, strategy in settings.strategies.items():
        for protocol in sorted((strategy.protocols or frozenset()) - known):
            key = f"strategies.{name}.protocols"
            raise _unknown("protocol", protocol, known, f"{blame(key)}: {key}")


def is_shipped(use: str) -> bool:
    """Say whether a strategy is the keeper's own."""
    return use in SHIPPED[STRATEGIES]


def load_strategy(
    name: str,
    table: StrategyTable,
    settings: Settings,
    blame: Callable[[str], str] = lambda _: "settings",
) -> Strategy:
    """Return one configured strategy, held against the rest of the settings."""
    built, seconds = build_strategy(name, table, blame)
    refuse_late(name, table, settings, seconds, blame)
    return built


def require_strategy(use: str, configured: Iterable[str], where: str) -> None:
    """Raise `ConfigError` for a name that nothing has; those of the settings are suggested, too."""
    known = {point.name for point in _points(STRATEGIES)}
    if ":" not in use and use not in known:
        raise _unknown("strategy", use, known | set(configured), where)


def build_strategy(
    name: str, table: StrategyTable, blame: Callable[[str], str] = lambda _: "settings"
) -> tuple[Strategy, int | None]:
    """Return a strategy made from its own validated `Config`, and its deadline in seconds if any."""
    key = f"strategies.{name}"
    where = f"{blame(key + '.use')}: {key}.use"
    kind = (
        _load_file(table.use, where)
        if ".py:" in table.use
        else _load(STRATEGIES, "strategy", table.use, where)
    )
    missing = [method for method in _METHODS if not callable(getattr(kind, method, None))]
    if missing:
        raise ConfigError(f"{where}: {table.use} has no method {', '.join(missing)}")
    checked = _configured(kind, table.use, table.options, where, blame, key)
    seconds = getattr(checked, "deadline_seconds", None)
    built: Strategy = _instance(kind, table.use, checked, where)
    return built, seconds if isinstance(seconds, int) else None


def refuse_late(
    name: str,
    table: StrategyTable,
    settings: Settings,
    seconds: int | None,
    blame: Callable[[str], str] = lambda _: "settings",
) -> None:
    """Raise `ConfigError` where a private transaction would become public past its deadline.

    The deadline counts from the next block, and what is public at a head is in the block after it.
    """
    if seconds is None:
        return
    key = f"strategies.{name}"
    where = f"{blame(key + '.use')}: {key}.deadline_seconds"
    for each, chain in settings.chains.items():
        after = chain.public_after * chain.block_time
        if chain.relays and each in (table.chains or {each}) and after > seconds:
            raise ConfigError(
                f"{where} is {seconds}, and chains.{each} makes a transaction public after "
                f"{chain.public_after} blocks of {chain.block_time} s",
                f"set chains.{each}.public_after to {seconds // chain.block_time} at most "
                "(0 is never), or the deadline later",
            )


def _construct(
    kind: Any,
    use: str,
    options: dict[str, Any],
    where: str,
    blame: Callable[[str], str],
    prefix: str,
) -> Any:
    """Return a plug-in's instance, made from its own validated `Config`."""
    return _instance(kind, use, _configured(kind, use, options, where, blame, prefix), where)


def _configured(
    kind: Any,
    use: str,
    options: dict[str, Any],
    where: str,
    blame: Callable[[str], str],
    prefix: str,
) -> BaseModel:
    """Return a plug-in's options, validated by its own `Config`."""
    config = getattr(kind, "Config", None)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise ConfigError(f"{where}: {use} has no pydantic model named Config")
    try:
        return config.model_validate(options)
    except ValidationError as error:
        raise complain(error, config, blame, prefix=prefix) from None


def _instance(kind: Any, use: str, checked: BaseModel, where: str) -> Any:
    try:
        return kind(checked)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: {use} does not start: {_said(error)}") from error


def _load(group: str, kind: str, name: str, where: str) -> Any:
    own = SHIPPED.get(group, {})
    if name in own:  # nobody else can have it, and to look takes longer than to load it
        found = [EntryPoint(name, own[name], group)]
    else:
        found = [point for point in _points(group) if point.name == name]
    if not found:
        raise _unknown(kind, name, {point.name for point in _points(group)}, where)
    if len(found) > 1:
        owners = " and ".join(_package(point)[0] for point in found)
        raise ConfigError(f"{where}: {owners} both offer a {kind} {name}", "uninstall one")
    point = found[0]
    try:
        loaded = _load_shipped(point) if _is_shipped(point) else point.load()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{where}: {kind} {name} of {_package(point)[0]} does not load: {_said(error)}"
        ) from error
    _check_api(loaded, where)
    return loaded


def _points(group: str) -> Iterator[EntryPoint]:
    """Yield the keeper's own entry points, then everyone else's; its own names are taken."""
    own = SHIPPED.get(group, {})
    for name, value in own.items():
        yield EntryPoint(name, value, group)
    for point in sorted(entry_points(group=group), key=lambda each: (each.name, each.value)):
        if point.name not in own:
            yield point


def _is_shipped(point: EntryPoint) -> bool:
    return SHIPPED.get(point.group, {}).get(point.name) == point.value


def _load_shipped(point: EntryPoint) -> Any:
    package, _, rest = point.module.partition(".")
    spec = importlib.util.find_spec(package)
    origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
    if origin == _BESIDE / package:
        module = importlib.import_module(point.module)
    else:
        path = _BESIDE.joinpath(package, *rest.split(".")).with_suffix(".py")
        module = _module(path, f"keeper_shipped_{rest.replace('.', '_')}")
    return getattr(module, point.attr)


def _load_file(use: str, where: str) -> Any:
    """Load `path/to/file.py:Class`; refuse a file that any user could have written."""
    file, _, name = use.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise ConfigError(f"{where}: no such file: {path}", "paths start at the configuration file")
    for each in (path, path.parent):
        mode = each.stat().st_mode
        sticky = each.is_dir() and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not sticky:
            raise ConfigError(f"{where}: anyone may write to {each}", f"chmod o-w {each}")
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    try:
        module = _module(path, f"keeper_file_{path.stem}_{digest}")
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: {path.name} does not load: {_said(error)}") from error
    if not isinstance(getattr(module, name, None), type):
        known = [each for each, value in vars(module).items() if hasattr(value, "select")]
        raise _unknown("class", name, set(known), where)
    loaded = getattr(module, name)
    _check_api(loaded, where)
    return loaded


def _module(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pydantic look a class's module up by name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_api(loaded: Any, where: str) -> None:
    wanted = getattr(loaded, "PLUGIN_API", keeper.PLUGIN_API)
    if wanted != keeper.PLUGIN_API:
        raise ConfigError(
            f"{where}: {loaded.__name__} is written for plug-in API {wanted}, "
            f"this keeper speaks {keeper.PLUGIN_API}",
            "update the plug-in" if wanted < keeper.PLUGIN_API else "update the keeper",
        )


def _package(point: EntryPoint) -> tuple[str, str]:
    distribution = point.dist
    if distribution is None:
        return "keeper", _version()
    return distribution.name, distribution.version


def _version() -> str:
    try:
        return version("keeper")
    except PackageNotFoundError:
        return "checkout"


def _unknown(kind: str, name: str, known: set[str], where: str) -> ConfigError:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
    return ConfigError(f"{where}: no {kind} is named {name!r}", hint)


def _said(error: BaseException) -> str:
    """Return an exception as one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def load_named(plugin: Plugin) -> str | None:
    """Load a listed plug-in and return what is wrong with it, None when nothing is."""
    groups = {"strategy": STRATEGIES, "protocol": PROTOCOLS, "venue": VENUES, "signer": SIGNERS}
    try:
        _load(groups[plugin.kind], plugin.kind, plugin.name, plugin.package)
    except ConfigError as error:
        return str(error)
    return None
