"""A whole keeper and the auctions' stand-ins: started, taken at their moment, started anew."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from keeper.chain.reader import ChainReader
from keeper.contracts import auctioneer
from keeper.devnet import Cast, Devnet
from keeper.devnet.chain import RevertedError
from keeper.devnet.maker import BARK, ILK, Maker, code, deploy_maker
from keeper.errors import ConfigError
from keeper.protocols.maker_clip import MakerClip
from keeper.types import Reason
from keeper.units import MAX_UINT256, RAY, WAD, Address, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc
from tests.line import Play, assert_clean
from tests.maker import auction_of, config_of, playing_maker, price_of

pytestmark = pytest.mark.chain

SLIPPAGE = {"slippage_bps": 250}
FALL = 86
"""Percent of the price after which auctions start: a little above the market, that they come to soon."""


def urns_of(count: int, first: int = 1) -> list[bytes]:
    return [(0xD0 << 64 | first + number).to_bytes(20, "big") for number in range(count)]


def opened(maker: Maker, owners: list[bytes], ink: int) -> None:
    """Open urns that owe two thirds of their collateral, less a percent."""
    art = ink * price_of(maker.net) // RAY * 66 // 100
    maker.open_urns(dict.fromkeys(owners, (ink, art)))


def started(maker: Maker, owner: bytes) -> int:
    """Have a rival start an auction after the price fell; return when it started."""
    maker.poke(price_of(maker.net) * FALL // 100)
    maker.net.send(Cast.RIVAL, maker.clip, BARK, [ILK, owner, Cast.RIVAL])
    return auction_of(maker, 1).tic


@pytest.fixture
def maker(net: Devnet) -> Maker:
    return deploy_maker(net, price_of(net))


async def until(play: Play, done: Callable[[], bool], most: int = 300) -> None:
    """Step through blocks, a price apart, until something is so."""
    net = play.net

    def beat() -> None:
        net.set_prices({"WETH": net.price("WETH")})

    for _ in range(most):
        if done():
            return
        await play.stage.step(partial(net.mine, seconds=78))
        # Arbitrage brings the pools back.
        await play.stage.step(beat)
        play.count()
    raise AssertionError("it never came to that")


async def test_urns_are_auctioned_and_their_auctions_taken(
    net: Devnet, maker: Maker, tmp_path: Path
) -> None:
    await storm(net, maker, tmp_path, 20)


async def storm(net: Devnet, maker: Maker, home: Path, count: int) -> None:
    """Have a price fall under so many urns at once, and their auctions run together."""
    owners, safe = urns_of(count), urns_of(2, 900)
    opened(maker, owners, 5 * WAD)
    maker.open_urns(dict.fromkeys(safe, (9 * WAD, 6_000 * WAD)))
    names = [maker.name_of(number + 1) for number in range(count)]
    async with playing_maker({"clip": maker}, home, **SLIPPAGE) as play:
        await play.stage.step(lambda: maker.poke(price_of(net) * FALL // 100))
        await play.stage.mine(2)
        play.assert_taken(owners)
        assert maker.urns(owners) == [(0, 0)] * count
        assert len(maker.running()) == count
        # The reward is 100 dollars, and a thousandth of what is wanted; gas is a few.
        assert 100 * count < play.tally.net_usd / 10**8 < 110 * count
        await until(play, lambda: not maker.running())
        play.assert_taken([*owners, *names])
        assert_clean(play.tally)
        waited = {skip.detail[:7] for skip in play.tally.refused.values()}
        assert "waiting" in waited
        assert await play.audit() == []
        assert not net.balance(maker.dai, maker.auctioneer)
        assert not net.balance(maker.weth, maker.auctioneer)


async def taken(
    maker: Maker, home: Path, survival: int, rival_at: int | None = None
) -> tuple[float, int]:
    """Return what a keeper nets and how long after the start it took; 0 when a rival did."""
    net, (owner,) = maker.net, urns_of(1)
    async with playing_maker({"clip": maker}, home, survival_percent=survival, **SLIPPAGE) as play:
        await play.stage.step(lambda: None)
        tic, name = started(maker, owner), maker.name_of(1)
        for _ in range(200):
            # Above the feed's price nobody looks, and nothing is on its way.
            seconds = BLOCK_SECONDS if name in play.count().seen else 84
            await play.stage.step(partial(net.mine, seconds=seconds))
            if name in play.count().liquidated:
                break
            refused = play.count().refused.get(name)
            assert refused is None or refused.reason is Reason.UNPROFITABLE
            if rival_at is not None and net.chain.timestamp() - tic >= rival_at:
                args = [int.from_bytes(name, "big"), 10**6 * WAD]
                net.send(Cast.RIVAL, maker.auctioneer, "take(uint256,uint256)", args)
                break
        assert not maker.running()
        assert_clean(play.tally)
        assert await play.audit() == []
        return play.count().net_usd, net.chain.timestamp() - tic if play.tally.liquidated else 0


async def test_an_auction_is_taken_at_its_moment(net: Devnet, maker: Maker, tmp_path: Path) -> None:
    """From the first head to the receipt, against acting at once, and with a rival there."""
    opened(maker, urns_of(1), 20 * WAD)
    net.give("DAI", Cast.RIVAL, 10**6 * WAD)
    net.send(Cast.RIVAL, maker.dai, "approve(address,uint256)", [maker.auctioneer, MAX_UINT256])
    found = []
    for survival in (0, 80):
        before = net.snapshot()
        found.append(await taken(maker, tmp_path / str(survival), survival))
        net.revert(before)
    at_once, waited = found
    assert 0 < at_once[0] < waited[0]
    assert 0 < at_once[1] < waited[1]
    # A rival that takes one price after the first that pays leaves nothing to who waits for the most.
    assert await taken(maker, tmp_path / "late", 100, at_once[1] + 90) == (0, 0)


async def test_what_ended_is_started_anew_and_numbers_of_two_clippers_are_apart(
    net: Devnet, maker: Maker, tmp_path: Path
) -> None:
    other = deploy_maker(net, price_of(net))
    (owner,) = urns_of(1)
    for each in (maker, other):
        opened(each, [owner], 20 * WAD)
        started(each, owner)
    names = {maker.name_of(1), other.name_of(1)}
    assert len(names) == 2
    net.mine(seconds=8_401)
    async with playing_maker({"one": maker, "two": other}, tmp_path, **SLIPPAGE) as play:
        await play.stage.mine(2)
        play.assert_taken(names)
        assert all(
            not auction_of(each, 1).needs_redo(net.chain.timestamp()) for each in (maker, other)
        )
        assert 200 < play.tally.net_usd / 10**8 < 300
        await until(play, lambda: not maker.running() and not other.running())
        assert play.count().liquidations == 4
        assert_clean(play.tally)
        assert await play.audit() == []


async def test_a_redo_without_reward_and_a_stopped_clipper_are_reasons(
    net: Devnet, maker: Maker, tmp_path: Path
) -> None:
    owners = urns_of(2)
    opened(maker, owners, 6 * WAD)
    started(maker, owners[0])
    net.send(Cast.DEPLOYER, maker.clip, "set_incentives(uint256,uint256)", [0, 0])
    net.mine(seconds=8_401)
    async with playing_maker({"clip": maker}, tmp_path) as play:
        await play.stage.mine(1)
        assert play.reasons([owners[1], maker.name_of(1)]) == {Reason.UNPROFITABLE}
        await play.stage.step(lambda: net.send(Cast.DEPLOYER, maker.clip, "stop(uint256)", [3]))
        await play.stage.mine(1)
        assert play.reasons([owners[1], maker.name_of(1)]) == {Reason.PAUSED}
        assert play.tally.transactions == 0


async def test_what_is_no_clipper_is_one_line(net: Devnet, maker: Maker) -> None:
    other = deploy_maker(net, price_of(net))
    reader = ChainReader(DirectRpc(net))
    astray = Address(b"\xa5" * 20)
    code = await reader.code(maker.auctioneer, (await reader.head()).hash)
    clip, dog = (code[-7 * 32 :][32 * place :][:32] for place in (0, 1))
    assert clip == dog == maker.clip.rjust(32, b"\0")
    moved = code[: -6 * 32] + maker.vat.rjust(32, b"\0") + code[-5 * 32 :]
    net.rpc("anvil_setCode", to_hex(astray), "0x" + moved.hex())
    net.mine()
    head = await reader.head()
    wrong = [
        ("clip", net.market.pool, "is no Clipper"),
        ("clip", maker.vat, "is no Clipper"),
        ("auctioneer", maker.gem_join, "is not this keeper's"),
        ("auctioneer", other.auctioneer, "is of the Clipper"),
        ("auctioneer", astray, "calls the Dog"),
    ]
    for key, address, why in wrong:
        config = config_of(maker, **{key: to_hex(address)})
        with pytest.raises(ConfigError, match=why) as told:
            await MakerClip.discover(reader, "clip", config, head)
        assert "\n" not in str(told.value)


async def test_an_auctioneer_hands_nobody_what_is_not_theirs(net: Devnet, maker: Maker) -> None:
    """The Vat's consent is given to the Clipper and the dollar's join alone, and nobody else calls back."""
    for who, given in ((maker.clip, 1), (maker.dollar_join, 1), (Cast.RIVAL, 0)):
        asked = net.call(maker.vat, "can(address,address)", [maker.auctioneer, who])
        assert asked == given
    args = [maker.auctioneer, 1, 1, b"\x01"]
    call = "clipperCall(address,uint256,uint256,bytes)"
    for who in (Cast.RIVAL, maker.clip):
        assert not net.send(who, maker.auctioneer, call, args, check=False).ok
    words = [maker.vat, b"X" * 32, maker.weth]
    strange = net.deploy(code("gem_join_stand_in", ["address", "bytes32", "address"], words))
    made = auctioneer().creation_code(maker.clip, Address(strange), maker.dollar_join)
    with pytest.raises(RevertedError, match="another collateral"):
        net.deploy(made)
