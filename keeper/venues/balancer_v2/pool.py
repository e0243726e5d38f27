"""One weighted pool: what the vault holds for it, and what it gives for an amount."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from keeper.errors import InvariantError
from keeper.types import Hop
from keeper.units import Address
from keeper.venues.balancer_v2.powers import ONE, Powers, div_up, mul_up, pow_up

MOST_IN = ONE * 3 // 10
"""The part of a balance that may come in at once (WeightedMath.sol: _MAX_IN_RATIO)."""
_MOST = 2**112 - 1
"""The largest balance the vault can note (BalanceAllocation.sol)."""


class State(NamedTuple):
    """What changes: each token's cash in the vault, what a manager holds of it, fee and pause."""

    cash: tuple[int, ...]
    managed: tuple[int, ...]
    fee: int
    paused: bool


class Lending(NamedTuple):
    """Who keeps the fee of the vault's flash loans, and that fee in 1e18ths."""

    collector: Address
    fee: int


@dataclass(slots=True)
class Pool:
    """A pool of tokens by weight; `units` lift each token to 18 decimals.

    `powers` is None where its formula could not be tried: nothing is sold to such a pool.
    """

    address: Address
    number: bytes
    tokens: tuple[Address, ...]
    weights: tuple[int, ...]
    units: tuple[int, ...]
    state: State
    powers: Powers | None = None

    def sell(self, cash: tuple[int, ...], sold: int, bought: int, amount: int) -> int:
        """Return what an exact input brings, tokens by index; 0 when the pool would refuse it.

        BaseMinimalSwapInfoPool.sol: onSwap; the fee comes off first, rounded up.
        """
        _, managed, fee, paused = self.state
        if self.powers is None or paused or amount <= 0:
            return 0
        held_in, held_out = cash[sold] + managed[sold], cash[bought] + managed[bought]
        if held_in + amount > _MOST:
            return 0
        out = out_given_in_down(
            held_in * self.units[sold],
            self.weights[sold],
            held_out * self.units[bought],
            self.weights[bought],
            (amount - mul_up(amount, fee)) * self.units[sold],
            self.powers,
        )
        received = out // self.units[bought]
        return received if received <= cash[bought] else 0


def out_given_in_down(
    balance_in: int,
    weight_in: int,
    balance_out: int,
    weight_out: int,
    amount: int,
    powers: Powers,
) -> int:
    """Return what an amount brings, all with 18 decimals (WeightedMath.sol: _calcOutGivenIn).

    0 beyond the largest part of the balance that may come in.
    """
    if not balance_in or amount > balance_in * MOST_IN // ONE:
        return 0
    base = div_up(balance_in, balance_in + amount)
    try:
        left = pow_up(base, weight_in * ONE // weight_out, powers)
    except ArithmeticError:
        return 0
    return balance_out * max(ONE - left, 0) // ONE


class Trials:
    """Sales tried one after another; the pools themselves are not touched."""

    def __init__(self, pools: Mapping[Address, Pool]) -> None:
        self._pools = pools
        self._moved: dict[Address, tuple[int, ...]] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pool cannot fill it."""
        pool = self._pools[hop.pool]
        cash = self._moved.get(hop.pool, pool.state.cash)
        index = pool.tokens.index
        return pool.sell(cash, index(hop.token_in), index(hop.token_out), amount_in)

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output; a swap that cannot fill moves nothing."""
        out = self.quote(hop, amount_in)
        if out:
            pool = self._pools[hop.pool]
            cash = list(self._moved.get(hop.pool, pool.state.cash))
            cash[pool.tokens.index(hop.token_in)] += amount_in
            cash[pool.tokens.index(hop.token_out)] -= out
            self._moved[hop.pool] = tuple(cash)
        return out


Frozen = tuple[object, ...]


def freeze(pool: Pool) -> Frozen:
    """Return what a later fold does not change."""
    return (
        pool.address.hex(),
        pool.number.hex(),
        [token.hex() for token in pool.tokens],
        pool.weights,
        pool.units,
        pool.state,
        pool.powers,
    )


def encode(
    first: bytes, halted: bool, lending: Lending | None, pools: Iterable[Frozen]
) -> Iterator[bytes]:
    """Yield the pages: what identifies the venue, then its pools; there are few of them."""
    yield first
    lent = None if lending is None else [lending.collector.hex(), lending.fee]
    yield json.dumps([halted, lent, list(pools)]).encode()


def decode(first: bytes, pages: Iterable[bytes]) -> tuple[bool, Lending | None, list[Pool]]:
    """Return whether a snapshot's vault was paused, what it lends for, and its pools.

    Raises `InvariantError` when it is not one of this venue.
    """
    unread = iter(pages)
    if next(unread, b"") != first:
        raise InvariantError("balancer_v2", "the snapshot is of other pools or another format")
    try:
        halted, lent, pools = json.loads(b"".join(unread))
        lending = None if lent is None else Lending(Address(bytes.fromhex(lent[0])), lent[1])
        return bool(halted), lending, [_thaw(*each) for each in pools]
    except (ValueError, TypeError) as error:
        raise InvariantError("balancer_v2", f"a page cannot be read ({error})") from error


def _thaw(
    address: str,
    number: str,
    tokens: list[str],
    weights: list[int],
    units: list[int],
    state: tuple[list[int], list[int], int, bool],
    powers: int | None,
) -> Pool:
    cash, managed, fee, paused = state
    return Pool(
        Address(bytes.fromhex(address)),
        bytes.fromhex(number),
        tuple(Address(bytes.fromhex(token)) for token in tokens),
        tuple(weights),
        tuple(units),
        State(tuple(cash), tuple(managed), fee, paused),
        None if powers is None else Powers(powers),
    )
