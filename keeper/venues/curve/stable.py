"""StableSwap in the integers of its contracts: invariant, balances, fees.

Sources: StableSwap3Pool.vy, SwapTemplateBase.vy and CurveStableSwapNG.vy, which differ in where
they divide. Every function raises `ArithmeticError` where a contract would revert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

ONE = 10**18
FEE_ONE = 10**10
_ROUNDS = 255


class Product(IntEnum):
    """How a pool takes D^(n+1) / (n^n · prod): dividing by n at each coin, or once at the end."""

    EACH = 1
    LAST = 2


@dataclass(frozen=True, slots=True)
class Stable:
    """What an exchange depends on; `rates` lift balances to 18 decimals, times 1e18.

    `amplification` is A·n^(n-1), times `precision`: 1 in the first pools, 100 later. With
    `off_peg` above 1e10 the fee grows as the pool leans. Fees are parts of 1e10.
    """

    balances: tuple[int, ...]
    rates: tuple[int, ...]
    amplification: int
    precision: int
    fee: int
    admin_fee: int
    off_peg: int
    product: Product

    def scaled(self) -> tuple[int, ...]:
        """Return the balances with 18 decimals, rounded down."""
        return tuple(r * b // ONE for r, b in zip(self.rates, self.balances, strict=True))


def invariant(scaled: Sequence[int], pool: Stable) -> int:
    """Return D (`get_D`): what the pool would hold in all, were every coin worth the same."""
    count, total = len(scaled), sum(scaled)
    if not total:
        return 0
    if not all(scaled):
        raise ArithmeticError("a coin is used up")
    product, guess = pool.product, total
    ann, precision = pool.amplification * count, pool.precision
    for _ in range(_ROUNDS):
        part = guess
        for held in scaled:
            part = part * guess // (held if product is Product.LAST else held * count)
        if product is Product.LAST:
            part //= count**count
        before = guess
        guess = (
            (ann * total // precision + part * count)
            * guess
            // ((ann - precision) * guess // precision + (count + 1) * part)
        )
        if abs(guess - before) <= 1:
            return guess
    raise ArithmeticError("D did not converge")


def balance_after(scaled: Sequence[int], sold: int, bought: int, held: int, pool: Stable) -> int:
    """Return what of a coin is left once another stands at `held` (`get_y`), with 18 decimals."""
    count, d = len(scaled), invariant(scaled, pool)
    ann, precision = pool.amplification * count, pool.precision
    c, total = d, 0
    for index, balance in enumerate(scaled):
        if index == bought:
            continue
        here = held if index == sold else balance
        total += here
        c = c * d // (here * count)
    c = c * d * precision // (ann * count)
    b = total + d * precision // ann
    guess = d
    for _ in range(_ROUNDS):
        before = guess
        guess = (guess * guess + c) // (2 * guess + b - d)
        if abs(guess - before) <= 1:
            return guess
    raise ArithmeticError("y did not converge")


def exchange(pool: Stable, sold: int, bought: int, amount: int) -> tuple[int, tuple[int, ...]]:
    """Return what an exact input brings and the balances it leaves (`exchange`)."""
    scaled = pool.scaled()
    held = scaled[sold] + amount * pool.rates[sold] // ONE
    left = balance_after(scaled, sold, bought, held, pool)
    gross = scaled[bought] - left - 1
    if gross < 0:
        raise ArithmeticError("nothing is left to give")
    fee = gross * fee_at(pool, (scaled[sold] + held) // 2, (scaled[bought] + left) // 2) // FEE_ONE
    out = (gross - fee) * ONE // pool.rates[bought]
    kept = fee * pool.admin_fee // FEE_ONE * ONE // pool.rates[bought]
    balances = list(pool.balances)
    balances[sold] += amount
    balances[bought] -= out + kept
    if balances[bought] < 0:
        raise ArithmeticError("nothing is left to give")
    return out, tuple(balances)


def fee_at(pool: Stable, one: int, other: int) -> int:
    """Return the fee between two coins that stand so on average (`_dynamic_fee`)."""
    if pool.off_peg <= FEE_ONE:
        return pool.fee
    whole = (one + other) ** 2
    lean = (pool.off_peg - FEE_ONE) * 4 * one * other // whole
    return pool.off_peg * pool.fee // (lean + FEE_ONE)


def views(pool: Stable, sold: int, bought: int, amount: int) -> tuple[int, int]:
    """Return what `get_dy` may say of an amount: the fee before the conversion, or after it.

    An exchange always takes it before; the first pools' view does not.
    """
    scaled = pool.scaled()
    held = scaled[sold] + amount * pool.rates[sold] // ONE
    left = balance_after(scaled, sold, bought, held, pool)
    gross = scaled[bought] - left - 1
    if gross < 0:
        raise ArithmeticError("nothing is left to give")
    converted = gross * ONE // pool.rates[bought]
    return exchange(pool, sold, bought, amount)[0], converted - pool.fee * converted // FEE_ONE


def virtual_price(pool: Stable, supply: int) -> int:
    """Return what a share is worth, with 18 decimals (`get_virtual_price`)."""
    return invariant(pool.scaled(), pool) * ONE // supply
