"""Which pairs may be liquidated at the next block, and why the others may not."""

from collections.abc import Sequence

from keeper.protocols.compound_v2.ctoken import CToken
from keeper.protocols.compound_v2.events import (
    LIQUIDATE_ACTION,
    REDEEM_ACTION,
    REPAY_ACTION,
    SEIZE,
    TRANSFER_ACTION,
)
from keeper.protocols.compound_v2.exponential import repay_for_down, seize_ratio_down
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.protocols.compound_v2.terms import CompoundTerms
from keeper.protocols.compound_v2.valuation import (
    BPS_MANTISSA,
    VAI,
    Part,
    health_down,
    liquidity,
)
from keeper.types import Position, Reason, Skip
from keeper.units import WAD, ZERO_ADDRESS, Address, Bps

Why = tuple[Reason, str]


def pairs(
    ledger: Ledger, position: Position, held: Sequence[Part]
) -> tuple[list[CompoundTerms], list[Skip]]:
    """Return the terms of every pair open to liquidation, and a refusal for what is not."""

    def skip(why: Why) -> Skip:
        return Skip(position.market, position.protocol, position.borrower, *why)

    if position.health >= WAD:
        return [], []
    if why := _shut(ledger, position.borrower, held):
        return [], [skip(why)]
    found: list[CompoundTerms] = []
    refusals: list[Why] = []
    owing, seizable = [], []
    for part in held:
        if part.id == VAI:
            continue
        if part.debts[1]:
            shut = _paused(ledger.ctokens[part.id], (LIQUIDATE_ACTION, REPAY_ACTION))
            owing.append(part) if shut is None else refusals.append(shut)
        if part.balance:
            shut = _paused(ledger.ctokens[part.id], _seizing(ledger)) or _worthless(part)
            seizable.append(part) if shut is None else refusals.append(shut)
    for owed in owing:
        for seized in seizable:
            terms = _terms(ledger, held, owed, seized)
            if isinstance(terms, CompoundTerms):
                found.append(terms)
            else:
                refusals.append(terms)
    if not found and not refusals:
        refusals.append((Reason.DUST, "no collateral is left to seize"))
    return found, [skip(why) for why in refusals]


def _seizing(ledger: Ledger) -> tuple[int, ...]:
    # Venus' liquidator hands on what it seized by a transfer; all of it is redeemed.
    handed = () if ledger.liquidator == ZERO_ADDRESS else (TRANSFER_ACTION,)
    return (SEIZE, REDEEM_ACTION, *handed)


def _shut(ledger: Ledger, borrower: Address, held: Sequence[Part]) -> Why | None:
    """Return why nothing of a borrower may be liquidated."""
    if ledger.is_paused:
        return Reason.PAUSED, "the comptroller is paused"
    for part in held:
        if part.id != VAI and (doubt := ledger.ctokens[part.id].doubt):
            return Reason.DENIED, doubt
    if borrower in ledger.restricted:
        return Reason.DENIED, "the liquidator contract allows only chosen liquidators for it"
    if borrower in ledger.minters and ledger.vai is None:
        return Reason.DENIED, "it has minted VAI, whose controller does not tell what it owes"
    worth = sum(part.worth() for part in held)
    if worth <= ledger.minimum_collateral and ledger.minimum_collateral:
        least = ledger.minimum_collateral
        return Reason.DUST, f"collateral of {worth} is not above the least of {least} (wad)"
    return None


def _paused(ctoken: CToken, actions: Sequence[int]) -> Why | None:
    for action in actions:
        if ctoken.paused >> action & 1:
            return Reason.PAUSED, f"{ctoken.token.symbol} is paused: {NAMES[action]}"
    return None


NAMES = {
    REDEEM_ACTION: "redeeming",
    REPAY_ACTION: "repaying",
    SEIZE: "seizing",
    LIQUIDATE_ACTION: "liquidating",
    TRANSFER_ACTION: "transfers",
}


def _worthless(part: Part) -> Why | None:
    if part.terms.incentive <= WAD:
        return Reason.DENIED, f"{part.token.symbol} has no liquidation incentive"
    return None


def _terms(ledger: Ledger, held: Sequence[Part], owed: Part, seized: Part) -> CompoundTerms | Why:
    pair = f"{owed.underlying.symbol} against {seized.token.symbol}"
    borrowed = ledger.ctokens[owed.id]
    if not borrowed.is_forced and (minted := _owed_first(ledger, held)):
        return Reason.DENIED, f"its debt of {minted} VAI has to be liquidated first"
    if not borrowed.is_forced and health_down(*liquidity(held, {owed.id, seized.id})) >= WAD:
        return Reason.DENIED, f"{pair}: no shortfall until its other cTokens accrue interest"
    incentive = seized.terms.incentive
    terms = CompoundTerms(
        collateral=seized.token,
        debt=owed.underlying,
        bonus=Bps(incentive // BPS_MANTISSA),
        borrowed=owed.token.address,
        seized=seized.token.address,
        is_native=borrowed.is_native,
        incentive=incentive,
        ratio=seize_ratio_down(incentive, owed.price, seized.price, seized.rates[1]),
        balance=seized.balance,
        limit=_limit(ledger, owed, seized),
        seize_share=ledger.ctokens[seized.id].seize_share,
        treasury_share=0 if ledger.liquidator == ZERO_ADDRESS else ledger.treasury_share,
        scaled_debt=owed.debts[0],
        called=owed.token.address if ledger.liquidator == ZERO_ADDRESS else Address(b""),
        held=tuple(held),
    )
    if not terms.legal_down(terms.maximum):
        return Reason.DUST, f"no repay of {pair} seizes anything"
    return terms


def _owed_first(ledger: Ledger, held: Sequence[Part]) -> int:
    """Return a debt in VAI before which Venus' liquidator contract takes no other, 0 for none."""
    rules = ledger.vai.rules if ledger.vai else None
    if rules is None or not rules.is_first:
        return 0
    return max((p.debts[1] for p in held if p.id == VAI and p.debts[1] >= rules.least), default=0)


def _limit(ledger: Ledger, owed: Part, seized: Part) -> int:
    """Return the largest repay the close factor allows whenever the call is included.

    Blocks are counted to the next one at least. A second may come before the one that was expected,
    so that no interest since the last is counted on: neither in the debt, nor in what a cToken is
    worth, of which a call that asks for more than there is fails.
    """
    debt = owed.debts[0] if ledger.by_seconds else owed.debts[1]
    limit = debt if ledger.ctokens[owed.id].is_forced else debt * ledger.close_factor // WAD
    if not ledger.by_seconds:
        return limit
    dearest = seize_ratio_down(seized.terms.incentive, owed.price, seized.price, seized.rates[0])
    return min(limit, repay_for_down(dearest, seized.balance)) if dearest else 0
