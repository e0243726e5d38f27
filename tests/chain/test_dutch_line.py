"""A whole keeper and one auction of the stand-in: watched from its start, taken at its moment."""

from functools import partial
from pathlib import Path

import pytest

from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Cast, Devnet
from keeper.devnet.operator import write_settings
from keeper.errors import ConfigError
from keeper.protocols.maker_clip import MakerClip
from keeper.types import Reason
from keeper.units import RAY, WAD, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc
from tests.line import Play, assert_clean
from tests.maker import BARK, ILK, Maker, deploy_maker

pytestmark = pytest.mark.chain

URN = b"\x0b" * 20


@pytest.fixture
def maker(net: Devnet) -> Maker:
    """One unsafe urn: 60 WETH for two thirds of their price."""
    price = net.price("WETH") * RAY // 10**8
    made = deploy_maker(net, price)
    made.run(made.hoping())
    made.open_urn(URN, 60 * WAD, 60 * price // RAY * WAD * 66 // 100)
    made.poke(price * 96 // 100)
    return made


def market(maker: Maker, survival: int) -> str:
    """Return the table of the stand-in's auctions."""
    return f"""
[chains.devnet.markets.clip]
protocol = "maker-clip"
clip = "{to_hex(maker.address)}"
vat = "{to_hex(maker.address)}"
callee = "{to_hex(maker.callee)}"
data = ["{to_hex(maker.operator.contract)}"]
collateral = "{to_hex(maker.weth)}"
debt = "{to_hex(maker.dai)}"
feed = "{to_hex(maker.net.tokens["WETH"].feed)}"
survival_percent = {survival}
slippage_bps = 250
"""


async def taken(net: Devnet, maker: Maker, home: Path, survival: int) -> tuple[float, int]:
    """Return what a keeper nets and how long after the start it took; it sees every price."""
    path = write_settings(net, maker.operator, home, extra=market(maker, survival))
    async with staged(net, load([path]).settings, live=True) as stage:
        play = Play(stage)
        rival = Cast.RIVAL
        await stage.step(lambda: net.send(rival, maker.address, BARK, [ILK, URN, rival]))
        tic = maker.auction(1).tic
        who = (1).to_bytes(20, "big")
        for _ in range(200):
            # Above the feed's price nobody looks, and nothing is on its way.
            seconds = BLOCK_SECONDS if play.count().seen else 84
            await stage.step(partial(net.mine, seconds=seconds))
            if who in play.count().liquidated:
                break
            refused = play.tally.refused.get(who)
            assert refused is None or refused.reason is Reason.UNPROFITABLE
        play.assert_taken([who])
        assert_clean(play.tally)
        assert await play.audit() == []
        return play.tally.net_usd, net.chain.timestamp() - tic


async def test_an_auction_is_taken_at_its_moment(net: Devnet, maker: Maker, tmp_path: Path) -> None:
    before = net.snapshot()
    at_once = await taken(net, maker, tmp_path / "once", 0)
    net.revert(before)
    waited = await taken(net, maker, tmp_path / "waited", 80)
    assert 0 < at_once[0] < waited[0]
    assert at_once[1] < waited[1]


async def test_what_is_no_clipper_is_one_line(net: Devnet, maker: Maker) -> None:
    reader = ChainReader(DirectRpc(net))
    head = await reader.head()
    known = {
        "clip": to_hex(maker.address),
        "vat": to_hex(maker.address),
        "callee": to_hex(maker.callee),
        "data": (to_hex(maker.operator.contract),),
        "collateral": to_hex(maker.weth),
        "debt": to_hex(maker.dai),
        "feed": to_hex(net.tokens["WETH"].feed),
    }
    wrong = {
        "clip": (net.market.pool, "is no Clipper"),
        "collateral": (maker.callee, "is no token"),
        "debt": (net.tokens["USDC"].address, "need 18 decimals"),
    }
    for key, (address, why) in wrong.items():
        config = MakerClip.Config(**known | {key: to_hex(address)})
        with pytest.raises(ConfigError, match=why) as told:
            await MakerClip.discover(reader, "clip", config, head)
        assert "\n" not in str(told.value)
