"""Follow the auctions' stand-ins by their logs, and run a keeper on them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.maker import Maker
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.protocols.maker_clip import MakerClip
from keeper.protocols.maker_clip.dutch import Auction, Stairstep
from keeper.protocols.maker_clip.ledger import Ledger
from keeper.protocols.maker_clip.market import CALLS
from keeper.types import Head, NextBlock, Prices, Undo
from keeper.units import RAY, Address, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc
from tests.line import Play

T = TypeVar("T")


def price_of(net: Devnet) -> int:
    """Return the collateral's price at its feed, in ray."""
    return net.price("WETH") * RAY // 10**8


def config_of(maker: Maker, **more: Any) -> MakerClip.Config:
    """Return the settings of the stand-ins' auctions."""
    known = {
        "clip": to_hex(maker.clip),
        "auctioneer": to_hex(maker.auctioneer),
        "feed": to_hex(maker.net.tokens["WETH"].feed),
    }
    return MakerClip.Config(**known | more)


def auction_of(maker: Maker, number: int) -> Auction:
    """Return an auction as the contracts hold it."""
    ask = maker.net.call
    words = ["uint256", "uint256", "uint256", "address", "uint256", "uint256"]
    _, tab, lot, _, tic, top = ask(maker.clip, "sales(uint256)", [number], words)
    cut, step = (ask(maker.calculator, name) for name in ("cut()", "step()"))
    tail, cusp, chost = (ask(maker.clip, name) for name in ("tail()", "cusp()", "chost()"))
    return Auction(lot, tab, tic, top, Stairstep(cut, step), tail, cusp, chost)


class ClipFollowing:
    """One Clipper, loaded at a head and then kept by folding each block's logs."""

    def __init__(self, maker: Maker, **config: Any) -> None:
        self.maker, self.net = maker, maker.net
        self.reader = ChainReader(DirectRpc(maker.net))
        self.head: Head = self.run(self.reader.head())
        settings = config_of(maker, **config)
        self.market = self.run(MakerClip.discover(self.reader, "clip", settings, self.head))
        self.run(self.market.bootstrap(self.reader, self.head))
        self.prices = Prices("clip", 1, {})
        self.undos: list[Undo] = []
        self.observe()

    @property
    def ledger(self) -> Ledger:
        return self.market._ledger

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def follow(self) -> None:
        """Fold every block up to the chain's head."""
        number = self.net.chain.block_number()
        while self.head.number < number:
            self.head = self.run(self.reader.head(self.head.number + 1))
            watch = self.market.watch()
            query = {
                "blockHash": to_hex(self.head.hash),
                "address": [to_hex(address) for address in watch.addresses],
                "topics": [["0x" + topic.hex() for topic in watch.topics]],
            }
            for log in parse.logs(self.net.rpc("eth_getLogs", query)):
                undo = self.market.fold(log.at(self.head.timestamp))
                if undo is not None:
                    self.undos.append(undo)
        self.observe()

    def observe(self) -> None:
        calls, own = self.market.oracle.calls(), self.market.calls()
        results = self.run(self.reader.multicall([*calls, *own], self.head.hash))
        self.prices = self.market.oracle.prices(results[: len(calls)], self.head)
        self.market.observe(results[len(calls) :], self.head)

    def take_back(self) -> None:
        """Undo every fold."""
        while self.undos:
            self.undos.pop()()

    def next(self) -> NextBlock:
        return self.head.next_block(BLOCK_SECONDS)


def allow_auctioneer(net: Devnet, operator: Operator, auctioneer: Address) -> None:
    """Allow the calls of an auctioneer, as the owner."""
    for selector in CALLS.values():
        args = [auctioneer, selector, auctioneer]
        net.send(operator.owner, operator.contract, "allow(address,bytes4,address)", args)


@asynccontextmanager
async def playing_maker(
    makers: dict[str, Maker], home: Path, *, minimum_profit_usd: int = 5, **settings: object
) -> AsyncIterator[Play]:
    """Run a keeper that watches auctions beside Aave, with all it needs allowed."""
    net = next(iter(makers.values())).net
    operator = deploy_operator(net)
    for maker in makers.values():
        allow_auctioneer(net, operator, maker.auctioneer)
    tables = "".join(maker.table(name, **settings) for name, maker in makers.items())
    path = write_settings(net, operator, home, extra=tables, minimum_profit_usd=minimum_profit_usd)
    async with staged(net, load([path]).settings, live=True) as stage:
        yield Play(stage)
