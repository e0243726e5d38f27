"""Node JSON to nouns and back; what does not decode is an error, never skipped."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from keeper.errors import TransientError
from keeper.types import Head, Log
from keeper.units import Address, Hash, Wei

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


class _Blobs(dict[str, bytes]):
    """Hex text of one length, decoded once however often it comes."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def __missing__(self, text: str) -> bytes:
        value = bytes.fromhex(text[2:])
        if len(value) != self._length:
            raise ValueError(f"{len(value)} bytes instead of {self._length}")
        self[text] = value
        return value


class _Quantities(dict[str, int]):
    def __missing__(self, text: str) -> int:
        value = self[text] = int(text, 16)
        return value


class _Logs:
    """Read the logs of one answer, which name the same contracts and blocks over and over."""

    __slots__ = ("_addresses", "_numbers", "_words")

    def __init__(self) -> None:
        self._addresses, self._words, self._numbers = _Blobs(20), _Blobs(32), _Quantities()

    def read(self, entry: Mapping[str, Any]) -> Log:
        if entry.get("removed"):
            raise TransientError("the node sent a log that is no longer on the chain")
        words = self._words
        return Log(
            Address(self._addresses[entry["address"]]),
            tuple([words[topic] for topic in entry["topics"]]),
            bytes.fromhex(entry["data"][2:]),
            self._numbers[entry["blockNumber"]],
            Hash(words[entry["blockHash"]]),
            self._numbers[entry["logIndex"]],
            Hash(words[entry["transactionHash"]]),
        )


def log(entry: Mapping[str, Any]) -> Log:
    """Read one event log; one that a reorg took off the chain is refused."""
    return logs([entry])[0]


def logs(entries: Sequence[Mapping[str, Any]]) -> list[Log]:
    """Read logs and put them in chain order; raise `TransientError` unless all can be read."""
    if not isinstance(entries, list):
        raise TransientError("the node sent no list of logs")
    read = _Logs().read
    try:
        found = [read(entry) for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"the node sent a malformed log: {error!r}") from error
    found.sort(key=_PLACE)
    return found
