"""Morpho Blue on the whole line: discovered, judged, batched, paid by its own loans, refused in words."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.morpho import PARAMS, Morpho, MorphoMarket, borrower
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.devnet.prices import put_prices
from keeper.protocols.morpho_blue.calls import FLASH_LOAN, LIQUIDATE
from keeper.types import FlashKind, Included, Reason
from keeper.units import to_hex
from tests.line import Play, assert_clean
from tests.morpho import deployed

POSITION = "position(bytes32,address)"


@asynccontextmanager
async def playing(
    net: Devnet, home: Path, morpho: Morpho, *, more: str = ""
) -> AsyncIterator[Play]:
    """Run a keeper that follows the Aave market and a Morpho deployment beside it."""
    operator = deploy_operator(net)
    for selector in (LIQUIDATE, FLASH_LOAN):
        arguments = [morpho.address, selector, morpho.address]
        net.send(operator.owner, operator.contract, "allow(address,bytes4,address)", arguments)
    extra = f"""
[chains.devnet.markets.blue]
protocol = "morpho-blue"
morpho = "{to_hex(morpho.address)}"
prices = "{to_hex(net.market.oracle)}"
{more}
"""
    path = write_settings(net, operator, home, extra=extra)
    async with staged(net, load([path]).settings, live=True) as stage:
        yield Play(stage)


def opened(
    net: Devnet,
    morpho: Morpho,
    market: MorphoMarket,
    count: int,
    usd: int = 20_000,
    first: int = 0,
) -> list[bytes]:
    """Open borrowers up to 1 to 4 % under what the market lets them owe; return them."""
    price = net.price(market.collateral.symbol)
    who = [borrower(first + number) for number in range(count)]
    held = (usd * 10**8 * 10**market.collateral.decimals) // price
    most = usd * 10**market.loan.decimals * market.lltv // 10**18
    positions = [
        (each, held + number * 10**9, most * (9_900 - number * 300 // max(count, 1)) // 10_000)
        for number, each in enumerate(who)
    ]
    morpho.open(market, positions)
    return who


def fall(net: Devnet, morpho: Morpho, markets: Sequence[MorphoMarket], percent: int) -> None:
    """Let WETH fall in the chain's oracle, its pools and the markets' oracles, in one block."""
    prices = net.prices() | {"WETH": net.price("WETH") * (100 - percent) // 100}
    with net.one_block():
        put_prices(net.chain, net.market, {"WETH": prices["WETH"]})
        for market in markets:
            pair = prices[market.collateral.symbol], prices[market.loan.symbol]
            net.chain.put(morpho.quote(market, market.quotient(*pair)))
        net._put_arbitrage(net.market)


@pytest.mark.parametrize("count", [1, 20, 50])
async def test_a_storm_is_taken_at_the_estimate(net: Devnet, tmp_path: Path, count: int) -> None:
    morpho, market = deployed(net)
    crowd = opened(net, morpho, market, count)
    dust = opened(net, morpho, market, 1, usd=30, first=900)
    async with playing(net, tmp_path, morpho) as play:
        await play.stage.step(lambda: fall(net, morpho, [market], 6))
        await play.stage.mine(2)
        play.assert_taken(crowd)
        assert play.reasons(dust) == {Reason.UNPROFITABLE}
        assert_clean(play.tally)
        assert await play.audit() == []
        for who in crowd:
            left = net.call(morpho.address, POSITION, [market.id, who], ["uint256"] * 3)
            assert left[1] == 0
