"""Liquidations of watched positions, as the chain tells them."""

from collections.abc import Iterable, Mapping

from keeper.margin.message import Taken
from keeper.margin.roster import Entry, Key
from keeper.ports import LendingProtocol, Telling
from keeper.types import Log, Token, Watch
from keeper.units import Address


def pools(protocol: LendingProtocol) -> Watch:
    """Return what to ask for to see liquidations: the contracts that are called for them."""
    called = {protocol.liquidation_target(token)[0] for token in protocol.tokens()}
    return Watch(frozenset(called), protocol.watch().topics)


def taken_of(
    protocol: Telling,
    logs: Iterable[Log],
    entries: Iterable[Entry],
    tokens: Mapping[Address, Token],
) -> dict[Key, list[Taken]]:
    """Return what logs tell of liquidations of these entries, by entry, in the chain's order."""
    by_borrower: dict[Address, list[Entry]] = {}
    for entry in entries:
        by_borrower.setdefault(entry.borrower, []).append(entry)
    found: dict[Key, list[Taken]] = {}
    for each in logs:
        told = protocol.liquidation(each)
        if told is None or told[0] not in by_borrower:
            continue
        borrower, debt, collateral, repaid, seized, liquidator = told
        taken = Taken(
            each.block_number,
            each.tx_hash,
            each.index,
            borrower,
            tokens[debt],
            tokens[collateral],
            repaid,
            seized,
            liquidator,
        )
        for entry in by_borrower[borrower]:
            found.setdefault(entry.key, []).append(taken)
    return found
