"""Settings that name something else than they mean: one line, and what to do, for every protocol."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from keeper.chain.reader import ChainReader
from keeper.config import Market
from keeper.devnet import Cast, Devnet
from keeper.devnet.lending import LENDING, deploy_lending
from keeper.devnet.operator import deploy_operator
from keeper.errors import ConfigError
from keeper.plugins import configure_market
from keeper.units import to_hex
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain

ADDRESSES = {
    "aave-v3": "pool",
    "morpho-blue": "morpho",
    "compound-v2": "comptroller",
    "liquity-v1": "trove_manager",
    "maker-clip": "clip",
}
"""The option that says which contracts a market is of."""
Tables = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def street(devnet: Devnet) -> Iterator[tuple[Devnet, Tables]]:
    """Every protocol on one chain, and the settings that are right for each."""
    before = devnet.snapshot()
    operator = deploy_operator(devnet)
    tables: Tables = {"aave-v3": {"protocol": "aave-v3", "pool": to_hex(devnet.market.pool)}}
    for each in deploy_lending(devnet, operator, tuple(LENDING), lambda _: None):
        if text := each.table():
            markets = tomllib.loads(text)["chains"]["devnet"]["markets"]
            tables[each.protocol] = markets[each.market]
    yield devnet, tables
    devnet.revert(before)


async def found(net: Devnet, table: dict[str, Any]) -> Any:
    """Return the market that settings name."""
    reader = ChainReader(DirectRpc(net))
    entry = Market.model_validate(table)
    kind, options = configure_market("devnet", "market", entry)
    return await kind.discover(reader, "market", options, await reader.head(), 0)


async def refused(net: Devnet, table: dict[str, Any]) -> str:
    """Return the one line that settings are refused with."""
    with pytest.raises(ConfigError) as told:
        await found(net, table)
    line = str(told.value)
    assert line
    assert "\n" not in line
    return line


async def test_the_right_ones_are_found(street: tuple[Devnet, Tables]) -> None:
    net, tables = street
    assert tables.keys() == LENDING.keys() == ADDRESSES.keys()
    for table in tables.values():
        assert (await found(net, table)).stopped == ""


@pytest.mark.parametrize("protocol", LENDING)
async def test_another_protocols_address_is_one_line(
    street: tuple[Devnet, Tables], protocol: str
) -> None:
    net, tables = street
    key = ADDRESSES[protocol]
    others = {other: tables[other][name] for other, name in ADDRESSES.items() if other != protocol}
    tokens = {"a token": to_hex(net.tokens["DAI"].address), "nobody": to_hex(Cast.RIVAL)}
    for address in (others | tokens).values():
        line = await refused(net, tables[protocol] | {key: address})
        assert address.lower() in line.lower()


async def test_a_market_that_does_not_exist_is_one_line(street: tuple[Devnet, Tables]) -> None:
    net, tables = street
    identity = "0x" + "11" * 32
    line = await refused(net, tables["morpho-blue"] | {"ids": [identity]})
    assert f"has no market {identity}" in line


async def test_a_pool_of_an_unknown_revision_is_one_line(
    street: tuple[Devnet, Tables], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is watched and audited; the line says why nothing is sent."""
    net, tables = street
    monkeypatch.setattr("keeper.protocols.aave_v3.deployment.era_of", lambda _: None)
    market = await found(net, tables["aave-v3"])
    reader = ChainReader(DirectRpc(net))
    await market.bootstrap(reader, await reader.head())
    assert market.stopped == "the rules of pool revision 10 are not known"
