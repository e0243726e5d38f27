"""A feed as it is kept over a restart."""

import json
from dataclasses import asdict, fields

from keeper.oracles.watch import MOVES_KEPT, QUIET_KEPT, Feed

_SECONDS = 1 << 40
_AMOUNT = 1 << 256
_OPTIONAL = {"left", "off", "lag"}
_LISTS = {"quiet": (QUIET_KEPT, _SECONDS), "moves": (MOVES_KEPT, _AMOUNT)}
_MOST = {"price": _AMOUNT, "off": _AMOUNT}


def written(feed: Feed) -> str:
    """Return a feed as JSON."""
    return json.dumps(asdict(feed), separators=(",", ":"))


def read(record: str) -> Feed:
    """Return the feed that `written` wrote; raise `ValueError`, saying what, for anything else."""
    found = json.loads(record)
    names = {field.name for field in fields(Feed)}
    if not isinstance(found, dict) or found.keys() != names:
        raise ValueError("its fields are others")
    for name, value in found.items():
        if name in _LISTS:
            count, most = _LISTS[name]
            good = isinstance(value, list) and len(value) <= count
            good = good and all(type(each) is int and 0 <= each < most for each in value)
        elif name == "is_undated":
            good = isinstance(value, bool)
        else:
            most, least = _MOST.get(name, _SECONDS), -_AMOUNT if name == "off" else 0
            good = (value is None and name in _OPTIONAL) or (
                type(value) is int and least <= value < most
            )
        if not good:
            raise ValueError(f"{name} cannot be {str(value)[:40]}")
    if not found["price"]:
        raise ValueError("price cannot be 0")
    return Feed(**found | {name: tuple(found[name]) for name in _LISTS})
