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
from keeper.journal.read import JournalReader
from keeper.protocols.morpho_blue.calls import FLASH_LOAN, LIQUIDATE
from keeper.types import FlashKind, Reason
from keeper.units import to_hex
from tests.line import Play, assert_clean
from tests.morpho import deployed

POSITION = "position(bytes32,address)"


@asynccontextmanager
async def playing(
    net: Devnet,
    home: Path,
    morpho: Morpho,
    *,
    more: str = "",
    allow: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncIterator[Play]:
    """Run a keeper that follows the Aave market and a Morpho deployment beside it."""
    operator = deploy_operator(net)
    for target, selector in ((morpho.address, LIQUIDATE), (morpho.address, FLASH_LOAN), *allow):
        arguments = [target, selector, target]
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
        (
            each,
            held + number * 10**market.collateral.decimals // 10**6,
            most * (9_900 - number * 300 // max(count, 1)) // 10_000,
        )
        for number, each in enumerate(who)
    ]
    morpho.open(market, positions)
    return who


def fall(
    net: Devnet,
    morpho: Morpho,
    markets: Sequence[MorphoMarket],
    percent: int,
    symbol: str = "WETH",
) -> None:
    """Let a token fall in the chain's oracle, its pools and the markets' oracles, in one block."""
    prices = net.prices() | {symbol: net.price(symbol) * (100 - percent) // 100}
    with net.one_block():
        put_prices(net.chain, net.market, {symbol: prices[symbol]})
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
        (feed,) = [
            each
            for each in play.stage.line.status.as_json()["feeds"]
            if each["market"].startswith("blue/") and each["asset"] == "WETH"
        ]
        assert 0 <= feed["off_bps"] <= 100, "pools stand a little lower after the sales"
        for who in crowd:
            left = net.call(morpho.address, POSITION, [market.id, who], ["uint256"] * 3)
            assert left[1] == 0


async def test_two_protocols_share_a_crash_a_loan_and_a_batch(net: Devnet, tmp_path: Path) -> None:
    """Aave and two markets of Morpho, one of them short of collateral, in one transaction."""
    morpho, market = deployed(net)
    second = morpho.market(net.tokens["USDC"], net.tokens["WETH"], 915 * 10**15)
    morpho.set_price(second, second.quotient(net.price("WETH"), net.price("USDC")))
    morpho.supply(second, 10**12)
    both = opened(net, morpho, market, 3)
    # the same borrower in two of Morpho's own markets
    opened(net, morpho, second, 1)
    short = opened(net, morpho, second, 2, first=50)
    aave = net.borrowers(3, health=(1.01, 1.02), seed=5)
    async with playing(net, tmp_path, morpho) as play:
        await play.stage.step(lambda: fall(net, morpho, [market, second], 11))
        await play.stage.mine(2)
        plans = [plan for report in play.stage.reports for plan in report.plans]
        play.assert_taken([*both, *short, *aave])
        assert_clean(play.tally)
        assert await play.audit() == []
        quotes = [quote for plan in plans for quote in plan.quotes]
        assert {quote.opportunity.position.home for quote in plans[0].quotes} == {"aave", "blue"}
        assert len({quote.opportunity.position.market for quote in quotes}) == 3
        assert {quote.flash.kind for quote in quotes} == {FlashKind.MORPHO}
        for who, where in ((both[0], market), (both[0], second), (short[0], second)):
            left = net.call(morpho.address, POSITION, [where.id, who], ["uint256"] * 3)
            assert left[1] == 0
        assert play.stage.line.book.markets["blue"].protocol.backstops()[0].amount > 0


async def test_its_loans_pay_for_another_protocols_liquidations(
    net: Devnet, tmp_path: Path
) -> None:
    morpho, market = deployed(net)
    opened(net, morpho, market, 1)
    aave = net.borrowers(2, health=(1.01, 1.02), seed=5)
    async with playing(net, tmp_path, morpho) as play:
        # Morpho's own oracle stays where it is
        await play.stage.step(lambda: fall(net, morpho, [], 5))
        await play.stage.mine()
        plans = [plan for report in play.stage.reports for plan in report.plans]
        play.assert_taken(aave)
        assert_clean(play.tally)
        quotes = [quote for plan in plans for quote in plan.quotes]
        assert {(each.flash.kind, each.premium) for each in quotes} == {(FlashKind.MORPHO, 0)}


async def test_a_coarse_collateral_pays_for_a_fine_debt(net: Devnet, tmp_path: Path) -> None:
    """What a call names is satoshis, what it pulls is 1e18ths; the whole of it is told in words."""
    morpho = deployed(net)[0]
    market = morpho.market(net.tokens["DAI"], net.tokens["WBTC"], 945 * 10**15)
    morpho.set_price(market, market.quotient(net.price("WBTC"), net.price("DAI")))
    morpho.supply(market, 10**24)
    short, deep = opened(net, morpho, market, 2)
    # none of Morpho's own is left to lend: another lender's loan pays
    idle = net.balance(market.loan.address, morpho.address)
    name = f"withdraw({PARAMS},uint256,uint256,address,address)"
    morpho.send(Cast.TRADER, market, name, idle, 0, Cast.TRADER, Cast.TRADER)
    async with playing(net, tmp_path, morpho) as play:
        await play.stage.step(lambda: fall(net, morpho, [market], 9, "WBTC"))
        await play.stage.mine()
        plans = [plan for report in play.stage.reports for plan in report.plans]
        play.assert_taken([short, deep])
        assert_clean(play.tally)
        assert await play.audit() == []
        quotes = [quote for plan in plans for quote in plan.quotes]
        assert FlashKind.MORPHO not in {quote.flash.kind for quote in quotes}
        place = quotes[0].opportunity.position.market
        assert place.startswith("blue/WBTC-DAI-94.5-")
    settings = load([tmp_path / "keeper.toml"]).settings
    told = JournalReader(settings.journal_file).explain(to_hex(short))
    assert told is not None
    assert "liquidated" in told.verdict
    assert {each.market for each in told.opportunities} == {place}
