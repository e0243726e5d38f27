"""What a borrower needs to know: prices of liquidation, what helps, and what it would cost. Exact."""

from dataclasses import dataclass

from keeper.types import Position, Prices, Token
from keeper.units import BPS, WAD, mul_div_down, mul_div_up

NEAR = 10**6
"""One over the relative difference of two healths that rounding explains."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """The price at which a position is liquidatable when nothing else moves.

    At or under it where `is_fall`, at or above it otherwise; in the market's base currency.
    """

    token: Token
    price: int
    is_fall: bool


@dataclass(frozen=True, slots=True)
class Remedy:
    """An amount of a token that brings a position back to a health."""

    token: Token
    amount: int


def crossings(position: Position, prices: Prices) -> list[Crossing]:
    """Return the price of liquidation of each asset, alone; none for what cannot bring it about.

    Health is Σ value · threshold over Σ debt; with one price p it is one where
    (w − d) · p / p₀ = rest of debt − rest of weighted collateral. Rounded towards the price now, by
    less than what one base unit of the position's values is in that price.
    """
    weighted, owed = _weights(position)
    total, debt = sum(weighted.values()), sum(owed.values())
    tokens = {leg.token.address: leg.token for leg in position.collateral}
    tokens |= {leg.token.address: leg.token for leg in position.debt}
    found = []
    for address, token in tokens.items():
        price = prices.get(address)
        held, due = weighted.get(address, 0), owed.get(address, 0)
        net, rest = held - due, (debt - due) - (total - held)
        if price is None or net == 0 or rest * net <= 0:
            continue
        is_fall = net > 0
        at = mul_div_down(rest, price, net) if is_fall else mul_div_up(-rest, price, -net)
        found.append(Crossing(token, at, is_fall))
    return found


def repay_up(position: Position, health: int, prices: Prices) -> list[Remedy]:
    """Return for each debt how much of it to repay to have at least a health; none where all is too little."""
    weighted, owed = _weights(position)
    total, debt = sum(weighted.values()), sum(owed.values())
    over = debt - mul_div_down(total, WAD, health)
    found: list[Remedy] = []
    for leg in position.debt:
        price = prices.get(leg.token.address)
        if over <= 0 or not price:
            continue
        # one unit of the base currency more, as the protocol rounds values against the borrower
        amount = mul_div_up(over + BPS, 10**leg.token.decimals, BPS * price)
        if amount <= leg.amount:
            found.append(Remedy(leg.token, amount))
    return found


def add_up(position: Position, health: int, prices: Prices) -> list[Remedy]:
    """Return for each collateral how much more of it to supply to have at least a health."""
    weighted, owed = _weights(position)
    short = mul_div_up(sum(owed.values()), health, WAD) - sum(weighted.values())
    found: list[Remedy] = []
    for leg in position.collateral:
        price = prices.get(leg.token.address)
        if short <= 0 or not price or not leg.threshold:
            continue
        amount = mul_div_up(short + 2 * BPS, 10**leg.token.decimals, leg.threshold * price)
        found.append(Remedy(leg.token, amount))
    return found


def liquidation_cost_up(position: Position) -> int:
    """Return what liquidations of the whole debt would take beyond it, in base currency.

    The dearest collateral first, as a liquidator chooses; never more than there is.
    """
    left, cost = position.debt_value, 0
    for leg in sorted(position.collateral, key=lambda leg: leg.bonus, reverse=True):
        repaid = min(left, leg.value * BPS // max(leg.bonus, BPS))
        cost += mul_div_up(repaid, max(leg.bonus - BPS, 0), BPS)
        left -= repaid
    return cost


def _weights(position: Position) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Return weighted collateral and debt by asset, both in base currency · 10,000."""
    weighted: dict[bytes, int] = {}
    owed: dict[bytes, int] = {}
    for leg in position.collateral:
        at = leg.token.address
        weighted[at] = weighted.get(at, 0) + leg.value * leg.threshold
    for debt in position.debt:
        at = debt.token.address
        owed[at] = owed.get(at, 0) + debt.value * BPS
    # A threshold that is no whole number of basis points follows from the health, which is exact.
    if len(weighted) == 1 and (due := sum(owed.values())):
        ((asset, told),) = weighted.items()
        exact = mul_div_down(due, position.health, WAD)
        if abs(exact - told) * NEAR > told:
            weighted[asset] = exact
    return weighted, owed
