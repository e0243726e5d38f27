"""What a borrower's cTokens and debts are worth, exact, as the comptroller computes it.

`liquidateBorrow` accrues the two cTokens it is called for; for all others the comptroller takes what
is stored (getAccountLiquidity). So there is one health for each pair, and a position carries the
least: it is what somebody can be liquidated at.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.exponential import (
    Accrued,
    tokens_to_denom_down,
    value_down,
)
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.vai import Minted, Unread, Vai
from keeper.types import CollateralLeg, DebtLeg, NextBlock, Position, Prices, Token
from keeper.units import MAX_UINT256, WAD, ZERO_ADDRESS, Address, Bps, Wad

PRICE_UNIT = 10**36
"""Base currency of the prices: a dollar has 36 decimals, so that the oracle's own digits all fit."""
BPS_MANTISSA = 10**14
VAI = -1
"""Id of a part that is a debt in VAI, and no cToken's."""


@dataclass(frozen=True, slots=True)
class Part:
    """One cToken of a borrower: balance and debt, each figure as stored and with interest.

    What it owes in VAI is a part too, with the id `VAI` and a price of one.
    """

    id: int
    token: Token
    underlying: Token
    terms: Terms
    price: int
    balance: int
    rates: tuple[int, int]
    debts: tuple[int, int]

    def counted(self, *, fresh: bool) -> tuple[int, int]:
        """Return weighted collateral and debt in wad dollars, stored or with interest."""
        denom = tokens_to_denom_down(self.terms.threshold, self.rates[fresh], self.price)
        return value_down(self.balance, denom), value_down(self.debts[fresh], self.price)

    def worth(self) -> int:
        """Return what the balance is worth with interest, in wad dollars, not weighted."""
        return value_down(self.balance, tokens_to_denom_down(WAD, self.rates[1], self.price))

    def accrued(self, balance: int, debt: int) -> "Part":
        """Return the part behind a call of the same block, which stored its interest."""
        rate = self.rates[1]
        return replace(self, balance=balance, rates=(rate, rate), debts=(debt, debt))


def moment(ledger: Ledger, at: NextBlock) -> int:
    """Return what interest is counted to: the block's number, or its time."""
    return at.timestamp if ledger.by_seconds else at.number


def price_of(ctoken: CToken, prices: Prices) -> int | None:
    """Return the oracle's own price, getUnderlyingPrice: wad for each smallest unit."""
    price = prices.values.get(ctoken.underlying.address)
    return None if price is None else price // int(10**ctoken.underlying.decimals)


def parts(
    ledger: Ledger, borrower: Address, prices: Prices, until: int | None
) -> list[Part] | None:
    """Return what a borrower has entered, None without a price or a figure it needs.

    Interest is counted to `until`; None is as stored.
    """
    found: list[Part] = []
    pool = ledger.chosen.get(borrower, CORE)
    for ctoken in members(ledger, ledger.entered.get(borrower, 0)):
        balance = ctoken.balances.get(borrower, 0)
        price = price_of(ctoken, prices)
        if not balance and borrower not in ctoken.debts:
            # Compound itself fails without the price of what is empty; Venus does not ask for it.
            if price is None and not ledger.has_thresholds:
                return None
            continue
        if price is None or not ctoken.is_read:
            return None
        stored = ctoken.stored
        later: Accrued = stored if until is None else ctoken.accrued(until)
        found.append(
            Part(
                ctoken.id,
                ctoken.token,
                ctoken.underlying,
                ledger.terms_of(pool, ctoken),
                price,
                balance,
                (ctoken.exchange_rate(stored), ctoken.exchange_rate(later)),
                (ctoken.owed(borrower, stored.index), ctoken.owed(borrower, later.index)),
            )
        )
    debt = ledger.minters.get(borrower)
    if debt is None or ledger.vai is None:
        return found
    minted = _minted(ledger, ledger.vai, debt, until)
    if minted is None:
        return None
    return [*found, minted] if minted.debts[1] else found


def _minted(ledger: Ledger, vai: Vai, debt: Minted | Unread, until: int | None) -> Part | None:
    """Return a debt in VAI as a call finds it, None when it was not read.

    Venus' liquidator contract adds interest first; a call of a vToken does not.
    """
    if isinstance(debt, Unread) or vai.rules is None:
        return None
    is_added = until is not None and ledger.liquidator != ZERO_ADDRESS
    owed = debt.owed(vai.rules.index_at(until or 0) if is_added else vai.rules.index)
    return Part(VAI, vai.token, vai.token, Terms(), WAD, 0, (0, 0), (owed, owed))


def members(ledger: Ledger, mask: int) -> Iterator[CToken]:
    """Yield the cTokens of a bitmask, by id."""
    while mask:
        bit = mask & -mask
        mask ^= bit
        yield ledger.ctokens[bit.bit_length() - 1]


def liquidity(held: Sequence[Part], fresh: Collection[int] = ()) -> tuple[int, int]:
    """Return weighted collateral and debt in wad dollars, the cTokens of `fresh` ids accrued."""
    collateral = debt = 0
    for part in held:
        counted, owed = part.counted(fresh=part.id in fresh)
        collateral += counted
        debt += owed
    return collateral, debt


def health_down(collateral: int, debt: int) -> Wad:
    """Return the ratio in wad; below 1e18 is what the comptroller calls a shortfall."""
    return Wad(collateral * WAD // debt if debt else MAX_UINT256)


def least_health(held: Sequence[Part]) -> Wad:
    """Return the least health that a call for one of the pairs finds."""
    owing = [part for part in held if part.debts[1] and part.id != VAI]
    seizable = [part for part in held if part.balance]
    if not seizable:
        return health_down(*liquidity(held, {part.id for part in held}))
    stored = {part.id: part.counted(fresh=False) for part in held}
    later = {part.id: part.counted(fresh=True) for part in held}
    collateral = sum(counted for counted, _ in stored.values())
    debt = sum(owed for _, owed in stored.values())
    least = MAX_UINT256
    for owed in owing:
        for seized in seizable:
            pair = {owed.id, seized.id}
            up = collateral + sum(later[each][0] - stored[each][0] for each in pair)
            down = debt + sum(later[each][1] - stored[each][1] for each in pair)
            least = min(least, health_down(up, down))
    return Wad(least)


def with_parts(position: Position, held: Sequence[Part]) -> Position:
    """Return a position made of these parts; collateral is in cTokens, which is what is seized."""
    collateral = tuple(
        CollateralLeg(
            part.token,
            part.balance,
            part.worth() * WAD,
            Bps(part.terms.threshold // BPS_MANTISSA),
            Bps(part.terms.incentive // BPS_MANTISSA),
        )
        for part in held
        if part.balance
    )
    debt = tuple(
        DebtLeg(
            part.underlying,
            part.debts[1],
            value_down(part.debts[1], part.price) * WAD,
        )
        for part in held
        if part.debts[1]
    )
    return replace(
        position,
        collateral=collateral,
        debt=debt,
        collateral_value=sum(leg.value for leg in collateral),
        debt_value=sum(leg.value for leg in debt),
        health=least_health(held),
    )


def plain(ledger: Ledger, position: Position, prices: Prices) -> Position:
    """Return a position with its collateral in underlying tokens, of the same values."""
    collateral = []
    for leg in position.collateral:
        ctoken = ledger.by_address.get(leg.token.address)
        price = None if ctoken is None else prices.get(ctoken.underlying.address)
        if ctoken is not None and price:
            token = ctoken.underlying
            amount = leg.value * int(10**token.decimals) // price
            leg = replace(leg, token=token, amount=amount)  # noqa: PLW2901
        collateral.append(leg)
    return replace(position, collateral=tuple(collateral))


def behind(held: Sequence[Part], position: Position) -> list[Part]:
    """Return parts as calls of the same block left them, which the position's legs tell."""
    balances = {leg.token.address: leg.amount for leg in position.collateral}
    debts: dict[Address, list[int]] = {}
    for leg in position.debt:
        debts.setdefault(leg.token.address, []).append(leg.amount)
    # Legs do not tell cTokens of one token apart: what nothing happened to is found first.
    same = {part.id for part in held if _taken(debts, part, part.debts[1])}
    left = []
    for part in held:
        rest = debts.get(part.underlying.address, []) if part.debts[1] else []
        debt = part.debts[1] if part.id in same else rest.pop(0) if rest else 0
        balance = balances.get(part.token.address, 0)
        is_as_read = (balance, debt) == (part.balance, part.debts[1])
        left.append(part if is_as_read else part.accrued(balance, debt))
    return left


def _taken(debts: dict[Address, list[int]], part: Part, debt: int) -> bool:
    """Take a part's debt out of the legs of its token, and tell whether it was there."""
    legs = debts.get(part.underlying.address, [])
    if not debt or debt not in legs:
        return False
    legs.remove(debt)
    return True
