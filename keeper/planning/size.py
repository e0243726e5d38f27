"""How many bytes a transaction has before it is encoded: what fits, and what posting it costs."""

from collections.abc import Iterable
from dataclasses import dataclass

from keeper.types import FlashKind, Hop, Quote
from keeper.units import Address

ITEM = 64
"""Bytes of an item."""
_HEADER, _ADDRESS, _FUND, _MINIMUM, _GROUP, _ACTION = 48, 20, 23, 17, 18, 40
_SIZE = 2
"""Before each group stands its size."""
_EXTRA_ADDRESSES = 3
"""Addresses a group can name beside its tokens: pool, debt token and a factory or router."""
_CALL = 4 + 2 * 32 + 31
"""Selector, offset, length and padding around the packed batch."""
_ENVELOPE = 80
"""An unsigned EIP-1559 transaction without its calldata, at most: type, fields and RLP headers."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a group takes up in a batch: the addresses it names, and its bytes without its items."""

    named: frozenset[Address]
    bytes: int


def packed_size(addresses: int, loans: int, debts: int, groups: int, size: int) -> int:
    """Return the bytes of a packed batch whose groups take `size` together."""
    beside = _FUND * loans + _MINIMUM * debts
    return _HEADER + _ADDRESS * addresses + beside + _SIZE * groups + size


def batch_size(tokens: int, loans: int, groups: int, sales: int, items: int, addresses: int) -> int:
    """Return at least the bytes of a packed batch that names at most `addresses` addresses.

    `sales` are the bytes of all groups' sales.
    """
    named = min(tokens + _EXTRA_ADDRESSES * groups, addresses)
    return (
        _HEADER
        + _ADDRESS * named
        + (_FUND + _MINIMUM + _ADDRESS) * loans
        + _GROUP * groups
        + sales
        + ITEM * items
    )


def sale_size(hops: Iterable[Hop]) -> int:
    """Return the bytes of a sale through some hops."""
    return sum(_ACTION + hop.extra_bytes for hop in hops)


def transaction_size(calldata: int) -> int:
    """Return at least the bytes of an unsigned transaction with so much calldata."""
    return _ENVELOPE + calldata


def run_size(groups: Iterable[list[Quote]]) -> int:
    """Return at least the bytes of an unsigned transaction that runs these groups."""
    groups = list(groups)
    quotes = [quote for group in groups for quote in group]
    loans = {quote.flash for quote in quotes if quote.flash.kind is not FlashKind.NONE}
    tokens = len(tokens_of(quotes)) + len(loans)
    sales = sum(sale_size(group[0].hops) for group in groups)
    named = tokens + _EXTRA_ADDRESSES * len(groups)
    batch = batch_size(tokens, len(loans), len(groups), sales, len(quotes), named)
    return transaction_size(_CALL + batch)


def tokens_of(quotes: Iterable[Quote]) -> set[Address]:
    """Return every token the liquidations and sales of quotes touch."""
    tokens = set()
    for quote in quotes:
        terms, called = quote.steps[0].terms, quote.steps[0].seizure.called
        tokens |= {terms.collateral.address, terms.debt.address}
        if called:
            tokens.add(called)
        tokens |= {hop.token_out for hop in quote.hops}
    return tokens
