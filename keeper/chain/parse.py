"""Node JSON to nouns and back; what does not decode is an error, never skipped."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from keeper.errors import TransientError
from keeper.types import Head, Log
from keeper.units import Hash, Wei

_PLACE = itemgetter(Log._fields.index("block_number"), Log._fields.index("index"))


def quantity(text: str) -> int:
    """Read a JSON-RPC quantity."""
    return int(text, 16)


def blob(text: str) -> bytes:
    """Read JSON-RPC data: 0x-prefixed hex."""
    return bytes.fromhex(text[2:])


def head(header: Mapping[str, Any]) -> Head:
    """Read a block header, from a subscription or from a block request."""
    try:
        return Head(
            number=int(header["number"], 16),
            hash=Hash(blob(header["hash"])),
            parent=Hash(blob(header["parentHash"])),
            timestamp=int(header["timestamp"], 16),
            base_fee=Wei(int(header.get("baseFeePerGas") or "0x0", 16)),
            gas_used=int(header["gasUsed"], 16),
            gas_limit=int(header["gasLimit"], 16),
            bloom=blob(header.get("logsBloom") or "0x"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"the node sent a malformed header: {error!r}") from error


def log(entry: Mapping[str, Any]) -> Log:
    """Read one event log; one that a reorg took off the chain is refused."""
    return logs([entry])[0]


def logs(entries: Sequence[Mapping[str, Any]]) -> list[Log]:
    """Read logs and put them in chain order; raise `TransientError` unless all can be read."""
    if not isinstance(entries, list):
        raise TransientError("the node sent no list of logs")
    try:
        found = _read(entries)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"the node sent a malformed log: {error!r}") from error
    found.sort(key=_PLACE)
    return found


def _read(entries: Sequence[Mapping[str, Any]]) -> list[Log]:
    """Read logs in one loop, without a call for each field: this is half the cost of a fold.

    Contracts, blocks and transactions come many times in one answer and are decoded once.
    """
    found: list[Log] = []
    add, fromhex, make = found.append, bytes.fromhex, tuple.__new__
    contracts: dict[str, bytes] = {}
    known: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    for entry in entries:
        if entry.get("removed"):
            raise TransientError("the node sent a log that is no longer on the chain")
        contract, block, transaction, number = (
            entry["address"],
            entry["blockHash"],
            entry["transactionHash"],
            entry["blockNumber"],
        )
        if contract not in contracts:
            contracts[contract] = _sized(contract, 20)
        if block not in known:
            known[block] = _sized(block, 32)
        if transaction not in known:
            known[transaction] = _sized(transaction, 32)
        if number not in numbers:
            numbers[number] = int(number, 16)
        topics = tuple([fromhex(topic[2:]) for topic in entry["topics"]])
        for topic in topics:
            if len(topic) != 32:
                raise ValueError(f"a topic of {len(topic)} bytes")
        data = fromhex(entry["data"][2:])
        index = int(entry["logIndex"], 16)
        values = contracts[contract], topics, data, numbers[number], known[block], index
        add(make(Log, (*values, known[transaction], 0)))
    return found


def _sized(text: str, length: int) -> bytes:
    value = bytes.fromhex(text[2:])
    if len(value) != length:
        raise ValueError(f"{len(value)} bytes instead of {length}")
    return value
