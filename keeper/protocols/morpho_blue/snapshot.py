"""A ledger as pages of bytes, and back: a JSON header, then keys and records, shard by shard.

A page is the number of its shard (u16), of its records (u32), all keys, all records; big-endian.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from keeper.errors import InvariantError
from keeper.protocols.morpho_blue.accounts import (
    EMPTY,
    KEY,
    RECORD,
    SHARDS,
    number_of,
    unpack,
)
from keeper.protocols.morpho_blue.ledger import Ledger, Pool, Terms, Totals
from keeper.types import Token
from keeper.units import Address, Hash

FORMAT = 1
PAGE = struct.Struct(">HI")


def header(ledger: Ledger, morpho: Address) -> bytes:
    """Return everything but the borrowers; integers are decimal strings, bytes are hex."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "market": ledger.market,
            "morpho": morpho.hex(),
            "borrowers": len(ledger.accounts),
            "early": [
                {
                    "contract": each.terms.contract.hex(),
                    "authorisers": sorted(who.hex() for who in each.authorisers),
                }
                for each in ledger.early
            ],
            "pools": [_pool_out(pool) for pool in ledger.numbered],
        }
    )


def pages(head: bytes, shards: Sequence[Mapping[Address, bytes]]) -> Iterator[bytes]:
    """Encode a frozen ledger."""
    yield head
    for number, shard in enumerate(shards):
        if shard:
            yield PAGE.pack(number, len(shard)) + b"".join(shard) + b"".join(shard.values())


def restored(source: Iterable[bytes], ledger: Ledger, morpho: Address) -> Ledger:
    """Fill an empty ledger from a snapshot; raise `InvariantError` when it cannot be or does not add up."""
    market = ledger.market
    rest = iter(source)
    try:
        about = orjson.loads(next(rest, b""))
        _check_origin(about, market, morpho)
        for each, told in zip(ledger.early, about["early"], strict=True):
            if each.terms.contract.hex() != told["contract"]:
                raise ValueError("it is of other contracts")  # noqa: TRY301
            each.authorisers.update(Address(bytes.fromhex(who)) for who in told["authorisers"])
        for entry in about["pools"]:
            _pool_in(ledger, entry)
        for page in rest:
            _borrowers_in(ledger, page)
        _check(ledger, about["borrowers"])
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InvariantError(market, f"the snapshot cannot be read: {error}") from error
    ledger.touched = set()
    return ledger


def _pool_out(pool: Pool) -> dict[str, object]:
    terms = pool.terms
    named = (terms.loan, terms.collateral, terms.oracle, terms.irm)
    return {
        "id": pool.id.hex(),
        "terms": [*(each.hex() for each in named), str(terms.lltv)],
        "totals": {key: str(value) for key, value in asdict(pool.totals).items()},
        "tokens": [
            None if token is None else [token.symbol, token.decimals]
            for token in (pool.loan, pool.collateral)
        ],
        "adaptive": pool.adaptive,
    }


def _pool_in(ledger: Ledger, entry: Mapping[str, Any]) -> None:
    *named, lltv = entry["terms"]
    loan, collateral, oracle, irm = (Address(bytes.fromhex(each)) for each in named)
    identity = Hash(bytes.fromhex(entry["id"]))
    ledger.create(identity, Terms(loan, collateral, oracle, irm, int(lltv)))
    pool = ledger.pools[identity]
    pool.totals = Totals(**{key: int(value) for key, value in entry["totals"].items()})
    tokens = [
        None if told is None else Token(token, str(told[0]), int(told[1]))
        for token, told in zip((loan, collateral), entry["tokens"], strict=True)
    ]
    pool.loan, pool.collateral = tokens
    pool.adaptive = bool(entry["adaptive"])


def _borrowers_in(ledger: Ledger, page: bytes) -> None:
    number, count = PAGE.unpack_from(page)
    middle, end = PAGE.size + KEY * count, PAGE.size + (KEY + RECORD) * count
    if len(page) != end or number >= SHARDS:
        raise ValueError("a page has another length")
    for place in range(count):
        key = Address(page[PAGE.size + KEY * place : PAGE.size + KEY * (place + 1)])
        record = page[middle + RECORD * place : middle + RECORD * (place + 1)]
        if key[-1] != number or record == EMPTY or ledger.accounts.get(key) != EMPTY:
            raise ValueError("a borrower is not in order")
        ledger.put(ledger.numbered[number_of(key)], key, record)


def _check_origin(about: Mapping[str, Any], market: str, morpho: Address) -> None:
    if (about["format"], about["market"], about["morpho"]) != (FORMAT, market, morpho.hex()):
        raise ValueError("it is of another deployment")


def _check(ledger: Ledger, borrowers: int) -> None:
    if len(ledger.accounts) != borrowers:
        raise ValueError("it has not as many borrowers as it says")
    owed = [0] * len(ledger.numbered)
    for key in ledger.accounts:
        owed[number_of(key)] += unpack(ledger.accounts.get(key))[1]
    for pool, total in zip(ledger.numbered, owed, strict=True):
        if total != pool.totals.borrow_shares:
            raise ValueError(f"borrowers of 0x{pool.id.hex()} owe {total} shares")
