"""What an aggregator's answer says, and what of it is refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keeper.errors import TransientError
from keeper.units import Address

MOST_DATA = 4096
"""Bytes of one call: a group has room for a few."""
MOST_ANSWER = 1 << 17


@dataclass(frozen=True, slots=True)
class Lane:
    """A sale the API may be asked about: the token sold, the token bought, the least amount."""

    sold: Address
    bought: Address
    least: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """A call that sells exactly `amount`; `minimum` is what it promises to bring at least."""

    lane: Lane
    amount: int
    minimum: int
    data: bytes


def read_offer(
    content: bytes,
    fields: Mapping[str, str],
    lane: Lane,
    amount: int,
    router: Address,
    selectors: frozenset[bytes],
) -> Offer:
    """Return the offer of an answer, its fields by dotted paths.

    Raises `TransientError` for one that is no offer for this sale through the allowed router.
    """
    try:
        answer = json.loads(content)
    except ValueError:
        raise TransientError("the answer is no JSON") from None
    target, data = _text(answer, fields["to"]), _bytes(_text(answer, fields["data"]))
    minimum = _integer(_text(answer, fields["minimum"]))
    if _bytes(target) != router:
        raise TransientError("the answer calls another contract than the router")
    if data[:4] not in selectors:
        raise TransientError("the answer calls a function that is not allowed")
    if len(data) > MOST_DATA:
        raise TransientError(f"the call has {len(data)} bytes, {MOST_DATA} at most have room")
    value = _at(answer, fields["value"])
    if value is not None and _integer(value):
        raise TransientError("the call wants native coin")
    told = _at(answer, fields["amount"])
    if told is not None and _integer(told) != amount:
        raise TransientError("the answer is for another amount")
    if minimum <= 0:
        raise TransientError("the answer promises nothing")
    return Offer(lane, amount, minimum, data)


def _at(answer: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(answer, dict):
            return None
        answer = answer.get(name)
    return answer


def _text(answer: Any, path: str) -> str:
    found = _at(answer, path)
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise TransientError(f"the answer has no {path}")
    return str(found)


def _integer(value: Any) -> int:
    """Return a whole number that JSON holds as text, decimal or 0x, or as a number."""
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return int(str(value), 16 if str(value).startswith("0x") else 10)
    except ValueError:
        raise TransientError("the answer has an amount that is no whole number") from None


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise TransientError("the answer has bytes that are no hex") from None
