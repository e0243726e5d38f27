"""Node JSON to nouns and back; what does not decode is an error, never skipped."""

from collections.abc import Mapping, Sequence
from typing import Any

from keeper.errors import TransientError
from keeper.types import Head, Log
from keeper.units import Address, Hash, Wei


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
    if entry.get("removed"):
        raise TransientError("the node sent a log that is no longer on the chain")
    try:
        return Log(
            address=Address(bytes.fromhex(entry["address"][2:])),
            topics=tuple([bytes.fromhex(topic[2:]) for topic in entry["topics"]]),
            data=bytes.fromhex(entry["data"][2:]),
            block_number=int(entry["blockNumber"], 16),
            block_hash=Hash(bytes.fromhex(entry["blockHash"][2:])),
            index=int(entry["logIndex"], 16),
            tx_hash=Hash(bytes.fromhex(entry["transactionHash"][2:])),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"the node sent a malformed log: {error!r}") from error


def logs(entries: Sequence[Mapping[str, Any]]) -> list[Log]:
    """Read logs and put them in chain order."""
    if not isinstance(entries, list):
        raise TransientError("the node sent no list of logs")
    read = [log(entry) for entry in entries]
    read.sort(key=lambda each: (each.block_number, each.index))
    return read
