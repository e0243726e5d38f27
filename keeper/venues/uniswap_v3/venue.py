"""Uniswap V3 as a venue: found through its factory, kept by logs, quoted in local integers."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.ports import Pages, Reader
from keeper.types import (
    Call,
    CallResult,
    Drift,
    FlashKind,
    FlashSource,
    Head,
    Hop,
    Log,
    PoolSwap,
    TrustedFactory,
    Undo,
    Watch,
)
from keeper.units import Address, to_hex
from keeper.venues.uniswap_v3.fold import fold_pool
from keeper.venues.uniswap_v3.pages import decode, encode, freeze, identity
from keeper.venues.uniswap_v3.pool import Pool
from keeper.venues.uniswap_v3.reads import (
    STATE_CALLS,
    answer,
    find_pools,
    load_pools,
    read_state,
    read_tick,
    state_calls,
    tick_call,
    word_call,
)
from keeper.venues.uniswap_v3.swaps import UniswapV3Swaps
from keeper.venues.uniswap_v3.words import (
    POOL_CODE_HASH,
    POOL_CREATED,
    TOPICS,
    signed,
    topic_address,
    topic_int,
    unsigned,
)

FEES = (100, 500, 3000, 10_000)
"""The fee tiers of the mainnet factory, in millionths."""


class UniswapV3:
    """Every pool of one factory between the given tokens; a new one is followed from its birth."""

    class Config(BaseModel):
        """Which pools: of what factory, at which fees in millionths."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        factory: EvmAddress
        fees: tuple[int, ...] = FEES

    @classmethod
    def configured(
        cls, name: str, config: Config, tokens: Iterable[Address], _contract: Address
    ) -> "UniswapV3":
        """Return the venue that the settings describe."""
        return cls(name, config.factory, tokens, config.fees)

    def __init__(
        self,
        name: str,
        factory: Address,
        tokens: Iterable[Address],
        fees: Sequence[int] = FEES,
    ) -> None:
        self.name = name
        self.factory = factory
        self.tokens = frozenset(tokens)
        self._known: frozenset[Address] = frozenset()
        self.heir: UniswapV3 | None = None
        self._fees = tuple(fees)
        self.pools: dict[Address, Pool] = {}
        self._hops: dict[Address, list[Hop]] = {}
        self._watch = Watch(frozenset({factory}), TOPICS)

    def watch(self) -> Watch:
        """Return the factory and every pool known so far."""
        return self._watch

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Find the pools and load them as of exactly this head."""
        pools = await find_pools(reader, head, self.factory, self.tokens, self._fees, self._known)
        await load_pools(reader, head, pools)
        self.adopt(pools)

    def adopt(self, pools: Iterable[Pool]) -> None:
        """Hold exactly these pools."""
        # A new dictionary: trial swaps begun on the old one end on it.
        self.pools = {pool.address: pool for pool in pools}
        self._index()

    def snapshot(self) -> Pages:
        """Freeze every pool; a copy of its ticks is all that takes time."""
        frozen = [freeze(pool) for pool in self.pools.values()]
        return partial(encode, self._identity(), frozen)

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold a snapshot's pools and be for its tokens, which may have been fewer or more.

        Raises `InvariantError` when it was of another factory or other fees.
        """
        self.tokens, pools = decode(self.factory, self._fees, pages)
        self.adopt(pools)

    def beside(self, tokens: Iterable[Address]) -> "UniswapV3":
        """Return a venue of just the pools that more tokens would add, to be loaded and absorbed."""
        more = UniswapV3(self.name, self.factory, self.tokens.union(tokens), self._fees)
        more._known = self.tokens
        return more

    def absorb(self, more: "UniswapV3") -> None:
        """Take over what was made by `beside` and stands at the same block; its undos go on here."""
        self.tokens, more.heir = more.tokens, self
        self.adopt([*self.pools.values(), *more.pools.values()])

    def drop(self, address: Address) -> None:
        """Let a pool go whose creation is taken back."""
        del self.pools[address]
        self._index()

    def fold(self, log: Log) -> Undo | None:
        """Apply one log of the factory or of a pool."""
        if log.address == self.factory:
            return self._created(log) if log.topics[0] == POOL_CREATED else None
        pool = self.pools.get(log.address)
        return None if pool is None else fold_pool(pool, log)

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return every pool that takes a token, as a conversion out of it."""
        return self._hops.get(token_in, ())

    def execution(self, hop: Hop) -> PoolSwap:
        """Return the factory and fee that name a hop's pool."""
        return PoolSwap(self.factory, self.pools[hop.pool].fee)

    def permissions(self) -> Sequence[TrustedFactory]:
        """Return that the factory's pools have to be trusted."""
        return [TrustedFactory(self.factory, POOL_CODE_HASH)]

    def begin(self) -> UniswapV3Swaps:
        """Return a scratch state on which sales can be tried one after another."""
        return UniswapV3Swaps(self.pools)

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return pools that lend the token (UniswapV3Pool.sol: flash), each at its own fee."""
        return [
            FlashSource(FlashKind.UNISWAP_V3, pool.address, token, held, pool.fee)
            for pool in self.pools.values()
            if pool.at.liquidity and token in {pool.token0, pool.token1}
            if (held := pool.balance0 if token == pool.token0 else pool.balance1) > 0
        ]

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare random pools with the chain: price, liquidity, balances, a word and a tick.

        A balance above ours is a gift the pool does not account for; only one below is drift.
        """
        rng = random.Random(seed)
        known = sorted(self.pools)
        calls: list[Call] = []
        checks: list[Callable[[Sequence[CallResult]], list[Drift]]] = []
        for address in rng.sample(known, min(sample, len(known))):
            pool = self.pools[address]
            number = rng.choice(pool.order) if pool.order else pool.at.tick // pool.spacing
            word = number >> 8
            calls += [*state_calls(pool), word_call(pool, word), tick_call(pool, number)]
            checks.append(self._check(pool, word, number))
        results = await reader.multicall(calls, head.hash)
        size = STATE_CALLS + 2
        return [
            drift
            for position, check in enumerate(checks)
            for drift in check(results[position * size : (position + 1) * size])
        ]

    def _check(
        self, pool: Pool, word: int, number: int
    ) -> Callable[[Sequence[CallResult]], list[Drift]]:
        """Freeze what an audit compares, and return what compares it with the answers."""
        subject = f"{self.name} {to_hex(pool.address)}"
        at, bits, tick = pool.at, pool.word(word), pool.ticks.get(number, (0, 0))
        balances = pool.balance0, pool.balance1

        def check(results: Sequence[CallResult]) -> list[Drift]:
            there, *held = read_state(results[:STATE_CALLS])
            gross, net = read_tick(results[STATE_CALLS + 1])
            pairs = {
                "sqrt price": (at.price, there.price),
                "tick": (at.tick, there.tick),
                "liquidity": (at.liquidity, there.liquidity),
                "balance0": (balances[0], min(held[0], balances[0])),
                "balance1": (balances[1], min(held[1], balances[1])),
                f"bitmap {word}": (bits, answer(results[STATE_CALLS], "tickBitmap")[0]),
                f"tick {number} gross": (tick[0], gross),
                f"tick {number} net": (tick[1], net),
            }
            return [
                Drift(f"{subject} {what}", mine, actual)
                for what, (mine, actual) in pairs.items()
                if mine != actual
            ]

        return check

    def _identity(self) -> bytes:
        return identity(self.factory, self.tokens, self._fees)

    def _created(self, log: Log) -> Undo | None:
        token0, token1 = topic_address(log.topics[1]), topic_address(log.topics[2])
        fee = topic_int(log.topics[3])
        if not {token0, token1} <= self.tokens or fee not in self._fees:
            return None
        if {token0, token1} <= self._known:
            return None
        spacing, address = unsigned(log.data)
        pool = Pool(Address(address.to_bytes(20, "big")), token0, token1, fee, signed(spacing))
        self.pools[pool.address] = pool
        self._index()
        return self._forget(pool.address)

    def _forget(self, address: Address) -> Callable[[], None]:
        def undo() -> None:
            (self.heir or self).drop(address)

        return undo

    def _index(self) -> None:
        self._watch = Watch(frozenset({self.factory, *self.pools}), TOPICS)
        self._hops = {}
        for pool in self.pools.values():
            pair = (pool.token0, pool.token1)
            for token_in, token_out in (pair, pair[::-1]):
                hop = Hop(self.name, pool.address, token_in, token_out)
                self._hops.setdefault(token_in, []).append(hop)
