"""Nouns to JSON and back by their type hints: integers as decimal text, bytes as 0x hex.

Amounts exceed every JSON number, so no integer is written as one. A field added later with a
default reads back from an older record.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast

import orjson

from keeper.errors import InvariantError
from keeper.ports import Terms
from keeper.types import FlashSource, Opportunity, Quote, Seizure, Token
from keeper.units import Bps, to_hex

T = TypeVar("T")
_LEFT_OUT = {(Opportunity, "pairs"), (FlashSource, "shuts")}
"""Fields that a record does without: what was not taken, and all the pools of an exchange that lends."""
_LASTING = {"opportunity", "steps", "routes", "flash", "debt", "fallback"}
"""What a quote has in common with others of its plan, or with itself once the plan was simulated."""
_MOST_KEPT = 1_024
"""Objects of each of those whose JSON is kept."""


@dataclass(frozen=True, slots=True)
class RecordedTerms:
    """What a protocol allowed when a plan was made; it answers for the recorded figures only."""

    collateral: Token
    debt: Token
    maximum: int
    bonus: Bps
    scaled_debt: int
    repay: int
    seizure: Seizure

    def legal_down(self, repay: int) -> int:
        """Return the recorded repay; raise `InvariantError` for another."""
        if repay != self.repay:
            raise InvariantError("journal", "a recorded plan cannot be sized again")
        return self.repay

    def seize(self, repay: int) -> Seizure:
        """Return the recorded seizure; raise `InvariantError` for another repay."""
        self.legal_down(repay)
        return self.seizure


def record_terms(terms: Terms) -> RecordedTerms:
    """Keep what a pair allowed, at its largest legal repay."""
    repay = terms.legal_down(terms.maximum)
    seizure = terms.seize(repay) if repay else Seizure(0, 0, 0)
    return RecordedTerms(
        terms.collateral,
        terms.debt,
        terms.maximum,
        terms.bonus,
        terms.scaled_debt,
        repay,
        seizure,
    )


def dump(value: object) -> Any:
    """Turn a noun into what `orjson` can write; an opportunity's pairs are left out (`dump_whole`)."""
    return _dumper(type(value))(value)


def dump_whole(found: Opportunity) -> Any:
    """Turn an opportunity with its pairs into what JSON can hold.

    A plan's record does without those not taken: they stand with the opportunity, and a send waits.
    """
    return {**dump(found), "pairs": dump(found.pairs)}


def _make_dumper(kind: Any) -> Callable[[Any], Any]:
    """Return what writes values of one type; found once, since a plan stands before its send."""
    if kind in {type(None), bool, str}:
        return lambda value: value
    if issubclass(kind, (StrEnum, int)):
        return str
    if issubclass(kind, bytes):
        return to_hex
    if issubclass(kind, (tuple, list, frozenset, set)):
        return lambda value: [_dumper(type(item))(item) for item in value]
    if issubclass(kind, Mapping):
        return lambda value: {_key(key): dump(item) for key, item in value.items()}
    if kind is RecordedTerms or kind.__module__ == Token.__module__:
        return _noun_dumper(kind)
    return lambda value: dump(record_terms(value))


def _noun_dumper(kind: Any) -> Callable[[Any], Any]:
    """Return what writes one noun, as a single expression: by what its fields are declared to be.

    What is declared an integer, text, bytes or another noun is not looked at twice.
    """
    hints = typing.get_type_hints(kind, localns={"Terms": RecordedTerms})
    writers: dict[str, Callable[[Any], Any]] = {}
    parts = []
    for item in fields(kind):
        is_left_out = (kind, item.name) in _LEFT_OUT
        write = _nothing if is_left_out else _declared(hints[item.name])
        is_lasting = kind is Quote and item.name in _LASTING
        writers[f"_{item.name}"] = _kept(write) if is_lasting else write
        parts.append(f"{item.name!r}: _{item.name}(value.{item.name})")
    source = f"lambda value: {{{', '.join(parts)}}}"
    return cast("Callable[[Any], Any]", eval(source, writers))  # noqa: S307  # our own fields' names


def _kept(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what writes each of the last objects it was given once, and knows it again."""
    known: dict[int, tuple[object, orjson.Fragment]] = {}

    def written(value: object) -> orjson.Fragment:
        found = known.get(id(value))
        if found is None:
            if len(known) >= _MOST_KEPT:
                known.clear()
            # held, so that no other object comes to have its identity
            found = known[id(value)] = value, orjson.Fragment(orjson.dumps(write(value)))
        return found[1]

    return written


def _nothing(_: object) -> list[object]:
    return []


def _declared(hint: Any) -> Callable[[Any], Any]:
    kind = _plain(hint)
    if kind in {int, str}:
        return str
    if kind is bytes:
        return to_hex
    if isinstance(kind, type) and kind is not RecordedTerms and kind.__module__ == Token.__module__:
        return _dumper(kind)
    return dump


def _plain(hint: Any) -> Any:
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return hint


_dumper = cast("Callable[[object], Callable[[Any], Any]]", cache(_make_dumper))


def _key(key: object) -> str:
    return to_hex(key) if isinstance(key, bytes) else str(key)


def load(kind: type[T], data: Any) -> T:
    """Turn `dump`'s output back into the noun it came from."""
    return cast("T", _loader(cast("Any", kind))(data))


def _bytes(data: str) -> bytes:
    return bytes.fromhex(data[2:])


_SCALARS: dict[object, Callable[[Any], Any]] = {
    int: int,
    bytes: _bytes,
    bool: bool,
    str: str,
    type(None): lambda _: None,
}


def _split(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a quote or sale recorded before sales were divided, all of it along its one route."""
    route = data["route"]
    return {**data, "routes": [{"route": route}] if route else []}


@cache
def _loader(kind: Any) -> Callable[[Any], Any]:
    kind = _plain(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _optional(arguments)
    if origin in {tuple, frozenset}:
        item = _loader(arguments[0])
        return lambda data: origin(item(entry) for entry in data)
    if origin is not None and issubclass(origin, Mapping):
        key, item = _loader(arguments[0]), _loader(arguments[1])
        return lambda data: {key(name): item(entry) for name, entry in data.items()}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind
    return _dataclass(kind)


def _optional(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    (kind,) = (argument for argument in arguments if argument is not type(None))
    item = _loader(kind)
    return lambda data: None if data is None else item(data)


def _dataclass(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind, localns={"Terms": RecordedTerms})
    required = {
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING
    }

    def build(data: Mapping[str, Any]) -> Any:
        if "route" in data and "routes" in hints:
            data = _split(data)
        missing = required - data.keys()
        if missing:
            raise InvariantError("journal", f"a recorded {kind.__name__} lacks {min(missing)}")
        return kind(**{name: _loader(hints[name])(data[name]) for name in hints if name in data})

    return build
