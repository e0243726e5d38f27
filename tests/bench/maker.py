"""Maker's auctions, as stand-ins: screen and fold figures, and gas beside a bare bark and take."""

import asyncio
import random
import tempfile
from pathlib import Path

from keeper.chain.words import word
from keeper.devnet import Cast, Devnet
from keeper.devnet.maker import BARK, ILK, Maker, deploy_maker
from keeper.protocols.maker_clip import MakerClip
from keeper.protocols.maker_clip.bootstrap import Deployment
from keeper.protocols.maker_clip.feed import collateral_feed
from keeper.protocols.maker_clip.ledger import Kind, Sale, Urn
from keeper.protocols.maker_clip.notes import FROB
from keeper.protocols.maker_clip.rules import Contracts
from keeper.types import Log, NextBlock, Prices, Token
from keeper.units import RAY, WAD, Address, Hash, Wei, to_hex
from tests.bench.market import folded_us, screened_ms
from tests.chain.test_dutch_line import SLIPPAGE, opened, until, urns_of
from tests.maker import playing_maker, price_of

URNS = 20_000
AUCTIONS = 60
LOGS = 20_000
START = 1_700_000_000
AT = NextBlock(2, START + 12, Wei(1))
CLIP, DOG, VAT, AUCTIONEER, CALCULATOR, FEED, COIN, DAI = (
    Address(bytes([number]) * 20) for number in range(1, 9)
)
INK = 5 * WAD


def crowded() -> tuple[MakerClip, Prices]:
    """Return auctions and a crowd of urns at a health of 1.05 to 2, and their prices."""
    draw = random.Random(1)
    contracts = Contracts(CLIP, DOG, VAT, AUCTIONEER, ILK)
    tokens = Token(COIN, "WETH", 18), Token(DAI, "DAI", 18)
    config = MakerClip.Config(clip=to_hex(CLIP), auctioneer=to_hex(AUCTIONEER), feed=to_hex(FEED))
    feed = collateral_feed("maker", FEED, COIN, DAI)
    market = MakerClip("maker", config, Deployment(contracts, CALCULATOR, *tokens), feed)
    ledger = market._ledger
    ledger.kind = Kind(RAY, 2_500 * RAY * 10 // 15, 0)
    for each in range(URNS):
        owed = draw.randrange(8_000, 90_000)
        held = round(owed * 1.5 / 2_500 * draw.uniform(1.05, 2) * 10**6) * 10**12
        ledger.urns[Address(word(1 << 80 | each)[12:])] = Urn(held, owed * WAD)
    for number in range(1, AUCTIONS + 1):
        ledger.sales[number] = Sale(9_000 * WAD * RAY, 5 * WAD, START, 3_000 * RAY)
    return market, Prices("maker", WAD, {COIN: 2_500 * WAD, DAI: WAD})


def noted(market: MakerClip) -> list[Log]:
    """Return the Vat's notes of owners who put more collateral in."""
    draw, owners = random.Random(2), list(market._ledger.urns)
    logs = []
    for index in range(LOGS):
        who = word(draw.choice(owners))
        calldata = FROB[:4] + ILK + who * 3 + word(10**15) + word(0)
        data = word(32) + word(224) + calldata.ljust(224, b"\0")
        topics = (FROB, ILK, who, who)
        logs.append(Log(VAT, topics, data, 1, Hash(bytes(32)), index, timestamp=START))
    return logs


def figures(net: Devnet) -> dict[str, float]:
    """Print screen, fold and gas figures; return them."""
    market, prices = crowded()
    screen = sum(screened_ms(market, prices, AT))
    fold = folded_us(market, noted(market))
    print(
        f"maker: {URNS:,} urns, {AUCTIONS} auctions: pass {screen:.2f} ms; fold {fold:.2f} us a log"
    )
    return {"maker_pass_ms": screen, "maker_fold_us": fold} | gas(net)


def gas(net: Devnet) -> dict[str, float]:
    """Print the gas of starting and of taking an auction at 1 and 20, and bare; return it."""
    found: dict[str, float] = {}
    before = net.snapshot()
    found["maker_gas_bark_bare"], found["maker_gas_take_bare"] = bare(net)
    net.revert(before)
    for count in (1, 20):
        before = net.snapshot()
        barks, takes = asyncio.run(kept(net, count))
        found |= {f"maker_gas_bark_{count}": barks, f"maker_gas_take_{count}": takes}
        net.revert(before)
    print(*(f"{name}: {value:,.0f}" for name, value in found.items()), sep="\n")
    return found


def fallen(net: Devnet, count: int) -> Maker:
    """Return the stand-ins with urns that one fall of the price takes under."""
    maker = deploy_maker(net, price_of(net))
    opened(maker, urns_of(count), INK)
    return maker


def bare(net: Devnet) -> tuple[int, int]:
    """Return the gas of Dog.bark, and of a take from a wallet that has the dollars (no sale)."""
    maker = fallen(net, 1)
    maker.poke(price_of(net) * 96 // 100)
    (owner,) = urns_of(1)
    bark = net.send(Cast.RIVAL, maker.clip, BARK, [ILK, owner, Cast.RIVAL])
    net.mine(1, 90 * 30)
    approval = [maker.auctioneer, 2**256 - 1]
    net.send(Cast.RIVAL, maker.dai, "approve(address,uint256)", approval)
    args = [int.from_bytes(maker.name_of(1), "big"), 10**6 * WAD]
    take = net.send(Cast.RIVAL, maker.auctioneer, "take(uint256,uint256)", args)
    return bark.gas_used, take.gas_used


async def kept(net: Devnet, count: int) -> tuple[float, float]:
    """Return the gas of each bark and of each take through the keeper."""
    maker = fallen(net, count)
    with tempfile.TemporaryDirectory() as home:
        async with playing_maker({"maker": maker}, Path(home), **SLIPPAGE) as play:
            await play.stage.step(lambda: maker.poke(price_of(net) * 96 // 100))
            await play.stage.mine(2)
            started = play.count().gas
            if play.tally.liquidations != count:
                raise RuntimeError(f"{play.tally.liquidations} of {count} auctions were started")
            await until(play, lambda: not maker.running())
            await play.stage.mine(2)
            return started / count, (play.count().gas - started) / count


if __name__ == "__main__":
    with Devnet.start() as chain:
        figures(chain)
