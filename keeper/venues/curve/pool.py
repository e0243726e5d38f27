"""One Curve pool as the venue holds it, and sales tried on it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from keeper.errors import InvariantError
from keeper.types import Hop
from keeper.units import Address
from keeper.venues.curve import crypto, stable
from keeper.venues.curve.crypto import Crypto
from keeper.venues.curve.stable import Product, Stable

State = Stable | Crypto


@dataclass(frozen=True, slots=True)
class StableKind:
    """Which of the StableSwap contracts a pool is."""

    precision: int
    product: Product


@dataclass(frozen=True, slots=True)
class CryptoKind:
    """Which of the crypto pool contracts a pool is.

    A `renewing` one finds D anew in each exchange once its A was ever ramped.
    """

    multiplier: int
    renewing: bool


Kind = StableKind | CryptoKind


@dataclass(slots=True)
class Pool:
    """A pool's coins, the native one under the zero address, and its state.

    `state` is None where it is not known for the block to come: nothing is sold to such a pool.
    """

    address: Address
    coins: tuple[Address, ...]
    decimals: tuple[int, ...]
    kind: Kind
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Sold:
    """A crypto pool and what one sale has taken of it so far, coins by index."""

    before: Crypto
    sold: int
    bought: int
    amount: int = 0
    out: int = 0


def sell(state: State | Sold, sold: int, bought: int, amount: int) -> tuple[int, State | Sold]:
    """Return what an exact input brings, coins by index, and the state it leaves.

    0 when the pool would refuse it. What an exchange leaves of a crypto pool's prices depends on
    more than is held here, so that more of the same coins counts as a larger sale, which is what a
    group makes of it; nothing else is sold there behind it.
    """
    if amount <= 0:
        return 0, state
    try:
        match state:
            case Stable():
                out, balances = stable.exchange(state, sold, bought, amount)
                return (out, replace(state, balances=balances)) if out else (0, state)
            case Crypto():
                return _add(Sold(state, sold, bought), amount)
            case Sold(_, one, other) if (one, other) == (sold, bought):
                return _add(state, amount)
            case Sold():
                return 0, state
    except ArithmeticError:
        return 0, state


def _add(state: Sold, amount: int) -> tuple[int, Sold]:
    whole = state.amount + amount
    out = crypto.exchange(state.before, state.sold, state.bought, whole)
    if out <= state.out:
        return 0, state
    return out - state.out, replace(state, amount=whole, out=out)


class Trials:
    """Sales tried one after another; the pools themselves are not touched."""

    def __init__(self, pools: Mapping[Address, Pool]) -> None:
        self._pools = pools
        self._moved: dict[Address, State | Sold | None] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pool cannot fill it."""
        return self._sell(hop, amount_in)[0]

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output; a swap that cannot fill moves nothing."""
        out, left = self._sell(hop, amount_in)
        if out:
            self._moved[hop.pool] = left
        return out

    def _sell(self, hop: Hop, amount: int) -> tuple[int, State | Sold | None]:
        pool = self._pools[hop.pool]
        state = self._moved.get(hop.pool, pool.state)
        if state is None:
            return 0, None
        return sell(state, pool.coins.index(hop.token_in), pool.coins.index(hop.token_out), amount)


Frozen = tuple[object, ...]


def freeze(pool: Pool) -> Frozen:
    """Return what does not change of a pool; its state is read at each head."""
    match pool.kind:
        case StableKind(precision, product):
            told: tuple[object, ...] = (precision, int(product))
        case CryptoKind(multiplier, renewing):
            told = (multiplier, renewing)
        case never:
            assert_never(never)
    return pool.address.hex(), [coin.hex() for coin in pool.coins], pool.decimals, told


def encode(first: bytes, pools: Iterable[Frozen]) -> Iterator[bytes]:
    """Yield the pages: what identifies the venue, then its pools; there are few of them."""
    yield first
    yield json.dumps(list(pools)).encode()


def decode(first: bytes, pages: Iterable[bytes]) -> list[Pool]:
    """Return a snapshot's pools; raise `InvariantError` when it is not one of this venue."""
    unread = iter(pages)
    if next(unread, b"") != first:
        raise InvariantError("curve", "the snapshot is of other pools or another format")
    try:
        return [_thaw(*each) for each in json.loads(b"".join(unread))]
    except (ValueError, TypeError) as error:
        raise InvariantError("curve", f"a page cannot be read ({error})") from error


def _thaw(address: str, coins: list[str], decimals: list[int], told: list[Any]) -> Pool:
    number, which = told
    return Pool(
        Address(bytes.fromhex(address)),
        tuple(Address(bytes.fromhex(coin)) for coin in coins),
        tuple(decimals),
        CryptoKind(number, which)
        if isinstance(which, bool)
        else StableKind(number, Product(which)),
    )
