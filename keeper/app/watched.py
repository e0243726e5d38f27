"""Discover and load what one chain is configured to watch."""

from collections.abc import Mapping
from dataclasses import dataclass

from keeper.chain.reader import ChainReader
from keeper.config import Chain
from keeper.errors import ConfigError
from keeper.plugins import load_protocol, load_venue
from keeper.ports import LendingProtocol, Venue
from keeper.types import Head, Token


@dataclass(frozen=True, slots=True)
class Watched:
    """One chain's markets and venues, loaded as of one head."""

    head: Head
    markets: Mapping[str, LendingProtocol]
    venues: Mapping[str, Venue]
    native: Token


async def watch_chain(reader: ChainReader, name: str, chain: Chain) -> Watched:
    """Discover and load every configured market and venue at one head."""
    if chain.wrapped_native is None:
        raise ConfigError(
            f"chains.{name}.wrapped_native is missing", "gas is priced by it: WETH on Ethereum"
        )
    head = await reader.head()
    markets: dict[str, LendingProtocol] = {}
    for market, entry in chain.markets.items():
        protocol = load_protocol(entry.protocol)
        found = await protocol.discover(reader, market, entry.pool, head, entry.first_block)
        await found.bootstrap(reader, head)
        await found.oracle.bootstrap(reader, head)
        markets[market] = found
    tokens = {address: token for m in markets.values() for address, token in m.tokens().items()}
    native = tokens.get(chain.wrapped_native)
    if native is None:
        raise ConfigError(
            f"chains.{name}.wrapped_native is no reserve of any market here",
            "gas cannot be priced without it",
        )
    venues: dict[str, Venue] = {}
    for venue, place in chain.venues.items():
        venues[venue] = load_venue(place.venue)(
            venue, place.factory, {*tokens, *place.hubs}, place.fees
        )
        await venues[venue].bootstrap(reader, head)
    return Watched(head, markets, venues, native)
