"""Prices of liquidation and remedies hold on drawn positions, to the unit of the base currency."""

from hypothesis import assume, given, strategies as st

from keeper.margin.figures import add_up, crossings, liquidation_cost_up, repay_up
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Token
from keeper.units import BPS, WAD, Address, Bps, Wad

TOKENS = tuple(
    Token(Address(bytes([n]) * 20), f"T{n}", decimals)
    for n, decimals in enumerate((18, 6, 8, 18), 1)
)
UNIT = 10**8
PRICE = st.integers(10**6, 10**13)
AMOUNT = st.integers(10**3, 10**9)
HOLDING = st.tuples(AMOUNT, st.integers(4_000, 9_500), st.integers(10_050, 11_500))


def build(
    held: dict[int, tuple[int, int, int]], owed: dict[int, int], prices: dict[int, int]
) -> Position:
    """Return the position as Aave v3.6 values it: collateral down, debt up, health down."""
    collateral, debt = [], []
    for n, (amount, threshold, bonus) in held.items():
        token = TOKENS[n]
        value = amount * prices[n] // 10**token.decimals
        collateral.append(CollateralLeg(token, amount, value, Bps(threshold), Bps(bonus)))
    for n, amount in owed.items():
        token = TOKENS[n]
        debt.append(DebtLeg(token, amount, -(-amount * prices[n] // 10**token.decimals)))
    total, due = sum(leg.value for leg in collateral), sum(leg.value for leg in debt)
    weighted = sum(leg.value * leg.threshold for leg in collateral)
    health = (weighted * WAD + due // 2) // due // BPS if due else 2**256 - 1
    return Position(
        "m", "p", Address(b"\x07" * 20), tuple(collateral), tuple(debt), total, due, Wad(health)
    )


@st.composite
def accounts(draw):
    numbers = st.integers(0, len(TOKENS) - 1)
    prices = {n: draw(PRICE) for n in range(len(TOKENS))}
    held = {
        n: (amount * 10 ** TOKENS[n].decimals // 1_000, threshold, bonus)
        for n, (amount, threshold, bonus) in draw(
            st.dictionaries(numbers, HOLDING, min_size=1, max_size=3)
        ).items()
    }
    owed = {
        n: amount * 10 ** TOKENS[n].decimals // 1_000
        for n, amount in draw(st.dictionaries(numbers, AMOUNT, min_size=1, max_size=3)).items()
    }
    return held, owed, prices


def given_prices(prices: dict[int, int]) -> Prices:
    return Prices("m", UNIT, {TOKENS[n].address: price for n, price in prices.items()})


@given(accounts())
def test_a_position_is_liquidatable_from_the_price_told_on(account) -> None:
    held, owed, prices = account
    now = build(held, owed, prices)
    values = [leg.value for leg in now.collateral] + [leg.value for leg in now.debt]
    least = min(values)
    assume(least > 10**8)
    found = crossings(now, given_prices(prices))
    for crossing in found:
        number = next(n for n, token in enumerate(TOKENS) if token == crossing.token)
        # what one unit of the base currency, rounded away in a value, is in this price
        slack = 2 + 16 * max(crossing.price, prices[number]) // least
        signs = (-1, 1) if crossing.is_fall else (1, -1)
        beyond, before = (crossing.price + sign * slack for sign in signs)
        if beyond > 0:
            assert build(held, owed, prices | {number: beyond}).health < WAD
        # so deep under that nothing but a price of next to nothing helps: rounding is all there is
        if before > 0:
            assert build(held, owed, prices | {number: before}).health >= WAD
    named = {crossing.token for crossing in found}
    for n in held.keys() | owed.keys():
        if TOKENS[n] not in named:
            # neither worth nothing nor worth a thousand times as much does it change sides
            sides = {
                build(held, owed, prices | {n: price}).health < WAD
                for price in (1, prices[n], prices[n] * 1_000)
            }
            assert len(sides) == 1 or n in held.keys() & owed.keys()


@given(accounts(), st.integers(101, 300))
def test_what_is_told_to_repay_or_add_suffices_and_is_little_more(account, percent: int) -> None:
    held, owed, prices = account
    target, now = percent * WAD // 100, build(held, owed, prices)
    assume(WAD // 10 < now.health < target)
    for remedy in repay_up(now, target, given_prices(prices)):
        number = next(n for n, token in enumerate(TOKENS) if token == remedy.token)
        left = owed | {number: owed[number] - remedy.amount}
        assert remedy.amount <= owed[number]
        assert build(held, left, prices).health >= target
        less = remedy.amount - 2 - 4 * 10 ** TOKENS[number].decimals // prices[number]
        short = owed | {number: owed[number] - less}
        assert less <= 0 or build(held, short, prices).health <= target
    for remedy in add_up(now, target, given_prices(prices)):
        number = next(n for n, token in enumerate(TOKENS) if token == remedy.token)
        amount, *terms = held[number]
        more = held | {number: (amount + remedy.amount, *terms)}
        assert build(more, owed, prices).health >= target


@given(accounts())
def test_a_liquidation_costs_no_more_than_there_is(account) -> None:
    now = build(*account)
    cost = liquidation_cost_up(now)
    highest = max(leg.bonus for leg in now.collateral)
    assert 0 <= cost <= now.debt_value * (highest - BPS) // BPS + len(now.collateral)
    assert cost <= max(now.collateral_value - 1, 0) + len(now.collateral)
