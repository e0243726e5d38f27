"""Who was liquidated, by the borrowed cToken's own event (CToken.liquidateBorrowFresh).

Of a debt in VAI its controller tells, in the same words (VAIController.liquidateVAIFresh).
"""

from keeper.ports import Told
from keeper.protocols.compound_v2.events import LIQUIDATE, LIQUIDATE_VAI
from keeper.protocols.compound_v2.exponential import exchange_rate_down
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.protocols.compound_v2.words import account, number, values
from keeper.types import Log, Token
from keeper.units import WAD


def read_liquidation(ledger: Ledger, log: Log) -> Told | None:
    """Return what a log tells of a liquidation, None when it tells of something else.

    The event counts seized cTokens; they are given in the underlying, at the exchange rate as last
    folded, rounded down.
    """
    owed = _owed(ledger, log)
    if owed is None:
        return None
    liquidator, borrower, repaid, held, seized = values(log, 5)
    ctoken = ledger.by_address.get(account(held))
    if ctoken is None:
        return None
    totals = ctoken.stored
    rate = exchange_rate_down(ctoken.cash or 0, totals.borrows, totals.reserves, ctoken.supply or 0)
    received = number(seized) * rate // WAD
    held_token = ctoken.underlying.address
    return (
        account(borrower),
        owed.address,
        held_token,
        number(repaid),
        received,
        account(liquidator),
    )


def _owed(ledger: Ledger, log: Log) -> Token | None:
    """Return what was repaid in a liquidation, None when the log tells of none."""
    if log.topics[:1] == (LIQUIDATE,):
        ctoken = ledger.by_address.get(log.address)
        return None if ctoken is None else ctoken.underlying
    vai = ledger.vai
    if vai is None or log.address != vai.controller or log.topics[:1] != (LIQUIDATE_VAI,):
        return None
    return vai.token
