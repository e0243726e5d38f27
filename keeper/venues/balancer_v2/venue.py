"""Balancer V2 as a venue: weighted pools, kept by the vault's logs, sold to through it."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import permutations

from eth_abi.abi import decode as decode_abi
from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.words import words
from keeper.errors import ConfigError
from keeper.ports import Pages, Reader
from keeper.types import (
    AllowedCall,
    Drift,
    FlashKind,
    FlashSource,
    Head,
    Hop,
    Log,
    PoolCall,
    Undo,
    Watch,
)
from keeper.units import Address, to_hex
from keeper.venues.balancer_v2.discovery import MadeBy, find_pools
from keeper.venues.balancer_v2.pool import Lending, Pool, State, Trials, decode, encode, freeze
from keeper.venues.balancer_v2.reads import (
    fee_call,
    find_powers,
    read_fee,
    read_lending,
    read_pools,
    read_state,
    state_calls,
)

SWAP = bytes.fromhex("2170c741c41531aec20e7c107c24eecfdd15e69c9bb0a8dd37b1840b9e0b207b")
CHANGED = bytes.fromhex("e5ce249087ce04f05a957192435400fd97868dba0e6a4b4c049abf8af80dae78")
MANAGED = bytes.fromhex("6edcaf6241105b4c94c2efdbf3a6b12458eb3d07be3a0e81d24b13c44045fe7a")
FEE_CHANGED = bytes.fromhex("a9ba3ffe0b6c366b81232caab38605a0699ad5398d6cce76f91ee809e322dafc")
PAUSED = bytes.fromhex("9e3a5e37224532dea67b89face185703738a228a6e8a23dee546960180d3be64")
FLASH_FEE_CHANGED = bytes.fromhex(
    "5a0b7386237e7f07fa741efc64e59c9387d2cccafec760efed4d53387f20e19a"
)
"""ProtocolFeesCollector.sol: FlashLoanFeePercentageChanged(uint256)."""
TOPICS = frozenset({SWAP, CHANGED, MANAGED, FEE_CHANGED, PAUSED, FLASH_FEE_CHANGED})
VAULT_SWAP = bytes.fromhex("52bbbe29")
"""Swaps.sol: swap(SingleSwap,FundManagement,uint256,uint256)."""
VAULT_FLASH = bytes.fromhex("5c38449e")
"""FlashLoans.sol: flashLoan(IFlashLoanRecipient,IERC20[],uint256[],bytes)."""

EXTRA_GAS = 20_000
"""What the vault's transfers, its approval and its powers add to a swap made in a pool directly."""
_NEVER = 2**256 - 1
_FORMAT = 3
_MILLIONTH = 10**12


class BalancerV2:
    """Weighted pools of one vault, named or found by their factories, between the given tokens.

    The vault lends in a flash what those pools hold, at least; meanwhile nothing can be sold in any of
    them. A pause that runs out by itself emits nothing: what was paused stays so here until it is loaded
    anew.
    """

    class Config(BaseModel):
        """Which pools of which vault: named, or made by these factories since a block."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        vault: EvmAddress
        pools: tuple[EvmAddress, ...] = ()
        factories: tuple[EvmAddress, ...] = ()
        first_block: int = Field(default=0, ge=0)

    @classmethod
    def configured(
        cls, name: str, config: Config, tokens: Iterable[Address], contract: Address
    ) -> "BalancerV2":
        """Return the venue that the settings describe."""
        if not (config.pools or config.factories):
            raise ConfigError(f"venue {name} names neither pools nor factories")
        made_by = MadeBy(config.factories, config.first_block)
        return cls(name, config.vault, config.pools, tokens, contract, made_by)

    def __init__(
        self,
        name: str,
        vault: Address,
        addresses: Sequence[Address],
        tokens: Iterable[Address],
        contract: Address,
        made_by: MadeBy = MadeBy(),  # noqa: B008  # frozen
    ) -> None:
        self.name = name
        self.vault = vault
        self.made_by = made_by
        self.addresses = tuple(sorted(set(addresses)))
        self.tokens = frozenset(tokens)
        self.contract = contract
        self.pools: dict[Address, Pool] = {}
        self.left_out: dict[Address, str] = {}
        self.known: frozenset[Address] = frozenset()
        self.halted = False
        self.lending: Lending | None = None
        self._shuts: frozenset[Address] = frozenset()
        self._holders: dict[Address, list[tuple[Pool, int]]] = {}
        self._numbers: dict[bytes, Pool] = {}
        self._hops: dict[Address, list[Hop]] = {}
        self._watch = Watch(frozenset({vault, *self.addresses}), TOPICS)

    def watch(self) -> Watch:
        """Return the vault, the pools, and who keeps the fee of its flash loans."""
        return self._watch

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Find the pools and load them as of exactly this head.

        Raises `ConfigError` for a named pool that cannot be followed; a found one is left out, and
        `left_out` says why. One made later is found at the next start.
        """
        halted, pools = await read_pools(reader, head, self.vault, self.addresses)
        found = await find_pools(reader, head, self.vault, self.made_by, self.tokens)
        self.left_out = {}
        for address in sorted(found - self.known.union(self.addresses)):
            try:
                pools += (await read_pools(reader, head, self.vault, [address]))[1]
            except ConfigError as error:
                self.left_out[address] = str(error)
        self._adopt(halted, await read_lending(reader, head, self.vault), pools)

    def snapshot(self) -> Pages:
        """Freeze every pool."""
        frozen = [freeze(pool) for pool in self.pools.values()]
        return partial(encode, self._identity(), self.halted, self.lending, frozen)

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold a snapshot's pools; raise `InvariantError` when it was of others."""
        self._adopt(*decode(self._identity(), pages))

    def beside(self, tokens: Iterable[Address]) -> "BalancerV2":
        """Return a venue of the pools that factories made for more tokens, to be absorbed.

        Those here already, and those that were left out, are not loaded again.
        """
        wider = self.tokens.union(tokens)
        more = BalancerV2(self.name, self.vault, (), wider, self.contract, self.made_by)
        more.known = frozenset({*self.pools, *self.left_out})
        return more

    def absorb(self, more: "BalancerV2") -> None:
        """Take over what was made by `beside` and stands at the same block; its undos go on here."""
        self.tokens = more.tokens
        # What takes blocks back goes to the pools that were here before.
        pools = more.pools | self.pools
        left_out = self.left_out | more.left_out
        self.left_out = {each: why for each, why in left_out.items() if each not in pools}
        self._adopt(self.halted, self.lending, pools.values())

    @property
    def is_searching(self) -> bool:
        """Tell whether there are factories whose pools have to be looked for."""
        return bool(self.made_by.factories)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log of the vault or of a pool."""
        if log.address == self.vault:
            return self._vault(log)
        if self.lending is not None and log.address == self.lending.collector:
            return self._lend(log)
        pool = self.pools.get(log.address)
        if pool is None:
            return None
        if log.topics[0] == FEE_CHANGED:
            return _become(pool, pool.state._replace(fee=int.from_bytes(log.data[:32])))
        if log.topics[0] == PAUSED:
            return _become(pool, pool.state._replace(paused=any(log.data[:32])))
        return None

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return every pool that takes a token, as conversions out of it; none under a pause."""
        return () if self.halted else self._hops.get(token_in, ())

    def execution(self, hop: Hop) -> PoolCall:
        """Return the vault's call; the batch's own minimum and deadline hold, so this has none."""
        swap = (self.pools[hop.pool].number, 0, hop.token_in, hop.token_out)
        funds = (self.contract, 0, self.contract, 0)
        head = VAULT_SWAP + words(224, *funds, 0, _NEVER, *swap)
        return PoolCall(self.vault, head, words(192, 0))

    def permissions(self) -> Sequence[AllowedCall]:
        """Return that the vault's swap and its flash loans have to be allowed."""
        return [AllowedCall(self.vault, each, self.vault) for each in (VAULT_SWAP, VAULT_FLASH)]

    def begin(self) -> Trials:
        """Return a scratch state on which sales can be tried one after another."""
        return Trials(self.pools)

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return the vault's loan of a token: what the pools hold there, internal balances not counted."""
        held = sum(pool.state.cash[index] for pool, index in self._holders.get(token, ()))
        if not held or self.halted or self.lending is None:
            return ()
        fee = self.lending.fee
        source = FlashSource(
            FlashKind.BALANCER,
            self.vault,
            token,
            held,
            -(-fee // _MILLIONTH),
            fee if fee % _MILLIONTH else 0,
            self._shuts,
        )
        return (source,)

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare random pools with the chain: balances, fee and pause; and the fee of flash loans.

        Pools that could not tell their formula when they were loaded are asked once more.
        """
        known = sorted(self.pools)
        chosen = random.Random(seed).sample(known, min(sample, len(known)))
        pools = [(self.pools[address], self.pools[address].state) for address in chosen]
        calls = [call for pool, _ in pools for call in state_calls(self.vault, pool)]
        silent = [pool for pool in self.pools.values() if pool.powers is None]
        lending = self.lending
        if lending is not None:
            calls.append(fee_call(lending.collector))
        await find_powers(reader, head, self.vault, silent)
        results = await reader.multicall(calls, head.hash)
        drifts: list[Drift] = []
        if lending is not None and lending.fee != (fee := read_fee(results[-1], lending.collector)):
            drifts.append(Drift(f"{self.name} flash fee", lending.fee, fee))
        answers = iter(results)
        return drifts + [
            drift
            for pool, held in pools
            for drift in _differences(
                f"{self.name} {to_hex(pool.address)}",
                held,
                read_state(pool, [next(answers) for _ in range(2 + len(pool.tokens))]),
            )
        ]

    def _vault(self, log: Log) -> Undo | None:
        if log.topics[0] == PAUSED:
            return self._halt(any(log.data[:32]))
        pool = self._numbers.get(log.topics[1]) if len(log.topics) > 1 else None
        if pool is None:
            return None
        cash, managed = list(pool.state.cash), list(pool.state.managed)
        match log.topics[0]:
            case topic if topic == SWAP:
                sold, bought = (Address(each[12:]) for each in log.topics[2:4])
                cash[pool.tokens.index(sold)] += int.from_bytes(log.data[:32])
                cash[pool.tokens.index(bought)] -= int.from_bytes(log.data[32:64])
            case topic if topic == CHANGED:
                _, deltas, fees = decode_abi(["address[]", "int256[]", "uint256[]"], log.data)
                for index, (delta, fee) in enumerate(zip(deltas, fees, strict=True)):
                    cash[index] += delta - fee
            case topic if topic == MANAGED:
                index = pool.tokens.index(Address(log.topics[3][12:]))
                cash[index] += int.from_bytes(log.data[:32], signed=True)
                managed[index] += int.from_bytes(log.data[32:64], signed=True)
            case _:
                return None
        return _become(pool, pool.state._replace(cash=tuple(cash), managed=tuple(managed)))

    def _lend(self, log: Log) -> Undo | None:
        before = self.lending
        if before is None or log.topics[0] != FLASH_FEE_CHANGED:
            return None

        def undo() -> None:
            self.lending = before

        self.lending = before._replace(fee=int.from_bytes(log.data[:32]))
        return undo

    def _halt(self, halted: bool) -> Undo:
        before = self.halted

        def undo() -> None:
            self.halted = before

        self.halted = halted
        return undo

    def _adopt(self, halted: bool, lending: Lending | None, pools: Iterable[Pool]) -> None:
        # A new dictionary: trial swaps begun on the old one end on it.
        self.pools = {pool.address: pool for pool in pools}
        self.halted = halted
        self.lending = lending
        self._index()

    def _index(self) -> None:
        self._shuts = frozenset({self.vault, *self.pools})
        keeps = () if self.lending is None else (self.lending.collector,)
        self._watch = Watch(self._shuts.union(self.addresses, keeps), TOPICS)
        self._holders = {}
        for pool in self.pools.values():
            for index, token in enumerate(pool.tokens):
                self._holders.setdefault(token, []).append((pool, index))
        self._numbers = {pool.number: pool for pool in self.pools.values()}
        self._hops = {}
        for pool in self.pools.values():
            for ends in permutations((t for t in pool.tokens if t in self.tokens), 2):
                hop = Hop(self.name, pool.address, *ends, EXTRA_GAS, _CALL_BYTES)
                self._hops.setdefault(hop.token_in, []).append(hop)

    def _identity(self) -> bytes:
        first = (_FORMAT.to_bytes(4, "big"), self.vault)
        return b"".join((*first, *self.addresses, b"/", *self.made_by.factories))


def _become(pool: Pool, state: State) -> Callable[[], None]:
    before = pool.state

    def undo() -> None:
        pool.state = before

    pool.state = state
    return undo


def _differences(subject: str, held: State, there: State) -> list[Drift]:
    pairs = {
        "fee": (held.fee, there.fee),
        "paused": (int(held.paused), int(there.paused)),
        **{f"cash {i}": pair for i, pair in enumerate(zip(held.cash, there.cash, strict=True))},
        **{
            f"managed {i}": pair
            for i, pair in enumerate(zip(held.managed, there.managed, strict=True))
        },
    }
    return [
        Drift(f"{subject} {what}", mine, actual)
        for what, (mine, actual) in pairs.items()
        if mine != actual
    ]


_CALL_BYTES = len(VAULT_SWAP) + len(words(*[0] * 13))
