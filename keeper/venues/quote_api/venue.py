"""A quote API as a venue: offers for what planning asked about, for the heads that follow."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict, Field, field_validator

from keeper.address import EvmAddress
from keeper.errors import ConfigError
from keeper.ports import Pages, Reader, Rpc
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
from keeper.units import Address
from keeper.venues.quote_api.answer import Lane
from keeper.venues.quote_api.desk import PLACES, Api, Desk, Trusted
from keeper.venues.quote_api.rehearsal import Rehearsal

FIELDS = {
    "to": "transaction.to",
    "data": "transaction.data",
    "value": "transaction.value",
    "amount": "sellAmount",
    "minimum": "minBuyAmount",
}
"""Where an answer says what, unless the settings say otherwise."""
_SWAP_GAS = 33_000
"""The gas planning counts for any hop."""

_KEPT_BPS = 9980


class Pair(BaseModel):
    """A sale to ask about; amounts below `least`, in the token's smallest unit, are not."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    sell: EvmAddress
    buy: EvmAddress
    least: int = Field(default=0, ge=0)


class Trials:
    """Offers tried; each sells once."""

    def __init__(self, offers: Mapping[Address, Trusted]) -> None:
        self._offers = offers
        self._used: set[Address] = set()

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return what an offer promises for its amount, and so for more; 0 for less."""
        made = self._offers.get(hop.pool)
        if made is None or hop.pool in self._used or amount_in < made.offer.amount:
            return 0
        return made.offer.minimum

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Take an offer and return what it promises; one that was taken is gone."""
        out = self.quote(hop, amount_in)
        if out:
            self._used.add(hop.pool)
        return out


class QuoteApi:
    """Offers of an aggregator, each a call made for one amount.

    Nothing waits for the API. What is wanted of a lane (`want`) before one head is asked of the API
    beside the line, within a deadline; the answer's call is tried at that head as the contract would
    make it; and from the next head on, for `heads` heads, it competes with the pools by what it
    promises at least. Its call asks for no less when it runs. Until it is connected to a node that
    tries calls (`eth_simulateV1`), as in a replay, there are no offers.
    """

    class Config(BaseModel):
        """How to ask, who may be called, and which sales to ask about."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        url: str = Field(repr=False)
        chain_id: int = Field(ge=1)
        router: EvmAddress
        spender: EvmAddress | None = None
        selectors: tuple[str, ...]
        pairs: tuple[Pair, ...]
        slippage_bps: int = Field(default=30, ge=0, lt=10_000)
        deadline_ms: int = Field(default=800, ge=1, le=10_000)
        heads: int = Field(default=2, ge=1, le=20)
        most_asks: int = Field(default=4, ge=1, le=50)
        key_header: str = ""
        key_env: str = ""
        fields: dict[str, str] = Field(default_factory=dict)

        @field_validator("selectors")
        @classmethod
        def _are_selectors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
            for each in value:
                if len(each) != 10 or not each.startswith("0x"):
                    raise ValueError("must be selectors: 0x and 8 hex digits")
                bytes.fromhex(each[2:])
            return value

        @field_validator("url")
        @classmethod
        def _has_places(cls, value: str) -> str:
            lacking = [name for name in PLACES[1:5] if f"{{{name}}}" not in value]
            if not value.startswith(("https://", "http://")) or lacking:
                raise ValueError(
                    f"must be http(s) and have a place for {', '.join(lacking) or 'everything'}"
                )
            return value

        @field_validator("fields")
        @classmethod
        def _are_known(cls, value: dict[str, str]) -> dict[str, str]:
            if unknown := value.keys() - FIELDS.keys():
                raise ValueError(f"has {', '.join(sorted(unknown))}; known: {', '.join(FIELDS)}")
            return value

    @classmethod
    def configured(
        cls, name: str, config: Config, _tokens: Iterable[Address], contract: Address
    ) -> "QuoteApi":
        """Return the venue that the settings describe; raise `ConfigError` when its key is missing."""
        if bool(config.key_env) != bool(config.key_header):
            raise ConfigError(f"venue {name}: key_env and key_header belong together")
        api = Api(
            config.url,
            config.chain_id,
            config.router,
            config.spender or config.router,
            frozenset(bytes.fromhex(each[2:]) for each in config.selectors),
            config.slippage_bps,
            FIELDS | config.fields,
            config.key_header,
            config.key_env,
        )
        lanes = [Lane(pair.sell, pair.buy, pair.least) for pair in config.pairs]
        desk = Desk(api, contract, config.deadline_ms / 1000)
        return cls(name, api, desk, lanes, contract, heads=config.heads, most=config.most_asks)

    def __init__(
        self,
        name: str,
        api: Api,
        desk: Desk,
        lanes: Sequence[Lane],
        contract: Address,
        *,
        heads: int = 2,
        most: int = 4,
    ) -> None:
        self.name = name
        self.desk = desk
        self.offers: dict[Address, Trusted] = {}
        self._api = api
        self._contract = contract
        self._heads = heads
        self._most = most
        self._lanes = {(lane.sold, lane.bought): lane for lane in lanes}
        self._arrived: dict[Lane, Trusted] = {}
        self._wanted: dict[Lane, int] = {}
        self._foreseen: dict[Lane, int] = {}
        self._rehearsal: Rehearsal | None = None
        self._asking: asyncio.Task[None] | None = None

    def watch(self) -> Watch:
        """Return nothing."""
        return Watch(frozenset(), frozenset())

    def connect(self, rpc: Rpc) -> None:
        """Try offers at this node from now on."""
        self._rehearsal = Rehearsal(rpc, self._contract)

    async def bootstrap(self, _reader: Reader, _head: Head) -> None:
        """Start without an offer."""
        self.offers = {}

    def snapshot(self) -> Pages:
        """Freeze nothing: an offer does not outlive a restart."""

        def pages() -> Iterator[bytes]:
            yield b""

        return pages

    def restore(self, _pages: Iterable[bytes]) -> None:
        """Start without an offer."""
        self.offers = {}

    def calls(self) -> Sequence[Call]:
        """Return nothing: the API is no part of a head's reads."""
        return ()

    def want(
        self, sold: Address, bought: Address, amount: int, *, is_foreseen: bool = False
    ) -> None:
        """Note a sale to ask the API about at the next head, unless it is none of its pairs.

        The last of a pair counts, and what is planned before what is only foreseen.
        """
        lane = self._lanes.get((sold, bought))
        if lane is not None and amount >= max(lane.least, 1):
            (self._foreseen if is_foreseen else self._wanted)[lane] = amount

    def observe(self, _results: Sequence[CallResult], head: Head, _at: NextBlock) -> None:
        """Take what arrived, let old offers go, and ask for what is wanted, unless asked already.

        Offers change here alone, so that a head is planned and packed on the same ones.
        """
        kept = {
            place: made
            for place, made in self.offers.items()
            if made.offer.lane not in self._arrived
        }
        kept.update((_place(made), made) for made in self._arrived.values())
        self._arrived.clear()
        self.offers = {
            place: made
            for place, made in kept.items()
            if 0 <= head.number - made.head <= self._heads
        }
        wanted = self._wanted | {
            lane: amount for lane, amount in self._foreseen.items() if lane not in self._wanted
        }
        if not wanted or self._rehearsal is None or self.asking:
            return
        # A little less than was wanted: an offer takes no less than its amount, and prices move.
        largest = {
            lane: amount * _KEPT_BPS // 10_000
            for lane, amount in list(wanted.items())[: self._most]
        }
        self._wanted.clear()
        self._foreseen.clear()
        self._asking = asyncio.get_running_loop().create_task(
            self._ask(largest, self._rehearsal, head)
        )

    @property
    def refused(self) -> Mapping[str, int]:
        """Return why answers were no offers so far, and how often."""
        return self.desk.refused

    @property
    def asking(self) -> bool:
        """Return whether the API is being asked."""
        return self._asking is not None and not self._asking.done()

    async def settled(self) -> None:
        """Wait until nothing is being asked; the line never does."""
        if self._asking is not None:
            await self._asking

    def fold(self, _log: Log) -> Undo | None:
        """Return None: no log changes anything."""
        return None

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return the offers for a token."""
        return [
            Hop(
                self.name,
                place,
                token_in,
                each.offer.lane.bought,
                max(each.tried.gas - _SWAP_GAS, 0),
                len(each.offer.data),
                each.offer.amount,
            )
            for place, each in self.offers.items()
            if each.offer.lane.sold == token_in
        ]

    def execution(self, hop: Hop) -> PoolCall:
        """Return an offer's call as it was made, for its amount alone."""
        offer = self.offers[hop.pool].offer
        return PoolCall(self._api.router, offer.data, b"", whole=True, minimum=offer.minimum)

    def permissions(self) -> Sequence[AllowedCall]:
        """Return that the router's calls have to be allowed."""
        api = self._api
        return [AllowedCall(api.router, each, api.spender) for each in sorted(api.selectors)]

    def begin(self) -> Trials:
        """Return a scratch state on which offers can be tried one after another."""
        return Trials(self.offers)

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing."""
        return ()

    async def audit(self, _reader: Reader, _head: Head, _sample: int, _seed: int) -> list[Drift]:
        """Return nothing: there is no state to compare."""
        return []

    async def _ask(self, wanted: Mapping[Lane, int], rehearsal: Rehearsal, head: Head) -> None:
        for made in await self.desk.ask(wanted, rehearsal, head):
            self._arrived[made.offer.lane] = made


def _place(made: Trusted) -> Address:
    """Return what stands for an offer where other venues have a pool."""
    offer = made.offer
    return Address(blake2b(offer.data + offer.amount.to_bytes(32), digest_size=20).digest())
