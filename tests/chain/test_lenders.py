"""The owner takes the pool's flash loans back: the next lender is asked, and nothing is lost."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from keeper.app import Variant, record, replay
from keeper.app.scan import look
from keeper.app.settling import LocalSettlement
from keeper.book.book import Book
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.planning.owner_calls import AAVE_FLASH
from keeper.tape.reading import read_tape
from keeper.types import FlashKind, FlashSource, Plan
from keeper.venues.uniswap_v3 import UniswapV3
from tests.line import Play, assert_clean

pytestmark = pytest.mark.chain


def without_loans(net: Devnet, lanes: int = 1) -> Operator:
    """Deploy an operator whose contract may liquidate in the pool, and not borrow from it for free."""
    operator = deploy_operator(net, lanes=lanes)
    market = net.market
    net.send(market.owner, market.configurator, "updateFlashloanPremium(uint128)", [0])
    pool = [market.pool, AAVE_FLASH]
    net.send(operator.owner, operator.contract, "disallow(address,bytes4)", pool)
    return operator


async def test_a_lender_without_the_owners_leave_is_passed_over_live_and_in_a_replay(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_settings(net, without_loans(net), tmp_path, live=True)
    settings, tape = load([path]).settings, tmp_path / "x.tape"
    crowd = net.borrowers(4, health=1.03, size_usd=(8_000, 20_000), seed=41)
    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        begun = asyncio.Event()
        last = net.chain.block_number() + 2
        recording = asyncio.create_task(
            record(settings, "devnet", tape, last=last, told=lambda _: begun.set())
        )
        await begun.wait()
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 93 // 100))
        (plan,) = [plan for report in stage.reports for plan in report.sent]
        assert {quote.flash.kind for quote in plan.quotes} == {FlashKind.UNISWAP_V3}
        async with AsyncExitStack() as stack:
            rules = (await look(settings, "devnet", stack)).planner(settings).rules
        assert [rules.lends(lender) for lender in lenders(stage.line.book)] == [False, True]
        await stage.mine()
        play.assert_taken(crowd)
        assert_clean(play.tally)
        await recording
    replayed: list[Plan] = []
    send = LocalSettlement.send

    async def noting(here: LocalSettlement, plans: Sequence[Plan]) -> Any:
        replayed.extend(plans)
        return await send(here, plans)

    monkeypatch.setattr(LocalSettlement, "send", noting)
    variants = [Variant("live", settings)]
    await replay("devnet", settings.chains["devnet"], read_tape(tape), variants)
    assert [quote.flash for each in replayed for quote in each.quotes] == [
        quote.flash for quote in plan.quotes
    ]


def lenders(book: Book) -> list[FlashSource]:
    """Return the pool's loan of a token, and an exchange's."""
    (market,) = book.markets.values()
    weth = next(token for token in book.tokens().values() if token.symbol == "WETH").address
    pool = market.protocol.flash_sources(weth)[0]
    venue = book.sources["venue/uniswap"]
    assert isinstance(venue, UniswapV3)
    return [pool, venue.flash_sources(weth)[0]]
