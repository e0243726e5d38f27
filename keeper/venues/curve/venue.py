"""Curve as a venue: pools named or found in registries, read at each head, called directly."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import permutations

from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.errors import ConfigError
from keeper.ports import Pages, Reader
from keeper.types import (
    AllowedCall,
    Call,
    CallResult,
    Drift,
    FlashSource,
    Head,
    Hop,
    Log,
    NextBlock,
    PoolCall,
    Undo,
    Watch,
)
from keeper.units import ZERO_ADDRESS, Address, Hash, to_hex
from keeper.venues.curve.pool import CryptoKind, Pool, Trials, decode, encode, freeze
from keeper.venues.curve.reads import allowed, find_pools, load_pool, read_state, state_calls

EXCHANGED = frozenset(
    {
        bytes.fromhex("8b3e96f2b889fa771c53c981b40daf005f63f637f1869f707052d15a3dd97140"),
        bytes.fromhex("b2e76ae99761dc136e598d4a629bb347eccb9532a5f8bbd72e18467c3c34cc98"),
    }
)
"""`TokenExchange` of StableSwap and of crypto pools."""
EXCHANGE_STABLE = bytes.fromhex("3df02124")
EXCHANGE_CRYPTO = bytes.fromhex("5b41b908")

GAS_STABLE, GAS_CRYPTO = 90_000, 250_000
"""What an exchange takes beyond a swap in a Uniswap V3 pool: on the safe side, not measured."""
_FORMAT = 1
_CALL_BYTES = 4 + 3 * 32


class Curve:
    """Plain StableSwap and crypto pools, named one by one or found in registries, by the tokens.

    What an exchange depends on (balances, D, the price scale) is read at every head beside the
    prices: logs do not tell all of it. A log only says that what was read before no longer holds.
    A pool whose A is moving or whose rates move is known, and nothing is sold to it. A pool that a
    registry named is taken once the contract's owner allowed its exchange; `left_out` says why it
    was not.
    """

    class Config(BaseModel):
        """StableSwap pools, crypto pools, and registries or factories to look for allowed ones in."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        pools: tuple[EvmAddress, ...] = ()
        crypto_pools: tuple[EvmAddress, ...] = ()
        registries: tuple[EvmAddress, ...] = ()

    @classmethod
    def configured(
        cls, name: str, config: Config, tokens: Iterable[Address], contract: Address
    ) -> "Curve":
        """Return the venue that the settings describe."""
        named = dict.fromkeys(config.pools, EXCHANGE_STABLE)
        named |= dict.fromkeys(config.crypto_pools, EXCHANGE_CRYPTO)
        if not (named or config.registries):
            raise ConfigError(f"venue {name} names no pools, crypto_pools or registries")
        return cls(name, named, tokens, contract, config.registries)

    def __init__(
        self,
        name: str,
        named: Mapping[Address, bytes],
        tokens: Iterable[Address],
        contract: Address,
        registries: Sequence[Address] = (),
    ) -> None:
        self.name = name
        self.named = dict(sorted(named.items()))
        self.registries = tuple(sorted(set(registries)))
        self.tokens = frozenset(tokens)
        self.contract = contract
        self.pools: dict[Address, Pool] = {}
        self.left_out: dict[Address, str] = {}
        self.known: dict[Address, bytes] = {}
        self._read_at = Hash(b"")
        self._hops: dict[Address, list[Hop]] = {}
        self._watch = Watch(frozenset(self.named), EXCHANGED)

    def watch(self) -> Watch:
        """Return the pools."""
        return self._watch

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Find the pools and load them as of exactly this head.

        Raises `ConfigError` for a named pool that cannot be followed; a found one is left out.
        """
        pools = []
        for address, selector in self.named.items():
            pools.append(pool := await load_pool(reader, head, address))
            if _selector(pool) != selector:
                kind = "crypto_pools" if selector == EXCHANGE_STABLE else "pools"
                raise ConfigError(
                    f"{to_hex(address)} is a Curve pool of the other kind", f"name it in {kind}"
                )
        self.left_out = {}
        for address in await self._found(reader, head):
            if address in self.known:
                continue
            try:
                pools.append(await load_pool(reader, head, address))
            except ConfigError as error:
                self.left_out[address] = str(error)
        asked = [(each.address, _selector(each)) for each in pools[len(self.named) :]]
        asked += self.known.items()
        granted = await allowed(reader, head, self.contract, asked)
        for (address, _), may in zip(asked, granted, strict=True):
            # what nobody answered proves nothing against a pool that was allowed before
            if not may and (may is not None or address not in self.known):
                self.left_out[address] = "the contract's owner did not allow its exchange"
        self._read_at = head.hash
        self.adopt(pool for pool in pools if pool.address not in self.left_out)

    def adopt(self, pools: Iterable[Pool]) -> None:
        """Hold exactly these pools."""
        # A new dictionary: trial swaps begun on the old one end on it.
        self.pools = {pool.address: pool for pool in pools}
        self._index()

    def snapshot(self) -> Pages:
        """Freeze which pools there are and what they follow."""
        return partial(encode, self._identity(), [freeze(pool) for pool in self.pools.values()])

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold a snapshot's pools, to be read; raise `InvariantError` when it was of others."""
        self.adopt(decode(self._identity(), pages))

    def beside(self, tokens: Iterable[Address]) -> "Curve":
        """Return a venue of the pools that registries have for more tokens, to be absorbed.

        Those here already are asked whether they still are allowed, and not loaded again.
        """
        more = Curve(self.name, {}, self.tokens.union(tokens), self.contract, self.registries)
        more.known = {pool.address: _selector(pool) for pool in self.pools.values()}
        return more

    def absorb(self, more: "Curve") -> None:
        """Take over what was made by `beside` and stands at the same block."""
        self.tokens = more.tokens
        # What the contract's owner took back since is sold through no more.
        kept = {
            each: pool
            for each, pool in self.pools.items()
            if each in self.named or each not in more.left_out
        }
        pools = more.pools | kept
        left_out = self.left_out | more.left_out
        self.left_out = {each: why for each, why in left_out.items() if each not in pools}
        self.adopt(pools.values())

    @property
    def is_searching(self) -> bool:
        """Tell whether there are registries whose pools have to be looked for."""
        return bool(self.registries)

    def calls(self) -> Sequence[Call]:
        """Return the reads of every pool."""
        return [call for pool in self.pools.values() for call in state_calls(pool)]

    def observe(self, results: Sequence[CallResult], head: Head, at: NextBlock) -> None:
        """Take every pool's state for the block to come."""
        start = 0
        for pool in self.pools.values():
            end = start + len(state_calls(pool))
            pool.state = read_state(pool, results[start:end], at.timestamp)
            start = end
        self._read_at = head.hash

    def fold(self, log: Log) -> Undo | None:
        """Forget the state of a pool that was traded on; the reads of the head bring the new one."""
        pool = self.pools.get(log.address)
        if pool is None or log.topics[0] not in EXCHANGED:
            return None
        return _forget(pool)

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return every pool that takes a token, as conversions out of it."""
        return self._hops.get(token_in, ())

    def execution(self, hop: Hop) -> PoolCall:
        """Return the pool's own call; the batch's minimum and deadline hold, so this has none."""
        pool = self.pools[hop.pool]
        ends = (pool.coins.index(token).to_bytes(32) for token in (hop.token_in, hop.token_out))
        return PoolCall(pool.address, _selector(pool) + b"".join(ends), bytes(32))

    def permissions(self) -> Sequence[AllowedCall]:
        """Return that the exchange of each named pool has to be allowed."""
        return [AllowedCall(pool, selector, pool) for pool, selector in self.named.items()]

    def begin(self) -> Trials:
        """Return a scratch state on which sales can be tried one after another."""
        return Trials(self.pools)

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing: the pools do not lend."""
        return ()

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare what random pools were read to be with the chain, if it was read at this head."""
        if head.hash != self._read_at:
            return []
        known = sorted(address for address, pool in self.pools.items() if pool.state is not None)
        chosen = random.Random(seed).sample(known, min(sample, len(known)))
        pools = [(self.pools[address], self.pools[address].state) for address in chosen]
        calls = [call for pool, _ in pools for call in state_calls(pool)]
        answers = iter(await reader.multicall(calls, head.hash))
        drifts = []
        for pool, held in pools:
            results = [next(answers) for _ in state_calls(pool)]
            there = read_state(pool, results, head.timestamp)
            if there is None or held is None:
                continue
            for index, (mine, actual) in enumerate(zip(held.balances, there.balances, strict=True)):
                if mine != actual:
                    subject = f"{self.name} {to_hex(pool.address)} balance {index}"
                    drifts.append(Drift(subject, mine, actual))
        return drifts

    async def _found(self, reader: Reader, head: Head) -> list[Address]:
        found: set[Address] = set()
        for registry in self.registries:
            found |= set(await find_pools(reader, head, registry, self.tokens))
        return sorted(found - self.named.keys())

    def _index(self) -> None:
        self._watch = Watch(frozenset({*self.named, *self.pools}), EXCHANGED)
        self._hops = {}
        wanted = {*self.tokens, ZERO_ADDRESS}
        for pool in self.pools.values():
            gas = GAS_CRYPTO if isinstance(pool.kind, CryptoKind) else GAS_STABLE
            for ends in permutations((coin for coin in pool.coins if coin in wanted), 2):
                hop = Hop(self.name, pool.address, *ends, gas, _CALL_BYTES)
                self._hops.setdefault(hop.token_in, []).append(hop)

    def _identity(self) -> bytes:
        return b"".join((_FORMAT.to_bytes(4), *self.named, b"/", *self.registries))


def _selector(pool: Pool) -> bytes:
    return EXCHANGE_CRYPTO if isinstance(pool.kind, CryptoKind) else EXCHANGE_STABLE


def _forget(pool: Pool) -> Callable[[], None]:
    def undo() -> None:
        # What was read since is of the block that is taken back.
        pool.state = None

    pool.state = None
    return undo
