"""Pools of unlike coins in the integers of their contracts: invariant, balances, fees.

Sources: CurveCryptoMath3.vy and CurveCryptoSwap.vy for three coins, CurveCryptoSwap2.vy for two.
Every function raises `ArithmeticError` where a contract would revert.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ONE = 10**18
FEE_ONE = 10**10
_ROUNDS = 255
_LEAST_PART, _MOST_PART = 10**16, 10**20
_LEAST_D, _MOST_D = 10**17, 10**33
_CLOSE = 10**14


@dataclass(frozen=True, slots=True)
class Crypto:
    """What an exchange depends on; `units` lift balances to 18 decimals.

    `prices` are of the coins after the first, in the first, with 18 decimals (`price_scale`).
    `amplification` is A·n^n, times `multiplier`: 100 in the first pools, 10,000 later. With `renews`
    D is found anew before each exchange, as pools do once their A was ever ramped.
    """

    balances: tuple[int, ...]
    units: tuple[int, ...]
    prices: tuple[int, ...]
    d: int
    amplification: int
    multiplier: int
    gamma: int
    mid_fee: int
    out_fee: int
    fee_gamma: int
    renews: bool = False

    def scaled(self, balances: Sequence[int]) -> list[int]:
        """Return balances in the first coin at its prices, with 18 decimals, rounded down."""
        return [
            held * unit * price // ONE
            for held, unit, price in zip(balances, self.units, (ONE, *self.prices), strict=True)
        ]


def exchange(pool: Crypto, sold: int, bought: int, amount: int) -> int:
    """Return what an exact input brings (`exchange`, `get_dy`)."""
    d = invariant(pool.scaled(pool.balances), pool) if pool.renews else pool.d
    balances = list(pool.balances)
    balances[sold] += amount
    scaled = pool.scaled(balances)
    left = balance_after(scaled, bought, d, pool)
    gross = scaled[bought] - left - 1
    if gross < 0:
        raise ArithmeticError("nothing is left to give")
    scaled[bought] = left
    price = ONE if bought == 0 else pool.prices[bought - 1]
    out = gross * ONE // price // pool.units[bought]
    out -= fee_at(scaled, pool) * out // FEE_ONE
    if out > pool.balances[bought]:
        raise ArithmeticError("nothing is left to give")
    return out


def fee_at(scaled: Sequence[int], pool: Crypto) -> int:
    """Return the fee in parts of 1e10 (`_fee`): `mid_fee` in balance, towards `out_fee` out of it."""
    count, total = len(scaled), sum(scaled)
    if count == 2:
        even = ONE * 4 * scaled[0] // total * scaled[1] // total
    else:
        even = ONE
        for held in scaled:
            even = even * count * held // total
    near = even
    if count == 2 or pool.fee_gamma:
        near = pool.fee_gamma * ONE // (pool.fee_gamma + ONE - even)
    return (pool.mid_fee * near + pool.out_fee * (ONE - near)) // ONE


def invariant(scaled: Sequence[int], pool: Crypto) -> int:
    """Return D of balances (`newton_D`)."""
    held, count = sorted(scaled, reverse=True), len(scaled)
    _check(10**9 <= held[0] <= _MOST_D)
    least = 10**14 if count == 2 else 10**11
    _check(all(each * ONE // held[0] >= least for each in held[1:]))
    guess, total = count * geometric_mean(held), sum(held)
    for _ in range(_ROUNDS):
        before = guess
        if count == 2:
            k = ONE * 4 * held[0] // guess * held[1] // guess
        else:
            k = ONE
            for each in held:
                k = k * each * count // guess
        lean = _lean(pool.gamma, k)
        first = _first(pool, guess, lean)
        second = 2 * ONE * count * k // lean
        slope = total + total * second // ONE + first * count // k - second * guess // ONE
        plus = guess * (slope + total) // slope
        minus = guess * guess // slope
        if k < ONE:
            minus += guess * (first // slope) // ONE * (ONE - k) // k
        else:
            minus -= guess * (first // slope) // ONE * (k - ONE) // k
        _check(slope > 0 and minus >= 0)
        guess = plus - minus if plus > minus else (minus - plus) // 2
        if abs(guess - before) * _CLOSE < max(10**16, guess):
            _check(all(_fits(each, guess) for each in held))
            return guess
    raise ArithmeticError("D did not converge")


def balance_after(scaled: Sequence[int], bought: int, d: int, pool: Crypto) -> int:
    """Return what of a coin is left beside the other balances (`newton_y`), with 18 decimals."""
    count = len(scaled)
    others = sorted((held for at, held in enumerate(scaled) if at != bought), reverse=True)
    _check(_LEAST_D <= d <= _MOST_D and all(_fits(held, d) for held in others))
    rest, k_rest = sum(others), ONE
    for held in others:
        k_rest = k_rest * held * count // d
    if count == 2:
        guess = d * d // (others[0] * 4)
    else:
        guess = d // count
        for held in reversed(others):
            guess = guess * d // (held * count)
    limit = max(others[0] // _CLOSE, d // _CLOSE, 100)
    for _ in range(_ROUNDS):
        before = guess
        k = k_rest * guess * count // d
        total = rest + guess
        lean = _lean(pool.gamma, k)
        first = _first(pool, d, lean)
        second = ONE + 2 * ONE * k // lean
        slope = ONE * guess + total * second + first - d * second
        if slope < 0:
            guess = before // 2
            continue
        prime = slope // guess
        minus = first // prime
        plus = (slope + ONE * d) // prime + minus * ONE // k
        minus += ONE * total // prime
        guess = before // 2 if plus < minus else plus - minus
        if abs(guess - before) < max(limit, guess // _CLOSE):
            _check(_fits(guess, d))
            return guess
    raise ArithmeticError("y did not converge")


def geometric_mean(held: Sequence[int]) -> int:
    """Return the geometric mean of balances that fall in order (`geometric_mean`)."""
    count, guess = len(held), held[0]
    for _ in range(_ROUNDS):
        before = guess
        if count == 2:
            guess = (guess + held[0] * held[1] // guess) // 2
        else:
            part = ONE
            for each in held:
                part = part * each // guess
            guess = guess * ((count - 1) * ONE + part) // (count * ONE)
        moved = abs(guess - before)
        if moved <= 1 or moved * ONE < guess:
            return guess
    raise ArithmeticError("the mean did not converge")


def virtual_price(pool: Crypto, supply: int) -> int:
    """Return what a share is worth, with 18 decimals (`get_virtual_price`)."""
    count = len(pool.units)
    even = [pool.d // count, *(pool.d * ONE // (count * price) for price in pool.prices)]
    return ONE * geometric_mean(sorted(even, reverse=True)) // supply


def _lean(gamma: int, k: int) -> int:
    return abs(gamma + ONE - k) + 1


def _first(pool: Crypto, d: int, lean: int) -> int:
    part = ONE * d // pool.gamma * lean // pool.gamma * lean
    return part * pool.multiplier // pool.amplification


def _fits(held: int, d: int) -> bool:
    return _LEAST_PART <= held * ONE // d <= _MOST_PART


def _check(holds: bool) -> None:
    if not holds:
        raise ArithmeticError("unsafe values")
