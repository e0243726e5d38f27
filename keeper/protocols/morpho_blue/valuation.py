"""What a borrower's collateral and debt are worth, what may be liquidated, and what that leaves.

A position carries in `state` what its terms follow from beside its amounts: the market's number, the
borrow shares owed, and the market's borrowed assets and shares.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from keeper.errors import InvariantError
from keeper.protocols.morpho_blue import fixed
from keeper.protocols.morpho_blue.accounts import borrower_of, number_of, unpack
from keeper.protocols.morpho_blue.early import Early
from keeper.protocols.morpho_blue.ledger import Ledger, Pool
from keeper.protocols.morpho_blue.terms import MorphoTerms, Way
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Token
from keeper.units import BPS, MAX_UINT256, WAD, Address, Bps, Wad, at_multiple


class State(NamedTuple):
    """What `Position.state` holds here; the number is the place's, market or contract."""

    number: int
    shares: int
    total_assets: int
    total_shares: int


def state_of(position: Position) -> State:
    """Return a position's state; raise `InvariantError` for one of another protocol."""
    if len(position.state) != len(State._fields):
        raise InvariantError(position.market, "this position is another protocol's")
    return State(*position.state)


def health_down(collateral: int, price: int, lltv: int, owed: int) -> Wad:
    """Return the most that may be owed over what is, under 1e18 exactly when it is liquidatable."""
    if not owed:
        return Wad(MAX_UINT256)
    return Wad(fixed.most_borrowed_down(collateral, price, lltv) * WAD // owed)


def worth_down(amount: int, token: Token, price: int) -> int:
    """Return the value of a token in base currency."""
    return amount * price // int(10**token.decimals)


def oracle_key(place: Pool | Early) -> Address:
    """Return where among a market's prices stands what the oracle of one of its places says."""
    return Address(place.id) if isinstance(place, Pool) else place.terms.contract


def position(
    ledger: Ledger, protocol: str, key: Address, prices: Prices, timestamp: int
) -> Position | None:
    """Return a position with interest to a time, None without a price or rate it needs.

    Its health is under 1e18 exactly when Morpho._isHealthy says no in a block of that time.
    """
    number = number_of(key)
    pool, early = ledger.pool_of(number)
    price, base = prices.get(oracle_key(early or pool)), prices.get(pool.terms.loan)
    totals = pool.at(timestamp)
    if not price or not base or totals is None or pool.loan is None or pool.collateral is None:
        return None
    held, shares = unpack(ledger.record(key))
    state = State(number, shares, totals.borrow_assets, totals.borrow_shares)
    return _valued(
        Position(
            market=name_of(ledger, number),
            protocol=protocol,
            borrower=borrower_of(key),
            collateral=(),
            debt=(),
            collateral_value=0,
            debt_value=0,
            health=Wad(0),
        ),
        pool,
        early,
        state,
        held,
        price,
        base,
    )


def name_of(ledger: Ledger, number: int) -> str:
    """Return the `market` of positions in a place."""
    pool, early = ledger.pool_of(number)
    return f"{ledger.market}/{pool.place}" + (f"-{early.place}" if early else "")


def _valued(
    position: Position,
    pool: Pool,
    early: Early | None,
    state: State,
    held: int,
    price: int,
    base: int,
) -> Position:
    """Return a position as its state and collateral say; legs that are used up are gone.

    In a pre-liquidation contract its health is by that one's threshold, and 1e18 at least where it
    is past Morpho's own and the contract takes it no more.
    """
    assert pool.loan is not None, "its tokens were read"
    assert pool.collateral is not None, "its tokens were read"
    owed = fixed.assets_up(state.shares, state.total_assets, state.total_shares)
    debt_value = worth_down(owed, pool.loan, base)
    value = worth_down(fixed.quoted_down(held, price), pool.loan, base)
    threshold, bonus, lltv = pool.threshold, pool.bonus, pool.terms.lltv
    health = health_down(held, price, lltv, owed)
    if early is not None:
        lltv = early.terms.lltv
        is_open = early.terms.is_open(held, price, owed, pool.terms.lltv)
        health = max(health_down(held, price, lltv, owed), Wad(0 if is_open else WAD))
        threshold = Bps(lltv * BPS // WAD)
        bonus = Bps(early.terms.incentive_low * BPS // WAD)
    collateral = CollateralLeg(pool.collateral, held, value, threshold, bonus)
    return replace(
        position,
        collateral=(collateral,) if held else (),
        debt=(DebtLeg(pool.loan, owed, debt_value),) if owed else (),
        collateral_value=value,
        debt_value=debt_value,
        health=health,
        state=tuple(state),
    )


def rates_down(ledger: Ledger, prices: Prices) -> dict[str, tuple[Token, Token, int]]:
    """Return by place collateral, loan token and the oracle's price in 1e18ths, whole for whole."""
    found = {}
    for pool in ledger.pools.values():
        collateral, loan = pool.collateral, pool.loan
        if collateral is None or loan is None:
            continue
        for early in (None, *pool.early):
            price = prices.get(oracle_key(early or pool)) or 0
            scaled = price * WAD * int(10**collateral.decimals)
            if whole := scaled // (int(10**loan.decimals) * fixed.PRICE_SCALE):
                name = f"{ledger.market}/{pool.place}" + (f"-{early.place}" if early else "")
                found[name] = collateral, loan, whole
    return found


def moved(ledger: Ledger, prices: Prices, multiples: Mapping[Address, float]) -> Prices:
    """Return prices when each token is worth a multiple of what it is."""
    follow = dict(multiples)
    for pool in ledger.pools.values():
        ratio = multiples.get(pool.terms.collateral, 1.0) / multiples.get(pool.terms.loan, 1.0)
        places: tuple[Pool | Early, ...] = (pool, *pool.early)
        follow |= dict.fromkeys(map(oracle_key, places), ratio)
    values = {key: at_multiple(price, follow.get(key, 1.0)) for key, price in prices.values.items()}
    return replace(prices, values=values)


def plain(ledger: Ledger, position: Position, prices: Prices) -> Prices:
    """Return the prices of a position's two tokens as its market sees them, the collateral's down."""
    pool, early = ledger.pool_of(state_of(position).number)
    price, base = prices.get(oracle_key(early or pool)), prices.get(pool.terms.loan)
    if not price or not base or pool.loan is None or pool.collateral is None:
        return prices
    whole = int(10**pool.collateral.decimals)
    implied = fixed.quoted_down(whole * base, price) // int(10**pool.loan.decimals)
    return replace(prices, values={pool.collateral.address: implied, pool.loan.address: base})


def terms(
    pool: Pool, early: Early | None, position: Position, price: int, base: int, *, spare: int
) -> MorphoTerms | None:
    """Return what may be taken of a liquidatable position, None when nothing is.

    `price` is the oracle's, `base` the loan token's; `spare` is the collateral left behind where all of it would have bad debt written off.
    """
    if pool.loan is None or pool.collateral is None or not position.collateral:
        return None
    state = state_of(position)
    held = position.collateral[0].amount
    found = MorphoTerms(
        id=pool.id,
        collateral=pool.collateral,
        debt=pool.loan,
        bonus=pool.bonus,
        incentive=pool.terms.incentive,
        price=price,
        base=base,
        shares=state.shares,
        held=held,
        total_assets=state.total_assets,
        total_shares=state.total_shares,
    )
    if early is not None:
        owed = position.debt[0].amount
        incentive, close = early.terms.factors_down(held, price, owed, pool.terms.lltv)
        found = replace(
            found,
            incentive=incentive,
            bonus=Bps(incentive * BPS // WAD),
            contract=early.terms.contract,
            cap=fixed.wad_mul_down(state.shares, close),
        )
        return found if found.legal_down(found.maximum) else None
    if spare and found.way is Way.COLLATERAL:
        found = replace(found, held=held - spare)
    return found if found.legal_down(found.maximum) else None


def after(
    position: Position, pool: Pool, early: Early | None, terms: MorphoTerms, repay: int
) -> Position:
    """Return what a legal call leaves of a position in the same block (Morpho.liquidate).

    What is left of a debt without collateral is written off.
    """
    state = state_of(position)
    seizure, burned = terms.seize(repay), terms.shares_of(repay)
    held = position.collateral[0].amount - seizure.received
    shares = state.shares - burned
    assets = max(state.total_assets - seizure.repaid, 0)
    total_shares = state.total_shares - burned
    if not held:
        bad = min(assets, fixed.assets_up(shares, assets, total_shares))
        assets, total_shares, shares = assets - bad, total_shares - shares, 0
    left = State(state.number, shares, assets, total_shares)
    return _valued(position, pool, early, left, held, terms.price, terms.base)
