"""A ledger as pages of bytes: a JSON header, then the holders, shard by shard.

A page of holders is the number of its first shard and of its shards (u16 each), the holders of
each shard (u32), all addresses, the number of entries in each record (u16), all records; integers
little-endian, records as the ledger keeps them.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple

import numpy as np
import orjson

from keeper.protocols.aave_v3.accounts import STRIDE
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.units import Address

FORMAT = 2
PAGE_BYTES = 1 << 20
FIRST = struct.Struct("<HH")
NUMBERS = (
    "configuration",
    "liquidity_index",
    "liquidity_rate",
    "borrow_index",
    "borrow_rate",
    "updated_at",
    "grace_until",
    "deficit",
    "scaled_supply",
    "scaled_debt",
    "virtual_balance",
    "cash",
)

Shards = Sequence[Mapping[Address, bytes]]


def header(ledger: Ledger, contracts: Mapping[str, Address], revision: int) -> bytes:
    """Return everything but the holders; integers are decimal strings, bytes are hex."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "market": ledger.market,
            "contracts": {name: address.hex() for name, address in contracts.items()},
            "revision": revision,
            "stopped": ledger.stopped,
            "flash_premium": str(ledger.flash_premium),
            "sentinel": ledger.sentinel.hex(),
            "borrowers": str(ledger.borrowers),
            "holders": str(len(ledger.accounts)),
            "reserves": [_reserve_out(reserve) for reserve in ledger.reserves.values()],
            "stable": {
                holder.hex(): {
                    str(n): [str(value) for value in astuple(d)] for n, d in debts.items()
                }
                for holder, debts in ledger.stable.items()
            },
            "categories": {
                str(number): {key: str(value) for key, value in asdict(category).items()}
                for number, category in ledger.categories.items()
            },
        }
    )


def pages(head: bytes, shards: Shards) -> Iterator[bytes]:
    """Encode a frozen ledger, about a megabyte at a time, holding the interpreter only briefly."""
    yield head
    first, size = 0, 0
    parts: list[tuple[int, bytes, bytes, bytes]] = []
    for number, shard in enumerate(shards):
        records = list(shard.values())
        lengths = np.fromiter(map(len, records), np.intp, len(records)) // STRIDE
        part = len(shard), b"".join(shard), lengths.astype("<u2").tobytes(), b"".join(records)
        parts.append(part)
        size += len(part[1]) + len(part[3])
        if size >= PAGE_BYTES or number == len(shards) - 1:
            yield _page(first, parts)
            first, size, parts = number + 1, 0, []


def _page(first: int, parts: Sequence[tuple[int, bytes, bytes, bytes]]) -> bytes:
    counts = [count for count, *_ in parts]
    return b"".join(
        [
            FIRST.pack(first, len(parts)),
            struct.pack(f"<{len(parts)}I", *counts),
            *(addresses for _, addresses, _, _ in parts),
            *(lengths for _, _, lengths, _ in parts),
            *(records for *_, records in parts),
        ]
    )


def _reserve_out(reserve: Reserve) -> dict[str, object]:
    numbers = {name: getattr(reserve, name) for name in NUMBERS}
    token = reserve.token
    return {
        "id": reserve.id,
        "asset": reserve.asset.hex(),
        "supply_token": reserve.supply_token.hex(),
        "debt_token": reserve.debt_token.hex(),
        "stable_token": reserve.stable_token.hex(),
        "tells_amounts": reserve.tells_amounts,
        "token": None if token is None else [token.symbol, token.decimals],
        **{name: None if value is None else str(value) for name, value in numbers.items()},
    }
