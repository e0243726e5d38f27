"""Nouns as bytes for a strategy's own process, and back, in half the time pickle takes alone.

A dataclass with slots pickles itself by asking for its fields each time, and is built again one
checked attribute at a time. Here its values go as one tuple and are put into its slots.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, cast


def pack(value: object) -> bytes:
    """Return a value as bytes that `unpack` reads."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def unpack(content: bytes) -> Any:
    """Return the value; only ever of bytes the keeper itself wrote."""
    return pickle.loads(content)  # noqa: S301


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        values = _values(cast("Any", type(value)))
        return NotImplemented if values is None else (_made, (type(value), values(value)))


@cache
def _values(kind: Any) -> Callable[[Any], Sequence[Any]] | None:
    """Return what reads all fields of a dataclass; None for a type that looks after itself."""
    if not (is_dataclass(kind) and _is_plain(kind)):
        return None
    names = [each.name for each in fields(kind)]
    # of one name it would return the value itself
    return (
        attrgetter(*names) if len(names) > 1 else lambda value: [getattr(value, n) for n in names]
    )


def _is_plain(kind: Any) -> bool:
    """Tell whether the fields are all there is to it: slots alone, and pickled as dataclasses are."""
    slots = {name for each in kind.__mro__[:-1] for name in vars(each).get("__slots__", ())}
    return (
        all("__slots__" in vars(each) for each in kind.__mro__[:-1])
        and slots == {each.name for each in fields(kind)}
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind.__getstate__, "__module__", None) in {None, "dataclasses"}
    )


def _made(kind: Any, values: Sequence[Any]) -> Any:
    return _maker(kind)(*values)


@cache
def _maker(kind: Any) -> Callable[..., Any]:
    """Return what puts values into new slots: written out, since a loop takes half as long again."""
    puts = [getattr(kind, each.name).__set__ for each in fields(kind)]
    given = [f"value{number}" for number in range(len(puts))]
    body = "".join(f"\n    put_{each}(made, {each})" for each in given)
    source = f"def make({', '.join(given)}):\n    made = new(kind){body}\n    return made"
    scope: dict[str, Any] = {"new": object.__new__, "kind": kind}
    scope.update((f"put_{each}", put) for each, put in zip(given, puts, strict=True))
    exec(source, scope)  # noqa: S102  # no name in it is anybody else's
    return cast("Callable[..., Any]", scope["make"])
