"""Falling-price auctions on the stand-in, through the batch contract: started, taken, started anew.

An auction is taken without capital: it hands its collateral to an exchange callee first, which sells
it, pays the auction and sends the rest. When to take is decided head by head, from the contract's own
figures and exact quotes of the pool.
"""

import random
from dataclasses import dataclass

import pytest

from keeper.devnet import Devnet
from keeper.protocols.maker_clip.dutch import (
    Barked,
    Moment,
    Vault,
    bark,
    best_moment,
    moments,
    reward_down,
    take,
)
from keeper.types import Hop
from keeper.units import MAX_UINT256, RAY, WAD, Address
from tests.maker import FEE, RAD, Maker, deploy_maker
from tests.uniswap import load_venue

pytestmark = pytest.mark.chain

BLOCK_SECONDS = 12
URN = b"\x0b" * 20
AHEAD = 3_600
"""Seconds to come that are looked at."""


def price_of(net: Devnet) -> int:
    return net.price("WETH") * RAY // 10**8


@pytest.fixture
def maker(net: Devnet) -> Maker:
    """One unsafe urn: 60 WETH for 120,000 dollars, after the price fell."""
    before = price_of(net)
    made = deploy_maker(net, before)
    made.run(made.hoping())
    made.open_urn(URN, 60 * WAD, 60 * before // RAY * WAD * 66 // 100)
    made.poke(before * 96 // 100)
    return made


def vault(maker: Maker, urn: bytes) -> Vault:
    ask = maker.net.call
    ink, art = ask(maker.address, "urns(address)", [urn], ["uint256", "uint256"])
    names = ("rate()", "spot()", "dust()", "hole()", "dirt()", "chop()")
    rate, spot, dust, hole, dirt, chop = (ask(maker.address, name) for name in names)
    return Vault(ink, art, rate, spot, dust, hole - dirt, chop)


def internal(maker: Maker) -> int:
    return int(maker.net.call(maker.address, "dai(address)", [maker.operator.contract]))


def held(maker: Maker) -> int:
    return maker.net.balance(maker.dai, maker.operator.contract)


def test_a_bark_starts_what_was_reckoned_and_its_reward_can_be_cashed(maker: Maker) -> None:
    expected = bark(vault(maker, URN))
    assert isinstance(expected, Barked)
    maker.run(maker.barking(URN))
    auction = maker.auction(1)
    assert (auction.lot, auction.tab) == (expected.lot, expected.tab)
    assert auction.top == price_of(maker.net) * 96 // 100 * 12 // 10
    reward = internal(maker)
    assert reward == reward_down(expected.tab, 100 * RAD, WAD // 1_000)
    before = held(maker)
    maker.run(maker.cashing(reward // RAY))
    assert held(maker) - before == reward // RAY
    assert bark(vault(maker, URN)) is None
    # A second bark fails alone, and the batch with nothing done says so.
    told = maker.results(maker.run(maker.barking(URN)))
    assert told.items == ()


def test_takes_equal_the_contract_at_every_step_and_size(maker: Maker) -> None:
    net, chance = maker.net, random.Random(5)
    maker.run(maker.barking(URN))
    taker = net.users[9].address
    net.send(taker, maker.address, "hope(address)", [maker.address])
    net.give("DAI", taker, 1_000_000 * WAD)
    net.send(taker, maker.dai, "approve(address,uint256)", [maker.address, MAX_UINT256])
    net.send(taker, maker.address, "join_dai(address,uint256)", [taker, 900_000 * WAD])
    seen = set()
    signature = "take(uint256,uint256,uint256,address,bytes)"
    for _ in range(25):
        net.mine(seconds=chance.choice([12, 90, 400]))
        now = net.chain.timestamp() + BLOCK_SECONDS
        auction = maker.auction(1)
        amount = chance.choice([auction.lot, auction.lot // 3, auction.lot // 50, MAX_UINT256])
        expected = take(auction, amount, now)
        before = net.call(maker.address, "dai(address)", [taker])
        gem = net.call(maker.address, "gem(address)", [taker])
        back = net.snapshot()
        args = [1, amount, MAX_UINT256, taker, b""]
        mined = net.send(taker, maker.address, signature, args, check=False)
        assert mined.ok == (expected is not None)
        seen.add(mined.ok)
        if expected is not None:
            assert before - net.call(maker.address, "dai(address)", [taker]) == expected.owe
            assert net.call(maker.address, "gem(address)", [taker]) - gem == expected.slice
        net.revert(back)
        if auction.needs_redo(now):
            break
    assert True in seen


class Exchange:
    """What the pool pays, asked once for each amount: nobody else trades here."""

    def __init__(self, maker: Maker) -> None:
        self._venue = load_venue(maker.net)
        (pool,) = (
            pool
            for pool in maker.net.uniswap.pools
            if {pool.token0, pool.token1} == {maker.weth, maker.dai} and pool.fee == FEE
        )
        self._hop = Hop("uniswap", Address(pool.address), maker.weth, maker.dai)
        self._known: dict[int, int] = {}

    def sale(self, amount: int) -> int:
        if amount not in self._known:
            self._known[amount] = self._venue.begin().quote(self._hop, amount)
        return self._known[amount]


@dataclass
class Keeping:
    """Decide at each head whether to take the one auction in the next block."""

    maker: Maker
    exchange: Exchange
    survival: int
    cost: int = 15 * WAD

    def choose(self) -> Moment | None:
        """Return the moment to take at, from the present head on."""
        now = self.maker.net.chain.timestamp()
        times = range(now + BLOCK_SECONDS, now + AHEAD, BLOCK_SECONDS)
        auction = self.maker.auction(1)
        return best_moment(moments(auction, self.exchange.sale, self.cost, times), self.survival)

    def run(self, rival_at: int | None = None) -> tuple[int, int]:
        """Step through the heads until it is taken; return the gain and the timestamp, 0 when lost."""
        maker, net = self.maker, self.maker.net
        while True:
            chosen = self.choose()
            now = net.chain.timestamp()
            assert chosen is not None
            if rival_at is not None and now + BLOCK_SECONDS >= rival_at < chosen.timestamp:
                return 0, 0
            auction = maker.auction(1)
            if chosen.timestamp > now + BLOCK_SECONDS:
                # Nothing changes before the price does: the next look is at the head before that.
                due = auction.next_change(now + BLOCK_SECONDS)
                net.mine(seconds=BLOCK_SECONDS * max((due - now - 1) // BLOCK_SECONDS, 1))
                continue
            price = auction.price_at(chosen.timestamp)
            before = held(maker)
            least = chosen.profit
            told = maker.results(maker.run(maker.taking(1, price, least)))
            assert told.items == (0,)
            gain = held(maker) - before
            assert gain == chosen.profit + self.cost
            assert net.call(maker.address, "sales(uint256)", [1], ["uint256"] * 3) == (0, 0, 0)
            return gain, chosen.timestamp


def test_from_the_first_head_to_the_receipt_against_taking_at_once(maker: Maker) -> None:
    net = maker.net
    maker.run(maker.barking(URN))
    tic, exchange = maker.auction(1).tic, Exchange(maker)
    start = net.snapshot()
    outcomes = {}
    for survival in (0, 700_000, 1_000_000):
        outcomes[survival] = Keeping(maker, exchange, survival).run()
        net.revert(start)
        start = net.snapshot()
    at_once, careful, alone = outcomes.values()
    # Nobody else there: waiting pays. Some risk: a little. Certain to be lost: the first that pays.
    assert at_once[1] < alone[1]
    assert at_once[1] <= careful[1] <= alone[1]
    assert 15 * WAD < at_once[0] <= careful[0] < alone[0]
    # Each is the first block of a step of the price.
    for _, when in outcomes.values():
        assert (when - tic) // 90 > (when - BLOCK_SECONDS - tic) // 90
    # A rival that takes one step after the first that pays leaves nothing to who waits for the most.
    rival = at_once[1] + 90
    assert Keeping(maker, exchange, 0).run(rival)[0] == at_once[0]
    net.revert(start)
    assert Keeping(maker, exchange, 1_000_000).run(rival) == (0, 0)


def test_an_auction_that_ended_is_started_anew(maker: Maker) -> None:
    net = maker.net
    maker.run(maker.barking(URN))
    told = maker.results(maker.run(maker.redoing(1)))
    assert told.items == ()
    net.mine(seconds=8_401)
    now = net.chain.timestamp() + BLOCK_SECONDS
    auction = maker.auction(1)
    assert auction.needs_redo(now)
    feed = net.call(maker.address, "feed()")
    assert auction.pays_redo(feed)
    before = internal(maker)
    maker.run(maker.redoing(1))
    again = maker.auction(1)
    assert (again.tic, again.top) == (net.chain.timestamp(), feed * 12 // 10)
    assert internal(maker) - before == reward_down(auction.tab, 100 * RAD, WAD // 1_000)
