"""A trove as a position, exact at the next block."""

from dataclasses import replace

from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.ledger import Ledger
from keeper.protocols.liquity_v1.terms import Deployment, LiquityTerms
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Reason, Skip
from keeper.units import BPS, MAX_UINT256, WAD, Address, Bps, Wad

THRESHOLD = Bps(BPS * WAD // rules.MCR)
"""What counts of the collateral, rounded down; health itself comes from the exact ratio."""


def position(
    ledger: Ledger,
    deployment: Deployment,
    protocol: str,
    borrower: Address,
    prices: Prices,
    timestamp: int,
) -> Position | None:
    """Return a trove with what it has coming, None when the price was not read.

    Health is the collateral ratio over 110 %: below one exactly when TroveManager.getCurrentICR is
    below MCR.
    """
    price = prices.get(deployment.coin.address)
    trove = ledger.troves.get(borrower)
    if trove is None or price is None:
        return None
    whole = ledger.whole(trove, timestamp)
    ratio = rules.ratio_down(whole.collateral, whole.debt, price)
    worth = whole.collateral * price // WAD
    held = CollateralLeg(deployment.coin, whole.collateral, worth, THRESHOLD, Bps(BPS))
    owed = DebtLeg(deployment.debt, whole.debt, whole.debt)
    return Position(
        ledger.market,
        protocol,
        borrower,
        (held,),
        (owed,),
        worth,
        whole.debt,
        Wad(min(ratio * WAD // rules.MCR, MAX_UINT256)),
    )


def plain(position: Position) -> Position:
    """Return a trove that loses what it holds beyond its debt: a tenth when it is liquidated."""
    bonus = Bps(rules.MCR * BPS // WAD)
    return replace(
        position, collateral=tuple(replace(leg, bonus=bonus) for leg in position.collateral)
    )


def pairs(
    ledger: Ledger,
    deployment: Deployment,
    position: Position,
    prices: Prices,
    timestamp: int,
    stopped: str,
) -> tuple[list[LiquityTerms], list[Skip]]:
    """Return the terms of a trove under 110 %, or why it is left alone; `stopped` as the market says."""

    def skip(reason: Reason, why: str) -> Skip:
        return Skip(position.market, position.protocol, position.borrower, reason, why)

    if stopped:
        return [], [skip(Reason.DENIED, stopped)]
    trove = ledger.troves.get(position.borrower)
    if position.health >= WAD or trove is None:
        return [], []
    if len(ledger.troves) == 1:
        return [], [skip(Reason.DENIED, "the last trove is never liquidated")]
    price = prices.get(deployment.coin.address)
    if price is None:
        return [], [skip(Reason.NO_PRICE, "the price feed gives no price")]
    whole = ledger.whole(trove, timestamp)
    owed = trove.principal + trove.interest
    terms = LiquityTerms(
        deployment.coin,
        deployment.debt,
        whole,
        owed,
        deployment.reserve,
        ledger.system.deposits,
        price,
    )
    return [terms], []
