"""Read a ledger back from the pages of a snapshot, and trust nothing in them."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from keeper.errors import InvariantError
from keeper.protocols.aave_v3.accounts import RESERVES, SHARDS, STRIDE
from keeper.protocols.aave_v3.eras import Era
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.screening import ENTRY
from keeper.protocols.aave_v3.snapshot import FIRST, FORMAT, NUMBERS
from keeper.protocols.aave_v3.stable import Stable
from keeper.types import Token
from keeper.units import Address, Bps

ADDRESS = 20
HALF = np.uint64(0xFFFF_FFFF)
HALF_BITS = np.uint64(32)


def read(
    source: Iterable[bytes], market: str, contracts: Mapping[str, Address], era: Era
) -> tuple[Ledger, int]:
    """Return the ledger of a snapshot, to be followed by an era's rules, and the pool's revision then.

    Raise `InvariantError` for pages that cannot be read, are not of this market or do not add up.
    """
    rest = iter(source)
    try:
        about = orjson.loads(next(rest, b""))
        _check(about, market, contracts)
        ledger = _ledger(market, about, era)
        _holders(ledger, rest, int(about["holders"]), int(about["borrowers"]))
        return ledger, int(about["revision"])
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InvariantError(market, f"the snapshot cannot be read: {error}") from error


def _check(about: Mapping[str, Any], market: str, contracts: Mapping[str, Address]) -> None:
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    named = {name: address.hex() for name, address in contracts.items()}
    if (about["market"], about["contracts"]) != (market, named):
        raise ValueError("it is of other contracts")


def _ledger(market: str, about: Mapping[str, Any], era: Era) -> Ledger:
    ledger = Ledger(
        market,
        flash_premium=Bps(int(about["flash_premium"])),
        sentinel=_address(about["sentinel"]),
        stopped=str(about["stopped"]),
        era=era,
    )
    for entry in about["reserves"]:
        ledger.list_reserve(_reserve_in(entry, era))
    for holder, debts in about["stable"].items():
        for number, entry in debts.items():
            debt = Stable(*map(int, entry))
            ledger.set_stable(_address(holder), ledger.reserves[int(number)], debt)
    for number, entry in about["categories"].items():
        values = {key: int(value) for key, value in entry.items()}
        ledger.categories[int(number)] = Category(**values)  # type: ignore[arg-type]
    return ledger


def _reserve_in(entry: Mapping[str, Any], era: Era) -> Reserve:
    asset, token = _address(entry["asset"]), entry["token"]
    numbers = {name: None if entry[name] is None else int(entry[name]) for name in NUMBERS}
    return Reserve(
        id=int(entry["id"]),
        asset=asset,
        supply_token=_address(entry["supply_token"]),
        debt_token=_address(entry["debt_token"]),
        era=era,
        stable_token=_address(entry["stable_token"]),
        tells_amounts=bool(entry["tells_amounts"]),
        token=None if token is None else Token(asset, str(token[0]), int(token[1])),
        **numbers,  # type: ignore[arg-type]
    )


def _address(text: str) -> Address:
    address = bytes.fromhex(text)
    if len(address) != ADDRESS:
        raise ValueError("an address has another length")
    return Address(address)


def _holders(ledger: Ledger, rest: Iterator[bytes], holders: int, borrowers: int) -> None:
    totals = np.zeros((2 * RESERVES, 4), np.uint64)
    classes = np.zeros(256 * RESERVES, bool)
    expected = 0
    for page in rest:
        expected = _holders_of(ledger, page, expected, totals, classes)
    if expected != SHARDS:
        raise ValueError(f"it ends after {expected} of {SHARDS} shards")
    if (len(ledger.accounts), ledger.borrowers) != (holders, borrowers):
        raise ValueError("it has not as many holders as it says")
    for number, quarters in enumerate(totals.tolist()):
        total = sum(value << 32 * (3 - place) for place, value in enumerate(quarters))
        reserve = ledger.reserves.get(number >> 1)
        if reserve is None:
            stated = 0
        else:
            stated = reserve.scaled_debt if number & 1 else reserve.scaled_supply
        if total != stated:
            raise ValueError(f"holders of token {number} sum to {total}, not {stated}")
    for key in np.flatnonzero(classes).tolist():
        ledger.know(key // RESERVES, (key % RESERVES,))


def _holders_of(
    ledger: Ledger,
    page: bytes,
    expected: int,
    totals: NDArray[np.uint64],
    classes: NDArray[np.bool_],
) -> int:
    first, count = FIRST.unpack_from(page)
    if first != expected or not 0 < count <= SHARDS - first:
        raise ValueError(f"shards {first} and following are not due after {expected}")
    sizes = struct.unpack_from(f"<{count}I", page, FIRST.size)
    holders, start = sum(sizes), FIRST.size + 4 * count
    middle = start + ADDRESS * holders
    end = middle + 2 * holders
    lengths = np.frombuffer(page, "<u2", holders, middle).astype(np.intp)
    if len(page) - end != STRIDE * int(lengths.sum()) or (holders and not lengths.min()):
        raise ValueError("the records do not fill their page")
    entries = np.frombuffer(page, ENTRY, offset=end)
    low = np.frombuffer(page, np.uint8, ADDRESS * holders, start).reshape(-1, ADDRESS)[:, 18:]
    shard = low[:, 1] | (low[:, 0] & 3).astype(np.intp) << 8
    if not np.array_equal(shard, np.repeat(np.arange(first, first + count), sizes)):
        raise ValueError("an address is not in its shard")
    owes = _add(entries, lengths, totals, classes) if holders else np.zeros(0, bool)
    addresses: list[Address] = np.frombuffer(page, f"V{ADDRESS}", holders, start).tolist()
    entry = zip(addresses, _cut(page, end, lengths), strict=True)
    for number, size in enumerate(sizes, first):
        kept = dict(islice(entry, size))
        if len(kept) != size:
            raise ValueError("an address is there twice")
        ledger.accounts.load(number, kept)
    ledger.borrowers += int(owes.sum())
    return int(first + count)


def _cut(page: bytes, begin: int, lengths: NDArray[np.intp]) -> list[bytes]:
    """Return the records of a page from a byte on, those of one length at a time."""
    starts = STRIDE * (np.cumsum(lengths) - lengths)
    records = np.empty(len(lengths), object)
    for length in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == length)
        size = STRIDE * length
        # One view of that size at every byte: those at the starts are copied whole.
        windows: NDArray[np.void] = np.ndarray(
            len(page) - begin - size + 1, f"V{size}", page, begin, (1,)
        )
        records[chosen] = windows[starts[chosen]].tolist()
    cut: list[bytes] = records.tolist()
    return cut


def _add(
    entries: NDArray[np.void],
    lengths: NDArray[np.intp],
    totals: NDArray[np.uint64],
    classes: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Check the records of a page, add their amounts to the totals, and return who has debt."""
    starts = np.cumsum(lengths) - lengths
    numbers = entries["number"].copy()
    is_leg = np.ones(len(entries), bool)
    is_leg[starts] = False
    # A leg's neighbour before it is its record's header, or a leg of the same record.
    second = is_leg[1:] & is_leg[:-1] & (numbers[:-1] >= numbers[1:])
    high, low = entries["high"].astype(np.uint64), entries["low"].astype(np.uint64)
    empty = (high | low) == 0
    alone = starts[lengths == 1]
    if second.any() or (empty & is_leg).any() or (empty & (numbers == 0))[alone].any():
        raise ValueError("a record is not in order")
    keys = numbers.astype(np.intp)
    keys[starts] = 2 * RESERVES
    quarters = high >> HALF_BITS, high & HALF, low >> HALF_BITS, low & HALF
    for quarter, amounts in enumerate(quarters):
        # Exact in float64: a page has far fewer than 2**21 amounts of 32 bits.
        if amounts.any():
            sums = np.bincount(keys, amounts.astype(float), 2 * RESERVES + 1)
            totals[:, quarter] += sums[: 2 * RESERVES].astype(np.uint64)
    is_debt = is_leg & (numbers & 1 == 1)
    held = np.repeat(numbers[starts].astype(np.intp) * RESERVES, lengths) + (numbers >> 1)
    classes[held[is_leg & ~is_debt]] = True
    owes: NDArray[np.bool_] = np.logical_or.reduceat(is_debt, starts)
    return owes
