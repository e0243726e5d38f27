"""Uniswap V2 as a venue: found through its factory, kept by `Sync`, sold on through its router."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations

from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.words import words
from keeper.errors import ConfigError, InvariantError
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
    PoolCall,
    Undo,
    Watch,
)
from keeper.units import ZERO_ADDRESS, Address, to_hex
from keeper.venues.uniswap_v2.pair import Pair, Trials, decode, encode, freeze

SYNC = bytes.fromhex("1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1")
PAIR_CREATED = bytes.fromhex("0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9")
GET_PAIR = bytes.fromhex("e6a43905")
GET_RESERVES = bytes.fromhex("0902f1ac")
SWAP_EXACT = bytes.fromhex("38ed1739")
"""UniswapV2Router02.sol: swapExactTokensForTokens(uint256,uint256,address[],address,uint256)."""

EXTRA_GAS = 51_000
"""What the router's transfers and its approval add to a swap made in a pool directly."""
_NEVER = 2**256 - 1
_FORMAT = 1


class UniswapV2:
    """Every pair of one factory between the given tokens; a new one is followed from its birth."""

    class Config(BaseModel):
        """Whose pairs, who sells on them, and their fee in millionths."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        factory: EvmAddress
        router: EvmAddress
        fee: int = Field(default=3000, ge=0, lt=1_000_000)

    @classmethod
    def configured(
        cls, name: str, config: Config, tokens: Iterable[Address], contract: Address
    ) -> "UniswapV2":
        """Return the venue that the settings describe."""
        return cls(name, config.factory, config.router, tokens, contract, config.fee)

    def __init__(
        self,
        name: str,
        factory: Address,
        router: Address,
        tokens: Iterable[Address],
        contract: Address,
        fee: int = 3000,
    ) -> None:
        self.name = name
        self.factory = factory
        self.router = router
        self.contract = contract
        self.fee = fee
        self.tokens = frozenset(tokens)
        self.pairs: dict[Address, Pair] = {}
        self.heir: UniswapV2 | None = None
        self._known: frozenset[Address] = frozenset()
        self._hops: dict[Address, list[Hop]] = {}
        self._watch = Watch(frozenset({factory}), frozenset({SYNC, PAIR_CREATED}))

    def watch(self) -> Watch:
        """Return the factory and every pair known so far."""
        return self._watch

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Find the pairs of all tokens and load their reserves as of exactly this head."""
        wanted = [
            (token0, token1)
            for token0, token1 in combinations(sorted(self.tokens), 2)
            if not {token0, token1} <= self._known
        ]
        found = await reader.multicall(
            [Call(self.factory, GET_PAIR + words(*each)) for each in wanted], head.hash
        )
        pairs = []
        for tokens, result in zip(wanted, found, strict=True):
            if not result.ok or len(result.data) != 32:
                raise ConfigError(
                    f"{to_hex(self.factory)} does not answer getPair: it is no Uniswap V2 factory",
                    "check the venue's factory address and the chain",
                )
            address = Address(result.data[12:])
            if address != ZERO_ADDRESS:
                pairs.append(Pair(address, *tokens))
        held = await reader.multicall(
            [Call(pair.address, GET_RESERVES) for pair in pairs], head.hash
        )
        for pair, result in zip(pairs, held, strict=True):
            pair.reserves = _reserves(result)
        self.adopt(pairs)

    def adopt(self, pairs: Iterable[Pair]) -> None:
        """Hold exactly these pairs."""
        # A new dictionary: trial swaps begun on the old one end on it.
        self.pairs = {pair.address: pair for pair in pairs}
        self._index()

    def snapshot(self) -> Pages:
        """Freeze every pair."""
        first = self._identity() + b"".join(sorted(self.tokens))
        return partial(encode, first, freeze(self.pairs.values()))

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold a snapshot's pairs and be for its tokens.

        Raises `InvariantError` when it was of another factory.
        """
        self.tokens, pairs = decode(self._identity(), pages)
        self.adopt(pairs)

    def beside(self, tokens: Iterable[Address]) -> "UniswapV2":
        """Return a venue of just the pairs that more tokens would add, to be loaded and absorbed."""
        more = UniswapV2(
            self.name,
            self.factory,
            self.router,
            self.tokens.union(tokens),
            self.contract,
            self.fee,
        )
        more._known = self.tokens
        return more

    def absorb(self, more: "UniswapV2") -> None:
        """Take over what was made by `beside` and stands at the same block; its undos go on here."""
        self.tokens, more.heir = more.tokens, self
        self.adopt([*self.pairs.values(), *more.pairs.values()])

    def fold(self, log: Log) -> Undo | None:
        """Apply one log of the factory or of a pair."""
        if log.address == self.factory:
            return self._created(log) if log.topics[0] == PAIR_CREATED else None
        pair = self.pairs.get(log.address)
        if pair is None or log.topics[0] != SYNC:
            return None
        before = pair.reserves
        pair.reserves = int.from_bytes(log.data[:32]), int.from_bytes(log.data[32:64])

        def undo() -> None:
            pair.reserves = before

        return undo

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return every pair that takes a token, as a conversion out of it."""
        return self._hops.get(token_in, ())

    def execution(self, hop: Hop) -> PoolCall:
        """Return the router's call; the batch's own minimum and deadline hold, so this has none."""
        return PoolCall(self.router, SWAP_EXACT, self._tail(hop))

    def permissions(self) -> Sequence[AllowedCall]:
        """Return that the router's swap has to be allowed."""
        return [AllowedCall(self.router, SWAP_EXACT, self.router)]

    def begin(self) -> Trials:
        """Return a scratch state on which sales can be tried one after another."""
        return Trials(self.pairs, self.fee)

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing: a pair lends at its full swap fee."""
        return ()

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the reserves of random pairs with the chain."""
        known = sorted(self.pairs)
        chosen = random.Random(seed).sample(known, min(sample, len(known)))
        mine = [self.pairs[address].reserves for address in chosen]
        calls = [Call(address, GET_RESERVES) for address in chosen]
        results = await reader.multicall(calls, head.hash)
        return [
            Drift(f"{self.name} {to_hex(address)} reserve{number}", held, actual)
            for address, reserves, result in zip(chosen, mine, results, strict=True)
            for number, (held, actual) in enumerate(zip(reserves, _reserves(result), strict=True))
            if held != actual
        ]

    def _identity(self) -> bytes:
        return b"".join((_FORMAT.to_bytes(4, "big"), self.factory))

    def _tail(self, hop: Hop) -> bytes:
        return words(0, 160, self.contract, _NEVER, 2, hop.token_in, hop.token_out)

    def _created(self, log: Log) -> Undo | None:
        tokens = Address(log.topics[1][12:]), Address(log.topics[2][12:])
        if not self.tokens.issuperset(tokens) or self._known.issuperset(tokens):
            return None
        pair = Pair(Address(log.data[12:32]), *tokens)
        self.pairs[pair.address] = pair
        self._index()
        return self._forget(pair.address)

    def _forget(self, address: Address) -> Callable[[], None]:
        def undo() -> None:
            venue = self.heir or self
            del venue.pairs[address]
            venue._index()  # noqa: SLF001 - the venue that took this one over

        return undo

    def _index(self) -> None:
        topics = frozenset({SYNC, PAIR_CREATED})
        self._watch = Watch(frozenset({self.factory, *self.pairs}), topics)
        self._hops = {}
        for pair in self.pairs.values():
            both = (pair.token0, pair.token1)
            for ends in (both, both[::-1]):
                hop = Hop(self.name, pair.address, *ends, EXTRA_GAS, _CALL_BYTES)
                self._hops.setdefault(hop.token_in, []).append(hop)


def _reserves(result: CallResult) -> tuple[int, int]:
    """Return what `getReserves` says; raise `InvariantError` when a known pair did not answer."""
    if not result.ok or len(result.data) != 96:
        raise InvariantError("uniswap_v2", "getReserves could not be read")
    return int.from_bytes(result.data[:32]), int.from_bytes(result.data[32:64])


_CALL_BYTES = len(SWAP_EXACT) + len(words(*[0] * 7))
