"""Draw a keeper's status for a terminal; a part the status does not have is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def draw(status: Mapping[str, Any]) -> Group:
    """Return header, a strip for each chain, riskiest positions, last receipts and breakers."""
    from rich.console import Group

    return Group(*_parts(status))


def _parts(status: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    header = Text("keeper ")
    header.append(_state(status.get("state")))
    for key in ("version", "mode"):
        if key in status:
            header.append(f"  {key} {status[key]}")
    if "uptime" in status:
        header.append(f"  up {_duration(status['uptime'])}")
    yield header
    for name, chain in status.get("chains", {}).items():
        yield from _chain(name, chain)


def _chain(name: str, chain: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    from keeper.cli.screen import short, table

    strip = Text.assemble("\n", (name, "bold"), " ", _state(chain.get("state")))
    for key, value in chain.items():
        if key != "state" and not isinstance(value, Mapping | list) and value is not None:
            strip.append(f"  {key.replace('_', ' ')} {_number(value)}")
    yield strip
    for key, value in chain.items():
        if isinstance(value, Mapping) and value:
            pairs = (f"{each.replace('_', ' ')} {_number(below)}" for each, below in value.items())
            yield Text(f"  {key.replace('_', ' ')}: {'  '.join(pairs)}")
        elif isinstance(value, list) and value:
            if all(isinstance(each, Mapping) for each in value):
                columns = list(dict.fromkeys(column for each in value for column in each))
                rows = [
                    [
                        short(str(_number(each.get(column, "–"))))
                        if column in _HEX
                        else _number(each.get(column, "–"))
                        for column in columns
                    ]
                    for each in value[:10]
                ]
                yield Text(f"  {key.replace('_', ' ')}")
                yield table([column.replace("_", " ") for column in columns], rows)
            else:
                words = ", ".join(str(each) for each in value)
                yield Text(f"  {key.replace('_', ' ')}: {words}")


_HEX = frozenset({"borrower", "tx", "hash", "transaction", "wallet"})


def _state(state: object) -> Any:
    from rich.text import Text

    word = str(state or "unknown")
    return Text(word, style=_COLOURS.get(word, ""))


def _number(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", " ")
        case float():
            return f"{value:,.2f}".replace(",", " ")
        case None:
            return "–"
        case _:
            return str(value)


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return str(seconds)
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
