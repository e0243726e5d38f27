"""Discover and load what one chain is configured to watch."""

from collections.abc import Mapping
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.app.permissions import allowed_factories, wrapped_native
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Venue as VenueTable
from keeper.errors import ConfigError
from keeper.plugins import load_protocol, load_venue
from keeper.ports import LendingProtocol, Venue
from keeper.types import Head, Token
from keeper.units import Address


@dataclass(frozen=True, slots=True)
class Watched:
    """One chain's markets and venues, loaded as of one head."""

    head: Head
    markets: Mapping[str, LendingProtocol]
    venues: Mapping[str, Venue]
    native: Token


async def watch_chain(reader: ChainReader, name: str, chain: Chain) -> Watched:
    """Discover and load every configured market and venue at one head."""
    head = await reader.head()
    coin = await _native(reader, name, chain, head)
    markets: dict[str, LendingProtocol] = {}
    for market, entry in chain.markets.items():
        protocol = load_protocol(entry.protocol)
        found = await protocol.discover(reader, market, entry.pool, head, entry.first_block)
        await found.bootstrap(reader, head)
        await found.oracle.bootstrap(reader, head)
        markets[market] = found
    tokens = {address: token for m in markets.values() for address, token in m.tokens().items()}
    native = tokens.get(coin)
    if native is None:
        raise ConfigError(
            f"chains.{name}: the wrapped native coin {to_checksum_address(coin)} is no reserve of any "
            "market here",
            "gas cannot be priced without it",
        )
    venues: dict[str, Venue] = {}
    for venue, place in (await _places(reader, chain, head)).items():
        venues[venue] = load_venue(place.venue)(
            venue, place.factory, {*tokens, *place.hubs}, place.fees
        )
        await venues[venue].bootstrap(reader, head)
    return Watched(head, markets, venues, native)


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


async def _places(reader: ChainReader, chain: Chain, head: Head) -> Mapping[str, VenueTable]:
    """Return the configured venues; without any, the exchanges the contract's owner allows."""
    if chain.venues or chain.contract is None:
        return chain.venues
    first = min((market.first_block for market in chain.markets.values()), default=0)
    found = await allowed_factories(reader, chain.contract, first, head)
    names = ["uniswap-v3", *(f"uniswap-v3-{number}" for number in range(2, len(found) + 1))]
    return {
        name: VenueTable(venue="uniswap-v3", factory=factory)
        for name, factory in zip(names, found, strict=False)
    }
