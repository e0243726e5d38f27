"""What a plan's tokens and the native coin are worth, fixed when it is made."""

from collections.abc import Mapping

from keeper.errors import InvariantError
from keeper.types import Plan, Token, View
from keeper.units import ZERO_ADDRESS, Address, Usd, mul_div_up

NATIVE_UNIT = 10**18


def plan_tokens(plan: Plan) -> Mapping[Address, Token]:
    """Return every token a plan's liquidations pay with or bring in."""
    tokens: dict[Address, Token] = {}
    for quote in plan.quotes:
        tokens[quote.debt.address] = quote.debt
        for step in quote.steps:
            tokens[step.terms.collateral.address] = step.terms.collateral
            tokens[step.terms.debt.address] = step.terms.debt
    return tokens


def plan_prices(plan: Plan, view: View) -> Mapping[Address, Usd]:
    """Return dollars per whole token as the plan's markets price them; unread ones are left out.

    The native coin stands under `ZERO_ADDRESS`.
    """
    wanted = {address: address for address in plan_tokens(plan)}
    wanted[ZERO_ADDRESS] = view.native.address
    homes = {quote.opportunity.position.home for quote in plan.quotes}
    # the native coin may have no price in a market that does not list it
    markets = [*sorted(homes), *sorted(view.prices.keys() - homes)]
    found: dict[Address, Usd] = {}
    for key, asset in wanted.items():
        for market in markets:
            prices = view.prices.get(market)
            value = None if prices is None else prices.get(asset)
            if prices is not None and value is not None:
                found[key] = prices.usd(value)
                break
    return found


def native_usd_up(plan: Plan, wei: int) -> Usd:
    """Return an amount of native coin in dollars, rounded up; raise when the plan has no price."""
    price = plan.prices.get(ZERO_ADDRESS)
    if price is None:
        raise InvariantError(plan.chain, f"plan {plan.id} carries no price of the native coin")
    return Usd(mul_div_up(wei, price, NATIVE_UNIT))


def gain_usd_down(plan: Plan, gains: Mapping[Address, int]) -> tuple[Usd, frozenset[Address]]:
    """Return gains in dollars, each rounded down, and the gained tokens that have no price."""
    tokens = plan_tokens(plan)
    total = 0
    unpriced = set()
    for address, gain in gains.items():
        token, price = tokens.get(address), plan.prices.get(address)
        if token is not None and price is not None:
            total += gain * price // 10**token.decimals
        elif gain:
            unpriced.add(address)
    return Usd(total), frozenset(unpriced)
