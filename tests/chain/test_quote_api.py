"""An aggregator's offers: asked beside the line, tried before they are trusted, sold as they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from eth_utils.address import to_checksum_address

from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.doctor.permissions import missing
from keeper.errors import ConfigError
from keeper.ports import Observing
from keeper.types import Hop, Plan
from keeper.units import WAD, Address
from keeper.venues.quote_api import QuoteApi
from tests.exchanges.quote_api import KEY_HEADER, SELECTOR, AggregatorStandIn
from tests.exchanges.selling import send
from tests.line import Play, assert_clean
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
KEY = "stand-in-key-that-nobody-may-see"
REFUSED = {
    "late": "no answer within the deadline",
    "down": "the API answers 503",
    "moved": "the API answers 302",
    "garbage": "the answer is no JSON",
    "endless": "the answer is too long",
    "array": "the answer has no transaction.to",
    "liar": "the call brings less than the answer promises",
    "thief": "the call brings less than the answer promises",
    "half": "the call does not sell the whole amount",
    "target": "the answer calls another contract than the router",
    "selector": "the answer calls a function that is not allowed",
    "value": "the call wants native coin",
    "amount": "the answer is for another amount",
    "nothing": "the answer promises nothing",
    "decimals": "the answer has an amount that is no whole number",
    "fieldless": "the answer has no transaction.data",
    "huge": "the call has 5260 bytes, 4096 at most have room",
}


@pytest_asyncio.fixture
async def server(net: Devnet) -> AsyncIterator[AggregatorStandIn]:
    async with AggregatorStandIn(net).serving() as serving:
        yield serving


def options(server: AggregatorStandIn, **more: Any) -> QuoteApi.Config:
    weth, usdc = (server.net.tokens[each].address for each in ("WETH", "USDC"))
    told: dict[str, Any] = {
        "url": server.url,
        "chain_id": 31337,
        "router": Address(server.router),
        "selectors": ["0x" + SELECTOR.hex()],
        "pairs": [{"sell": Address(weth), "buy": Address(usdc), "least": WAD}],
        "key_header": KEY_HEADER,
        "key_env": "KEEPER_TEST_QUOTE_KEY",
    }
    return QuoteApi.Config.model_validate(told | more)


async def opened(
    server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> tuple[QuoteApi, ChainReader, Address]:
    """Return the venue with an operator's contract, loaded."""
    monkeypatch.setenv("KEEPER_TEST_QUOTE_KEY", KEY)
    contract = Address(deploy_operator(server.net).contract)
    venue = QuoteApi.configured("aggregator", options(server, **more), (), contract)
    reader = ChainReader(DirectRpc(server.net))
    await venue.bootstrap(reader, await reader.head())
    venue.connect(reader)
    assert isinstance(venue, Observing)
    return venue, reader, contract


async def ask(venue: QuoteApi, reader: ChainReader, amount: int) -> None:
    """Want an amount as planning does, let a head pass, and take the answer at the same head."""
    ((sold, bought),) = venue._lanes
    venue.want(sold, bought, amount)
    assert venue.begin().quote(Hop("aggregator", sold, sold, bought, least=1), amount) == 0
    head = await reader.head()
    venue.observe([], head, head.next_block(12))
    await venue.settled()
    assert not venue.offers
    venue.observe([], head, head.next_block(12))


async def test_an_offer_is_a_hop_for_the_heads_that_follow(
    net: Devnet, server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue, reader, contract = await opened(server, monkeypatch)
    await ask(venue, reader, 3 * WAD)
    assert venue.desk.refused == {}
    assert server.keys == [KEY]
    (asked,) = server.asked
    assert asked["taker"] == "0x" + contract.hex()
    amount = int(asked["sellAmount"])
    assert 2.99 * WAD < amount < 3 * WAD
    weth = Address(net.tokens["WETH"].address)
    (hop,) = [hop for hop in venue.hops(weth) if hop.pool in venue.offers]
    (made,) = venue.offers.values()
    assert made.tried.out >= made.offer.minimum > 0
    assert hop.extra_bytes == len(made.offer.data)
    trials = venue.begin()
    assert trials.quote(hop, amount - 1) == 0
    assert trials.apply(hop, 3 * WAD) == made.offer.minimum
    assert trials.quote(hop, 3 * WAD) == 0
    call = venue.execution(hop)
    assert (call.target, call.head, call.whole) == (server.router, made.offer.data, True)
    assert call.minimum == made.offer.minimum
    for _ in range(2):
        net.mine()
        head = await reader.head()
        venue.observe([], head, head.next_block(12))
        assert venue.offers
    net.mine()
    head = await reader.head()
    venue.observe([], head, head.next_block(12))
    assert not venue.offers
    assert len(server.asked) == 1


@pytest.mark.parametrize("mode", REFUSED)
async def test_what_is_wrong_is_never_a_hop(
    server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    late = {"deadline_ms": 50} if mode == "late" else {}
    venue, reader, _ = await opened(server, monkeypatch, **late)
    server.mode = mode
    await ask(venue, reader, 3 * WAD)
    assert venue.desk.refused == {REFUSED[mode]: 1}
    assert not venue.offers
    told = f"{venue.desk.refused} {venue.desk!r} {options(server)!r} {vars(venue)}"
    assert KEY not in told
    assert "sellToken" not in told


async def test_little_and_unwanted_sales_are_not_asked_about(
    server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue, reader, _ = await opened(server, monkeypatch)
    await ask(venue, reader, WAD - 1)
    ((sold, bought),) = venue._lanes
    venue.want(bought, sold, 100 * WAD)
    await ask(venue, reader, WAD - 1)
    assert server.asked == []


async def test_nobody_is_asked_where_calls_cannot_be_tried(
    server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue, reader, _ = await opened(server, monkeypatch)
    # A lane of what is no token: it has no balance that could be lent.
    lane = next(iter(venue._lanes.values()))
    nobody = type(lane)(Address(b"\x01" * 20), lane.bought)
    assert venue._rehearsal is not None
    found = await venue.desk.ask({nobody: WAD}, venue._rehearsal, await reader.head())
    assert found == []
    assert server.asked == []
    assert sum(venue.desk.refused.values()) == 1


def test_a_missing_key_is_one_line(net: Devnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEEPER_TEST_QUOTE_KEY", raising=False)
    server = AggregatorStandIn(net)
    server.close()
    server.url = "https://127.0.0.1/{sell}/{buy}/{amount}/{taker}"
    with pytest.raises(ConfigError, match="the environment has no KEEPER_TEST_QUOTE_KEY"):
        QuoteApi.configured("aggregator", options(server), (), Address(b"\x01" * 20))
    with pytest.raises(ConfigError, match="belong together"):
        QuoteApi.configured("a", options(server, key_env=""), (), Address(b"\x01" * 20))
    for wrong in ({"selectors": ["0x12"]}, {"url": "ftp://x"}, {"fields": {"too": "x"}}):
        with pytest.raises(ValueError, match=r"must be|has too"):
            options(server, **wrong)


@asynccontextmanager
async def expecting(
    net: Devnet, server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch, home: Path
) -> AsyncIterator[tuple[Play, QuoteApi, list[bytes]]]:
    """Run a keeper that has an offer for a borrower who is about to fall."""
    monkeypatch.setenv("KEEPER_TEST_QUOTE_KEY", KEY)
    operator = deploy_operator(net)
    crowd = net.borrowers(1, health=(1.01, 1.02), size_usd=300_000, seed=3)
    net.mine(20)
    weth, usdc = (to_checksum_address(net.tokens[each].address) for each in ("WETH", "USDC"))
    text = f"""
[chains.devnet.venues.aggregator]
venue = "quote-api"
url = "{server.url}"
chain_id = 31337
router = "{to_checksum_address(server.router)}"
selectors = ["0x{SELECTOR.hex()}"]
pairs = [{{ sell = "{weth}", buy = "{usdc}", least = {WAD} }}]
slippage_bps = 5
heads = 10
key_header = "{KEY_HEADER}"
key_env = "KEEPER_TEST_QUOTE_KEY"
"""
    path = write_settings(net, operator, home, extra=text)
    settings = load([path]).settings
    chain, rpc = settings.chains["devnet"], DirectRpc(net)
    (lacking,) = await missing(rpc, chain, operator.contract, ())
    assert lacking.what == "allow swaps on venue aggregator"
    send(net, operator, lacking.data)
    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        venue = stage.line.book.sources["venue/aggregator"]
        assert isinstance(venue, QuoteApi)
        await stage.mine()
        await stage.line.upkeep.foresight.look(stage.reports[-1].view)
        await stage.mine()
        await venue.settled()
        yield play, venue, crowd
    told = " ".join(f"{event.name} {event.fields}" for event in stage.events)
    assert KEY not in told
    assert "sellToken" not in told


async def fall(play: Play, crowd: list[bytes]) -> Plan:
    """Let the collateral fall, and return the plan of that head, which took the borrower."""
    net, stage = play.net, play.stage
    play.count()
    await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 97 // 100))
    ((plan,),) = [report.sent for report in stage.reports if report.sent]
    await stage.mine(2)
    play.assert_taken(crowd)
    assert_clean(play.tally)
    return plan


async def test_an_offer_made_ahead_sells_what_falls(
    net: Devnet, server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The aggregator's pair keeps the price from before the fall, which the V3 pools follow."""
    async with expecting(net, server, monkeypatch, tmp_path) as (play, venue, crowd):
        assert venue.desk.refused == {}
        assert {int(each["sellAmount"]) > WAD for each in server.asked} == {True}
        plan = await fall(play, crowd)
        (quote,) = plan.quotes
        assert quote.routes[0].route[0].venue == "aggregator"
        assert {hop.venue for portion in quote.fallback for hop in portion.route} == {"uniswap"}


async def test_an_offer_that_does_not_hold_any_more_changes_nothing(
    net: Devnet, server: AggregatorStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was tried well and brings too little by the time it is needed: the same block sells on pools."""
    async with expecting(net, server, monkeypatch, tmp_path) as (play, venue, crowd):
        assert venue.desk.refused == {}
        server.mode = "down"
        await asyncio.to_thread(server.drain)
        assert venue.offers
        (quote,) = (await fall(play, crowd)).quotes
        assert {hop.venue for hop in quote.hops} == {"uniswap"}
