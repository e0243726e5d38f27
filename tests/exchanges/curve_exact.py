"""Curve's invariants solved by bisection in high precision: nothing of the contracts' iterations."""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from math import prod

DIGITS = 120
STEPS = 380


def stable_left(held: Sequence[int], bought: int, x: dict[int, int], ann: Decimal) -> Decimal:
    """Return the balance of a coin on the curve through `held` once others stand at `x`.

    All with 18 decimals; `ann` is A·n^n of A·n^n·S + D = A·D·n^n + D^(n+1) / (n^n·prod).
    """
    with localcontext(prec=DIGITS):
        d = stable_d(held, ann)
        count = len(held)
        moved = [Decimal(x.get(index, each)) for index, each in enumerate(held)]

        def off(y: Decimal) -> Decimal:
            now = [*moved]
            now[bought] = y
            return Decimal(
                ann * sum(now, Decimal(0))
                + d
                - ann * d
                - d ** (count + 1) / (count**count * prod(now))
            )

        return _root(off, d / 10**12, d * 10)


def stable_d(held: Sequence[int], ann: Decimal) -> Decimal:
    """Return D of balances."""
    with localcontext(prec=DIGITS):
        count, total = len(held), Decimal(sum(held))
        volume = prod(Decimal(each) for each in held) * count**count

        def off(d: Decimal) -> Decimal:
            return Decimal(d ** (count + 1) / volume + (ann - 1) * d - ann * total)

        return _root(off, total / 10**6, total * 2)


def crypto_left(
    held: Sequence[int], bought: int, d: int, ann: Decimal, gamma: Decimal, guess: int
) -> Decimal:
    """Return the balance of a coin on the curve of this D, near a guess.

    K·D^(n-1)·S + prod = K·D^n + (D/n)^n with K0 = prod·n^n / D^n and
    K = A·K0·(gamma / (gamma + 1 - K0))^2; `ann` is A·n^n.
    """
    with localcontext(prec=DIGITS):
        return _root(
            lambda y: _crypto_off([*held[:bought], y, *held[bought + 1 :]], Decimal(d), ann, gamma),
            Decimal(guess) * 99 / 100,
            Decimal(guess) * 101 / 100,
        )


def crypto_d(held: Sequence[int], ann: Decimal, gamma: Decimal, guess: int) -> Decimal:
    """Return D of balances, near a guess."""
    with localcontext(prec=DIGITS):
        low, high = Decimal(guess) * 999 / 1000, Decimal(guess) * 1001 / 1000
        return _root(lambda d: -_crypto_off(held, d, ann, gamma), low, high)


def _crypto_off(held: Sequence[int | Decimal], d: Decimal, ann: Decimal, gamma: Decimal) -> Decimal:
    count = len(held)
    each = [Decimal(one) / d for one in held]
    k0 = prod(each) * count**count
    k = ann / count**count * k0 * (gamma / (gamma + 1 - k0)) ** 2
    return Decimal(k * sum(each) + prod(each) - k - Decimal(1) / count**count)


def _root(off: Callable[[Decimal], Decimal], low: Decimal, high: Decimal) -> Decimal:
    """Return where a rising function is zero."""
    assert off(low) < 0 < off(high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if off(middle) < 0:
            low = middle
        else:
            high = middle
        if high - low < Decimal("1e-3"):
            break
    return low
