"""What stands on a tape, record by record, and how it is written.

A tape begins with its `Title`. A `State` holds every source's pages at one head; a `Block` is folded
on it, an `Undone` takes the last one back. `Asked` are requests answered at the head before. `Reads`
are the answers a decision at the last folded head rests on: only behind them is a head decided on.
`Taken` tells who was liquidated in the last block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from keeper.journal.codec import dump, load
from keeper.types import Call, CallResult, Head, Log
from keeper.units import Address, Hash, Wei, to_hex


@dataclass(frozen=True, slots=True)
class Title:
    """Which chain a tape is of and what was watched; it holds no address of a node and no secret.

    `markets` are protocol and pool by name, `venues` digests of their settings.
    """

    chain: str
    chain_id: int
    block_time: int
    contract: str
    markets: Mapping[str, Sequence[str]]
    venues: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a node and its answer; `error` is code and message of a refusal."""

    method: str
    params: Sequence[Any]
    answer: Any
    error: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Every source's state at a head, in pages by source."""

    head: Head
    pages: Mapping[str, Sequence[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """A block and the logs watched in it, in order."""

    head: Head
    logs: Sequence[Log]


@dataclass(frozen=True, slots=True)
class Undone:
    """The last block was reorganised out."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read at the last block's hash: prices, and what else every head needs."""

    calls: Sequence[Call]
    results: Sequence[CallResult]


@dataclass(frozen=True, slots=True)
class Liquidation:
    """One liquidation as the chain holds it; `to` is what its sender called."""

    market: str
    borrower: Address
    debt: Address
    collateral: Address
    repaid: int
    seized: int
    liquidator: Address
    to: Address
    tx_hash: Hash
    block_number: int
    tx_index: int
    gas_used: int
    gas_price: Wei


@dataclass(frozen=True, slots=True)
class Taken:
    """The liquidations of the blocks since the last `Reads`, in order."""

    liquidations: Sequence[Liquidation]


Record = Title | Asked | State | Block | Undone | Reads | Taken


class Encoding:
    """Turn records into JSON values; a read that answers as before is left out."""

    def __init__(self) -> None:
        self._calls: Sequence[Call] = ()
        self._results: list[CallResult] = []

    def encode(self, record: Record) -> list[Any]:
        """Return a record as a JSON value; of a state only what its pages are of."""
        match record:
            case Title():
                return ["title", asdict(record)]
            case Asked():
                return ["asked", record.method, record.params, record.answer, record.error]
            case State():
                counts = {name: len(pages) for name, pages in record.pages.items()}
                return ["state", dump(record.head), counts]
            case Block():
                return ["block", dump(record.head), [_log(each) for each in record.logs]]
            case Undone():
                return ["undone"]
            case Reads():
                return ["reads", *self._reads(record)]
            case Taken():
                return ["taken", [_plain(each) for each in record.liquidations]]

    def _reads(self, record: Reads) -> tuple[Any, dict[str, str]]:
        calls = None
        if tuple(record.calls) != tuple(self._calls):
            calls = [[to_hex(call.target), to_hex(call.data)] for call in record.calls]
            self._calls, self._results = record.calls, []
        held = self._results
        changed = {
            str(index): ("" if result.ok else "!") + result.data.hex()
            for index, result in enumerate(record.results)
            if index >= len(held) or held[index] != result
        }
        self._results = list(record.results)
        return calls, changed


class Decoding:
    """Turn JSON values back into records; whatever does not fit raises ValueError or its like."""

    def __init__(self) -> None:
        self._calls: Sequence[Call] = ()
        self._results: list[CallResult] = []

    def decode(self, value: list[Any], pages: Mapping[str, Sequence[bytes]]) -> Record:
        """Return the record; `pages` are those that stand before a state."""
        match value:
            case ["title", about]:
                return Title(**about)
            case ["asked", method, params, answer, error]:
                return Asked(method, params, answer, None if error is None else tuple(error))
            case ["state", head, counts]:
                if counts != {name: len(held) for name, held in pages.items()}:
                    raise ValueError("pages of a state are missing")
                return State(load(Head, head), pages)
            case ["block", header, logs]:
                head = load(Head, header)
                return Block(head, [_read_log(each, head) for each in logs])
            case ["undone"]:
                return Undone()
            case ["reads", calls, changed]:
                return self._reads(calls, changed)
            case ["taken", liquidations]:
                return Taken([_liquidation(each) for each in liquidations])
            case _:
                raise ValueError("a record of no known kind")

    def _reads(self, calls: Any, changed: Mapping[str, str]) -> Reads:
        if calls is not None:
            self._calls = tuple(
                Call(Address(_bytes(target)), _bytes(data)) for target, data in calls
            )
            self._results = [CallResult(False, b"")] * len(self._calls)
            if len(changed) != len(self._calls):
                raise ValueError("answers are missing")
        for index, text in changed.items():
            self._results[int(index)] = CallResult(
                not text.startswith("!"), bytes.fromhex(text.removeprefix("!"))
            )
        return Reads(self._calls, tuple(self._results))


def _log(log: Log) -> list[Any]:
    topics = [topic.hex() for topic in log.topics]
    return [log.address.hex(), topics, log.data.hex(), log.index, log.tx_hash.hex()]


def _read_log(value: list[Any], head: Head) -> Log:
    address, topics, data, index, tx_hash = value
    return Log(
        Address(bytes.fromhex(address)),
        tuple(bytes.fromhex(topic) for topic in topics),
        bytes.fromhex(data),
        head.number,
        head.hash,
        index,
        Hash(bytes.fromhex(tx_hash)),
        head.timestamp,
    )


def _plain(found: Liquidation) -> list[str | int]:
    values = (getattr(found, each.name) for each in fields(found))
    return [
        value
        if isinstance(value, str)
        else to_hex(value)
        if isinstance(value, bytes)
        else str(value)
        for value in values
    ]


def _liquidation(value: list[str]) -> Liquidation:
    market, borrower, debt, collateral, repaid, seized, liquidator, to, tx_hash, *counts = value
    block_number, tx_index, gas_used, gas_price = map(int, counts)
    return Liquidation(
        market,
        Address(_bytes(borrower)),
        Address(_bytes(debt)),
        Address(_bytes(collateral)),
        int(repaid),
        int(seized),
        Address(_bytes(liquidator)),
        Address(_bytes(to)),
        Hash(_bytes(tx_hash)),
        block_number,
        tx_index,
        gas_used,
        Wei(gas_price),
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
