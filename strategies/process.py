"""Let a program in any language decide: one JSON object a line, asked and answered.

`keeper plugins --schema` prints what is said, generated from the classes below. Integers that may
pass 2**53 (wei, prices, dollars with eight decimals) are strings of decimal digits, bytes are 0x and
hexadecimal digits. Whoever reads should pass over fields it does not know; this does.
"""

import json
import threading
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keeper import (
    PLUGIN_API,
    Address,
    Bid,
    BidRecord,
    Bps,
    Cause,
    Child,
    ConfigError,
    FeeHistory,
    Inclusion,
    Limits,
    NextBlock,
    Opportunity,
    Portion,
    Position,
    Prices,
    Quote,
    Reason,
    Seizure,
    Skip,
    Terms,
    Token,
    Usd,
    View,
)

SMALL: Final = frozenset(
    {
        *("id", "api", "deadline_ms", "number", "timestamp", "decimals", "deadline"),
        *("index", "pairs", "calls", "part", "parts"),
    }
)
"""Integers told as JSON numbers, beside basis points: they stay far below 2**53."""
MARGIN: Final = 0.85
"""How much of a head's deadline the program has; the rest is for reading and writing."""
LARGEST: Final = 2**127
"""No amount a program may answer with is larger."""
WORD: Final = 2**64
"""What is told as a JSON number is smaller, a deadline as well: a call has eight bytes for it."""
MOST_CALLS: Final = 4
"""Calls on one position that the keeper allows in one transaction."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first request; to be answered by `Ready`."""

    id: int
    type: Literal["hello"]
    api: int
    keeper: str
    chain: str


@dataclass(frozen=True, slots=True)
class Ready:
    """What the program answers `Hello` with: the `api` it is written for."""

    id: int
    api: int


@dataclass(frozen=True, slots=True)
class Pair:
    """What the protocol allows on one pair, and what the largest repay seizes."""

    collateral: Token
    debt: Token
    maximum: int
    bonus: Bps
    seizure: Seizure


@dataclass(frozen=True, slots=True)
class Risk:
    """A position that can be liquidated."""

    position: Position
    pairs: tuple[Pair, ...]
    refusals: tuple[Skip, ...]
    cause: Cause


@dataclass(frozen=True, slots=True)
class Market:
    """What is the same for all positions of one head."""

    chain: str
    next_block: NextBlock
    native: Token
    inclusion: Inclusion
    fee_history: FeeHistory | None
    bid_record: BidRecord


@dataclass(frozen=True, slots=True)
class Select:
    """A request: which of `at_risk` to price; to be answered by `Selected`."""

    id: int
    type: Literal["select"]
    deadline_ms: int
    market: Market
    at_risk: tuple[Risk, ...]
    prices: Mapping[str, Prices]


@dataclass(frozen=True, slots=True)
class Take:
    """A position to price, by its place in `at_risk`; `pairs` by their places, all when absent.

    Dollars have eight decimals. The rest is as in `Limits`.
    """

    index: int
    minimum_profit: Usd
    pairs: tuple[int, ...] | None = None
    largest_repay: Usd | None = None
    venues: tuple[str, ...] | None = None
    whole: bool = False
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Refuse:
    """A position left alone, by its place in `at_risk`, and why."""

    index: int
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Selected:
    """What the program answers `Select` with."""

    id: int
    take: tuple[Take, ...] = ()
    refuse: tuple[Refuse, ...] = ()


@dataclass(frozen=True, slots=True)
class Priced:
    """A quote: amounts in units of the debt token, gas in gas units, dollars with eight decimals.

    Of several calls on one position (`parts`) this is number `part`, counted from 0.
    """

    market: str
    borrower: Address
    collateral: Token
    debt: Token
    repay: int
    routes: tuple[Portion, ...]
    gas: int
    proceeds: int
    repaid: int
    premium: int
    gas_cost: int
    data_fee: int
    net: int
    net_usd: Usd
    minimum_profit: int
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A request: what to pay for a place in the block; to be answered by `Offered`."""

    id: int
    type: Literal["bid"]
    deadline_ms: int
    market: Market
    quote: Priced


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a quote is not taken."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the program answers `Offer` with: a bid, or why there is none."""

    id: int
    bid: Bid | None = None
    refuse: Decline | None = None


SAID: Final = (Hello, Select, Offer)
ANSWERED: Final = (Ready, Selected, Offered)


def _harmless(name: str) -> str:
    if name.upper().startswith("KEEPER_"):
        raise ValueError(f"{name} is the keeper's own: a program is not given it")
    return name


class Process:
    """Ask a program what to take and what to bid; without its answer a head goes on without it."""

    class Config(BaseModel):
        """What an operator may set under `[strategies.NAME]`."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        command: Annotated[tuple[str, ...], Field(min_length=1)]
        """The program and its arguments; one that starts with ./ lies beside the configuration."""
        environment: tuple[Annotated[str, AfterValidator(_harmless)], ...] = ()
        """Names of environment variables it gets beside PATH, HOME, TZ, TMPDIR and the language."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._children: dict[str, Child] = {}
        self._limits: dict[str, tuple[bytes, dict[tuple[str, Address], Limits]]] = {}
        self._markets: dict[str, tuple[View, str]] = {}
        self._lock = threading.Lock()

    def open(self, chain: str) -> None:
        """Start the program for one chain; raise `ConfigError` when it is not ready in time."""
        child = self._child(chain)
        if not child.open():
            raise ConfigError(f"{self._config.command[0]}: {child.why or 'it does not answer'}")

    def close(self) -> None:
        """End the program of every chain."""
        for child in self._children.values():
            child.close()

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return what the program takes and refuses; raise `TransientError` without an answer."""
        child = self._child(view.chain)
        risks = [
            Risk(risk.position, tuple(map(_pair, risk.pairs)), risk.refusals, risk.cause)
            for risk in view.at_risk
        ]
        content = {
            "type": "select",
            "at_risk": encode(risks),
            "prices": encode(view.prices),
        }
        answer = child.ask(content, view.deadline_ms * MARGIN / 1000, self._told(view))
        try:
            selected: Selected = decode(Selected, answer)
            found, limits = _chosen(selected, view)
        except (ValueError, IndexError) as error:
            child.refuse(f"its answer makes no sense: {error}")
        self._limits[view.chain] = view.head.hash, limits
        return iter(found)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        """Return what the program set when it took this position."""
        return self._limits[view.chain][1][opportunity.key]

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Return what the program pays; raise `TransientError` without an answer."""
        child = self._child(view.chain)
        content = {"type": "bid", "quote": encode(_priced(quote))}
        answer = child.ask(content, view.deadline_ms * MARGIN / 1000, self._told(view))
        try:
            offered: Offered = decode(Offered, answer)
        except ValueError as error:
            child.refuse(f"its answer makes no sense: {error}")
        if offered.bid is not None:
            return offered.bid
        declined = offered.refuse or Decline(Reason.DENIED, "the program gave no bid")
        return _skip(quote.opportunity.position, declined.reason, declined.detail)

    def _told(self, view: View) -> dict[str, str]:
        """Return what each request of a view holds, written down once: bids go into thousands."""
        held, text = self._markets.get(view.chain, (None, ""))
        if held is not view:
            text = json.dumps(encode(_market(view)), separators=(",", ":"))
            self._markets[view.chain] = view, text
        return {"market": text}

    def _child(self, chain: str) -> Child:
        with self._lock:
            child = self._children.get(chain)
            if child is None:
                command, more = self._config.command, self._config.environment
                child = Child(
                    f"{Path(command[0]).name} ({chain})", command, PLUGIN_API, chain, more
                )
                self._children[chain] = child
            return child

    @staticmethod
    def schema() -> dict[str, Any]:
        """Return the JSON Schema of everything that is said and answered."""
        known: dict[str, Any] = {}
        for kind in (*SAID, *ANSWERED):
            _define(kind, known)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"keeper process strategy, API {PLUGIN_API}",
            "requests": {"oneOf": [_reference(kind) for kind in SAID]},
            "answers": {"anyOf": [_reference(kind) for kind in ANSWERED]},
            "$defs": known,
        }


def encode(value: Any, name: str = "", kind: Any = None) -> Any:
    """Return a value as JSON holds it; `name` and `kind` are those of the field it stands in."""
    match value:
        case None | bool():
            return value
        case Enum():
            return value.value
        case int():
            return value if name in SMALL or kind is Bps else str(value)
        case str():
            return value
        case bytes():
            return f"0x{value.hex()}"
        case Mapping():
            return {_key(each): encode(below) for each, below in value.items()}
        case list() | tuple() | set() | frozenset():
            return [encode(each, name) for each in value]
        case _:
            kinds = _kinds(type(value))
            return {each: encode(getattr(value, each), each, kinds[each]) for each in kinds}


def decode(kind: Any, value: Any, name: str = "answer") -> Any:
    """Return what JSON says of a type; raise ValueError where it says something else.

    Integers may be numbers or strings, and are not negative; unknown fields are passed over.
    """
    origin = typing.get_origin(kind)
    if origin in {types.UnionType, typing.Union}:
        if value is None:
            return None
        (inner,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
        return decode(inner, value, name)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")
        return tuple(decode(typing.get_args(kind)[0], each, name) for each in value)
    kind = getattr(kind, "__supertype__", kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _decode_fields(kind, value, name)
    if kind is int:
        return _integer(value, name)
    if isinstance(kind, type) and issubclass(kind, Enum):
        if not isinstance(value, str) or value not in {each.value for each in kind}:
            raise ValueError(f"{name} is none of {', '.join(str(each.value) for each in kind)}")
        return kind(value)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is no {kind.__name__}")  # noqa: TRY004 - of what was read
    return value


def _decode_fields(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is no object")  # noqa: TRY004 - of what was read
    given = {}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    for field, below in _kinds(kind).items():
        if field in value:
            given[field] = decode(below, value[field], field)
        elif field not in optional:
            raise ValueError(f"{name} has no {field}")
    return kind(**given)


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 40:
        value = int(value)
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is no amount: a number, or a string of digits")
    if name in SMALL and value >= WORD:
        raise ValueError(f"{name} is more than 64 bits hold")
    return value


_KNOWN: dict[type, dict[str, Any]] = {}


def _kinds(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    known = _KNOWN.get(kind)
    if known is None:
        hints = typing.get_type_hints(kind, localns={"Terms": Terms})
        known = _KNOWN[kind] = {field.name: hints[field.name] for field in fields(kind)}
    return known


def _key(key: Any) -> str:
    return f"0x{key.hex()}" if isinstance(key, bytes) else str(key)


def _pair(terms: Terms) -> Pair:
    seized = terms.seize(terms.maximum)
    return Pair(terms.collateral, terms.debt, terms.maximum, terms.bonus, seized)


def _market(view: View) -> Market:
    return Market(
        view.chain,
        view.next_block,
        view.native,
        view.inclusion,
        view.fee_history,
        view.bid_record,
    )


def _priced(quote: Quote) -> Priced:
    step = quote.steps[0]
    position = quote.opportunity.position
    return Priced(
        position.market,
        position.borrower,
        step.terms.collateral,
        quote.debt,
        sum(each.repay for each in quote.steps),
        quote.routes,
        quote.gas,
        quote.proceeds,
        quote.repaid,
        quote.premium,
        quote.gas_cost,
        quote.data_fee,
        quote.net,
        quote.net_usd,
        quote.minimum_profit,
        quote.part,
        quote.parts,
    )


def _chosen(
    selected: Selected, view: View
) -> tuple[list[Opportunity | Skip], dict[tuple[str, Address], Limits]]:
    found: list[Opportunity | Skip] = []
    limits: dict[tuple[str, Address], Limits] = {}
    for take in selected.take:
        risk = view.at_risk[take.index]
        places = range(len(risk.pairs)) if take.pairs is None else take.pairs
        pairs = tuple(risk.pairs[place] for place in places)
        if not pairs:
            raise ValueError(f"no pair of position {take.index} is taken")
        if risk.position.key in limits:
            raise ValueError(f"position {take.index} is taken twice")
        if not 1 <= take.calls <= MOST_CALLS:
            raise ValueError(f"calls of position {take.index} is no number from 1 to {MOST_CALLS}")
        limits[risk.position.key] = Limits(
            take.minimum_profit,
            take.largest_repay,
            None if take.venues is None else frozenset(take.venues),
            take.whole,
            take.calls,
        )
        found.append(Opportunity(risk.position, pairs, risk.cause))
    for each in selected.refuse:
        position = view.at_risk[each.index].position
        found.append(_skip(position, each.reason, each.detail))
    return found, limits


def _skip(position: Position, reason: Reason, detail: str) -> Skip:
    return Skip(position.market, position.protocol, position.borrower, reason, detail[:200])


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _define(kind: type, known: dict[str, Any]) -> dict[str, str]:
    """Write down a dataclass, and what it is made of; return a reference to it."""
    if kind.__name__ not in known:
        known[kind.__name__] = {}
        optional = {field.name for field in fields(kind) if field.default is not MISSING}
        shapes = {name: _shape(each, name, known) for name, each in _kinds(kind).items()}
        known[kind.__name__] = {
            "type": "object",
            "description": " ".join((kind.__doc__ or "").split()),
            "properties": shapes,
            "required": [name for name in shapes if name not in optional],
        }
    return _reference(kind)


def _shape(kind: Any, name: str, known: dict[str, Any]) -> dict[str, Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Bps:
        return {"type": "integer"}
    kind = getattr(kind, "__supertype__", kind)
    if origin in {types.UnionType, typing.Union}:
        return {"anyOf": [_shape(each, name, known) for each in inner]}
    if origin is Literal:
        return {"const": inner[0]}
    if origin is tuple:
        return {"type": "array", "items": _shape(inner[0], name, known)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _shape(inner[1], "", known)}
    if is_dataclass(kind) and isinstance(kind, type):
        return _define(kind, known)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    if kind is int:
        return _INTEGER if name in SMALL else {"type": "string", "pattern": "^-?[0-9]+$"}
    return _PLAIN[kind]


_INTEGER: Final = {"type": "integer"}
_PLAIN: Final[Mapping[Any, dict[str, Any]]] = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    bytes: {"type": "string", "pattern": "^0x[0-9a-f]*$"},
    types.NoneType: {"type": "null"},
}
