"""Which sales a quote API is asked about, and for how much."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from keeper.app.watched import Watched
from keeper.units import Address
from keeper.venues.quote_api import QuoteApi
from keeper.venues.quote_api.answer import Lane
from keeper.venues.quote_api.desk import Api, Desk
from tests.fake_market import CONTRACT, DAI, USDC, WBTC, WETH, pool, venue as pools, view

ROUTER = Address(b"\xaa" * 20)
HEAD = view().head
PAIRS = [(sold.address, bought.address) for sold in (WETH, WBTC) for bought in (USDC, DAI)]
UNIT = 10_000


class Asked:
    """A desk that notes what it is asked for, and has no offers."""

    refused: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.wanted: list[dict[tuple[Address, Address], int]] = []

    async def ask(self, wanted: Mapping[Lane, int], *_: object) -> list[Any]:
        self.wanted.append({(lane.sold, lane.bought): most for lane, most in wanted.items()})
        return []


def opened(most: int = 4, *, connected: bool = True) -> tuple[QuoteApi, Asked]:
    desk = Asked()
    api = Api("https://127.0.0.1", 1, ROUTER, ROUTER, frozenset(), 30, {})
    lanes = [Lane(*pair) for pair in PAIRS]
    made = QuoteApi("offers", api, cast("Desk", desk), lanes, CONTRACT, most=most)
    if connected:
        made.connect(cast("Any", object()))
    return made, desk


async def ask(venue: QuoteApi) -> None:
    venue.observe([], HEAD, HEAD.next_block(12))
    await venue.settled()


async def test_a_venue_from_a_snapshot_asks_once_its_chain_connects_it() -> None:
    venue, desk = opened(connected=False)
    venue.restore(iter([b""]))
    reader: Any = SimpleNamespace(request=None)
    assert await venue.audit(reader, HEAD, 32, 1) == []
    venue.want(*PAIRS[0], UNIT)
    await ask(venue)
    assert desk.wanted == []
    chain: Any = SimpleNamespace(venues={}, contract=None)
    watched = Watched(reader, "x", chain, WETH.address, {})
    watched.venues = {"offers": venue, "none": pools(pool(1, WETH, USDC, 500, 1_000))}
    watched.connect()
    await ask(venue)
    assert desk.wanted == [{PAIRS[0]: 9_980}]


async def test_what_is_planned_counts_before_what_is_foreseen_however_large() -> None:
    venue, desk = opened()
    venue.want(*PAIRS[0], 50 * UNIT, is_foreseen=True)
    venue.want(*PAIRS[0], 10 * UNIT)
    venue.want(*PAIRS[0], 50 * UNIT, is_foreseen=True)
    venue.want(*PAIRS[1], 3 * UNIT, is_foreseen=True)
    await ask(venue)
    assert desk.wanted == [{PAIRS[0]: 9_980 * 10, PAIRS[1]: 9_980 * 3}]
    await ask(venue)
    assert len(desk.wanted) == 1, "what was asked is not asked again"


async def test_the_last_sale_of_a_pair_counts() -> None:
    venue, desk = opened()
    for amount in (10, 4):
        venue.want(*PAIRS[0], amount * UNIT)
        venue.want(*PAIRS[1], amount * UNIT, is_foreseen=True)
    await ask(venue)
    assert desk.wanted == [{PAIRS[0]: 9_980 * 4, PAIRS[1]: 9_980 * 4}]


async def test_where_there_are_too_many_what_is_planned_is_asked_first() -> None:
    venue, desk = opened(most=2)
    for pair in PAIRS[:2]:
        venue.want(*pair, UNIT, is_foreseen=True)
    for pair in PAIRS[2:]:
        venue.want(*pair, UNIT)
    await ask(venue)
    assert desk.wanted == [dict.fromkeys(PAIRS[2:], 9_980)]
