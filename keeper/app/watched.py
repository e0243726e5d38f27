"""Every source one chain is configured to watch, loaded together as of one head."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Self

import orjson
from eth_utils.address import to_checksum_address

from keeper.app.loading import BELIEVED_INCOMPLETE
from keeper.app.permissions import allowed_factories, have_changed, wrapped_native
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Venue as VenueTable
from keeper.errors import ConfigError, IncompleteError, InvariantError, TransientError
from keeper.plugins import build_venue, configure_market
from keeper.ports import LendingProtocol, Offering, Pages, Redeeming, Remembering, Source, Venue
from keeper.types import Head, Token
from keeper.units import ZERO_ADDRESS, Address, to_hex

FORMAT = 1
"""Of what a snapshot holds as a whole; each source knows its own pages."""
PLACES = "places"
"""The page that says which exchanges the contract's owner allowed."""

ReadPages = Callable[[str], Iterable[bytes]]


class Watched:
    """One chain's markets and venues: found first, then loaded from the chain or a snapshot.

    The venues are there after the first load, since the markets say which tokens they are for;
    later loads replace the state of the same objects.
    """

    def __init__(
        self,
        reader: ChainReader,
        name: str,
        chain: Chain,
        coin: Address,
        markets: Mapping[str, LendingProtocol],
    ) -> None:
        self._reader = reader
        self._name = name
        self._chain = chain
        self.coin = coin
        self._places: Mapping[str, VenueTable] = {}
        self.markets = markets
        self.venues: Mapping[str, Venue] = {}
        self.unloaded: Mapping[str, str] = {}
        self._incomplete: Counter[str] = Counter()

    @classmethod
    async def discover(cls, reader: ChainReader, name: str, chain: Chain) -> Self:
        """Find every configured market; raise `ConfigError` for one that is not there."""
        head = await reader.head()
        coin = await _native(reader, name, chain, head)
        markets: dict[str, LendingProtocol] = {}
        for market, entry in chain.markets.items():
            kind, options = configure_market(name, market, entry)
            markets[market] = await kind.discover(reader, market, options, head, entry.first_block)
        return cls(reader, name, chain, coin, markets)

    @property
    def native(self) -> Token:
        """Return the wrapped native coin; raise `ConfigError` when no market lists it."""
        native = self._tokens().get(self.coin)
        if native is None:
            raise ConfigError(
                f"chains.{self._name}: the wrapped native coin {to_checksum_address(self.coin)} "
                "is no reserve of any market here",
                "gas cannot be priced without it",
            )
        return native

    @property
    def fingerprint(self) -> str:
        """Return what a snapshot has to be of to be used: the chain, the markets, the venues."""
        chain = self._chain
        markets = {name: [m.protocol, m.options] for name, m in chain.markets.items()}
        venues = {
            name: {**v.model_dump(mode="json"), "hubs": sorted(map(to_hex, v.hubs))}
            for name, v in chain.venues.items()
        }
        contract = "" if chain.contract is None else to_hex(chain.contract)
        what = [FORMAT, chain.chain_id, contract, markets, venues]
        text = orjson.dumps(what, option=orjson.OPT_SORT_KEYS)
        return blake2b(text, digest_size=16).hexdigest()

    async def bootstrap(self, head: Head, latest: Head) -> None:
        """Load everything from the chain as of exactly this head, the chain standing at `latest`.

        At the latest, a part that cannot be loaded is left out, and `unloaded` says why, as long as
        one market is there; what is no fault of that part's own is raised, and so is everything at
        an older head.
        """
        unloaded: dict[str, Exception] = {}
        for name, market in self.markets.items():
            try:
                await market.bootstrap(self._reader, head)
                await market.oracle.bootstrap(self._reader, head)
            except Exception as error:
                if head != latest or not self._is_its_own(f"market/{name}", error):
                    raise
                unloaded[f"market/{name}"] = error
            else:
                del self._incomplete[f"market/{name}"]
        if unloaded and (len(unloaded) == len(self.markets) or self.coin not in self._tokens()):
            raise next(iter(unloaded.values()))
        _ = self.native
        # They are not followed: only the latest state says what the owner allows.
        places = self._places or await self._find_places(latest)
        venues = self.venues or self._build(places)
        for name, venue in venues.items():
            try:
                await venue.bootstrap(self._reader, head)
            except ConfigError:
                raise
            except Exception as error:
                if head != latest or not self._is_its_own(f"venue/{name}", error):
                    raise
                unloaded[f"venue/{name}"] = error
            else:
                del self._incomplete[f"venue/{name}"]
        self._places, self.venues = places, venues
        self.unloaded = {
            part: str(error) or type(error).__name__ for part, error in unloaded.items()
        }

    def _is_its_own(self, part: str, error: Exception) -> bool:
        """Tell whether an error says something of one part, rather than of the node or the disk."""
        match error:
            case IncompleteError():
                self._incomplete[part] += 1
                return self._incomplete[part] >= BELIEVED_INCOMPLETE
            case TransientError():
                return False
            case InvariantError():
                return error.scope != "journal"
            case _:
                return True

    def snapshot(self) -> dict[str, Pages]:
        """Freeze every source as it stands."""
        # What is configured stands in the settings; found are factories alone.
        found = {} if self._chain.venues else self._places
        text = orjson.dumps({name: place.options["factory"] for name, place in found.items()})
        frozen: dict[str, Pages] = {PLACES: partial(_one_page, text)}
        frozen.update((name, source.snapshot()) for name, source in self._sources(self.venues))
        return frozen

    def remember(self, pages: ReadPages) -> None:
        """Let markets know their code as a snapshot did, whether or not the rest of it is of use."""
        for name, market in self.markets.items():
            if isinstance(market, Remembering):
                for page in islice(pages(f"market/{name}"), 1):
                    market.remember(page)

    async def restore(self, pages: ReadPages, head: Head, latest: Head) -> None:
        """Load everything from a snapshot of a block, while the chain stands at `latest`.

        Raises `InvariantError` when the snapshot is of something else or cannot be read; some
        sources may then hold what it says, and all have to be loaded anew.
        """
        if not self._chain.venues and self._chain.contract is not None:
            first = head.number + 1
            if await have_changed(self._reader, self._chain.contract, first, latest):
                raise InvariantError(self._name, "the exchanges the contract may use have changed")
        await asyncio.to_thread(self._restore, pages)

    def connect(self) -> None:
        """Let venues with offers try them at the node; until then they have none."""
        for venue in self.venues.values():
            if isinstance(venue, Offering):
                venue.connect(self._reader)

    def _restore(self, pages: ReadPages) -> None:
        places = self._chain.venues or _read_places(b"".join(pages(PLACES)))
        for name, source in self._sources({}):
            source.restore(pages(name))
        if self.coin not in self._tokens():
            raise InvariantError(self._name, "the wrapped native coin is not in it")
        venues = self.venues or self._build(places)
        for name, venue in venues.items():
            venue.restore(pages(f"venue/{name}"))
        self._places, self.venues, self.unloaded = places, venues, {}

    def _sources(self, venues: Mapping[str, Venue]) -> Iterator[tuple[str, Source]]:
        for name, market in self.markets.items():
            yield f"market/{name}", market
            yield f"oracle/{name}", market.oracle
        for name, venue in venues.items():
            yield f"venue/{name}", venue

    def _tokens(self) -> dict[Address, Token]:
        return {
            address: token
            for market in self.markets.values()
            for address, token in market.tokens().items()
        }

    def _build(self, places: Mapping[str, VenueTable]) -> dict[str, Venue]:
        tokens = self._tokens()
        venues = {
            name: build_venue(self._name, name, place, tokens, self._chain.contract or ZERO_ADDRESS)
            for name, place in places.items()
        }
        for market in self.markets.values():
            if isinstance(market, Redeeming):
                redemption = market.redemption()
                if redemption.name in venues:
                    key = f"chains.{self._name}.venues.{redemption.name}"
                    raise ConfigError(f"{key} has the name of what redeems", "choose another name")
                venues[redemption.name] = redemption
        return venues

    async def _find_places(self, head: Head) -> Mapping[str, VenueTable]:
        """Return the configured venues; without any, the exchanges the contract's owner allows."""
        chain = self._chain
        if chain.venues or chain.contract is None:
            return chain.venues
        first = min((market.first_block for market in chain.markets.values()), default=0)
        found = await allowed_factories(self._reader, chain.contract, first, head)
        names = ["uniswap-v3", *(f"uniswap-v3-{number}" for number in range(2, len(found) + 1))]
        return {
            name: _uniswap_v3(to_hex(factory)) for name, factory in zip(names, found, strict=False)
        }


def _one_page(content: bytes) -> Iterator[bytes]:
    yield content


def _read_places(page: bytes) -> dict[str, VenueTable]:
    return {name: _uniswap_v3(factory) for name, factory in orjson.loads(page).items()}


def _uniswap_v3(factory: str) -> VenueTable:
    return VenueTable.model_validate({"venue": "uniswap-v3", "factory": factory})


async def _native(reader: ChainReader, name: str, chain: Chain, head: Head) -> Address:
    """Return the wrapped native coin, by the settings or else by the contract."""
    if chain.wrapped_native is not None:
        return chain.wrapped_native
    if chain.contract is None:
        raise ConfigError(
            f"chains.{name}.wrapped_native is missing",
            "gas is priced by it: WETH on Ethereum; a deployed contract would tell it too",
        )
    return await wrapped_native(reader, chain.contract, head)
