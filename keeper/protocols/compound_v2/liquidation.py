"""Who was liquidated, by the borrowed cToken's own event (CToken.liquidateBorrowFresh)."""

from keeper.ports import Told
from keeper.protocols.compound_v2.events import LIQUIDATE
from keeper.protocols.compound_v2.exponential import exchange_rate_down
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.protocols.compound_v2.words import account, number, values
from keeper.types import Log
from keeper.units import WAD


def read_liquidation(ledger: Ledger, log: Log) -> Told | None:
    """Return what a log tells of a liquidation, None when it tells of something else.

    The event counts seized cTokens; they are given in the underlying, at the exchange rate as last
    folded, rounded down.
    """
    owed = ledger.by_address.get(log.address)
    if owed is None or log.topics[:1] != (LIQUIDATE,):
        return None
    liquidator, borrower, repaid, held, seized = values(log, 5)
    ctoken = ledger.by_address.get(account(held))
    if ctoken is None:
        return None
    totals = ctoken.stored
    rate = exchange_rate_down(ctoken.cash or 0, totals.borrows, totals.reserves, ctoken.supply or 0)
    received = number(seized) * rate // WAD
    owed_token, held_token = owed.underlying.address, ctoken.underlying.address
    return account(borrower), owed_token, held_token, number(repaid), received, account(liquidator)
