"""A venue takes in the pools of a token listed at run time, exact under trades and undone with blocks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.book.rejoin import rebuild
from keeper.book.widen import Widener, widen
from keeper.chain.assembler import Assembler
from keeper.chain.blocks import Blocks
from keeper.chain.ranges import LogRanges
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.errors import TransientError
from keeper.types import Call, CallResult, Token
from keeper.units import Address, Hash
from keeper.venues.uniswap_v3 import UniswapV3
from tests.uniswap import FEES, DirectRpc, Traders

PART = "venue/uniswap"


class Scene(ChainReader):
    """A book of one exchange for two tokens; whoever reads through it sees trades go on."""

    def __init__(self, net: Devnet, seed: int) -> None:
        self.rpc = DirectRpc(net)
        super().__init__(self.rpc)
        self.net, self.traders = net, Traders(net, seed)
        self.every = {Address(token.address) for token in net.tokens.values()}
        pair = [Address(net.tokens[symbol].address) for symbol in ("WETH", "USDC")]
        self.factory = Address(net.uniswap.factory)
        self.venue = UniswapV3("uniswap", self.factory, pair, FEES)
        self.book = Book("devnet", [], [self.venue], Token(pair[0], "WETH", 18))
        self.blocks = Blocks(self.rpc)
        self.assembler = Assembler("devnet", self.blocks, LogRanges(self.rpc), self.book)
        self.trades = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def load(self) -> None:
        head = await self.head()
        await self.venue.bootstrap(self, head)
        self.book.stand_at(head)

    async def follow(self) -> None:
        await self.assembler.advance(await self.blocks.latest())

    async def multicall(self, calls: Sequence[Call], block: Hash | None = None) -> list[CallResult]:
        answer = await super().multicall(calls, block)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        for _ in range(self.trades):
            self.traders.step()
            await self.follow()
        return answer

    async def assert_true(self) -> None:
        head = self.book.head
        assert head is not None
        fresh = UniswapV3("uniswap", self.factory, self.every, FEES)
        await fresh.bootstrap(ChainReader(self.rpc), head)
        assert self.venue.pools == fresh.pools
        assert self.venue.watch() == fresh.watch()
        for token in self.every:
            assert set(self.venue.hops(token)) == set(fresh.hops(token))


async def test_new_tokens_are_traded_while_and_after_they_are_loaded(net: Devnet) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    scene = Scene(net, seed)
    await scene.load()
    scene.traders.step()
    await scene.follow()
    before = len(scene.venue.pools)
    scene.trades = 1
    loaded = await widen(scene.book, PART, scene.every, scene, scene.blocks)
    scene.trades = 0
    assert scene.venue.tokens == scene.every
    assert len(scene.venue.pools) > before
    await scene.assert_true()
    for _ in range(2):
        scene.traders.step()
    scene.traders.create("DAI", "WBTC", 100)
    await scene.follow()
    await scene.assert_true()
    head = scene.book.head
    while head is not None and head.number > loaded.number:
        scene.book.undo()
        head = scene.book.head
        await scene.assert_true()
    assert not scene.book.parts.faults
    scene.book.undo()
    assert set(scene.book.parts.faults) == {PART}


@pytest.mark.parametrize("event", ["stopped and rebuilt", "undone", "whole book rebuilt"])
async def test_what_happens_to_the_venue_meanwhile_leads_to_another_try(
    net: Devnet, event: str
) -> None:
    scene = Scene(net, 7)
    scene.traders.step()
    await scene.load()
    scene.traders.step()
    await scene.follow()
    held = set(scene.venue.pools)

    async def meanwhile() -> None:
        head = scene.book.head
        assert head is not None
        match event:
            case "undone":
                scene.book.undo()
            case "whole book rebuilt":
                scene.book.abandon()
                scene.book.stand_at(head)
            case _:
                scene.book.parts.stop(PART, Fault(FaultKind.DRIFT, "planted", head.number))
                await rebuild(scene.book, PART, scene, scene.blocks)
                assert scene.book.trust(PART)

    scene.meanwhile = meanwhile
    with pytest.raises(TransientError):
        await widen(scene.book, PART, scene.every, scene, scene.blocks)
    assert not scene.book.parts.faults
    assert set(scene.venue.pools) == held
    await scene.follow()
    await widen(scene.book, PART, scene.every, scene, scene.blocks)
    await scene.assert_true()


async def test_a_listing_is_seen_and_a_failed_read_is_tried_again(net: Devnet) -> None:
    scene = Scene(net, 8)
    await scene.load()
    told: list[object] = []
    widener = Widener(
        scene.book,
        scene,
        scene.blocks,
        lambda part, tokens, _: told.append((part, len(tokens))),
        lambda part, error, pause: told.append((part, str(error))),
        first_pause=0.001,
    )
    widener.look()
    listed = {each: Token(each, "", 18) for each in scene.every}
    scene.book.tokens = lambda: listed  # type: ignore[method-assign]

    async def meanwhile() -> None:
        raise TransientError("no endpoint answers")

    scene.meanwhile = meanwhile
    running = asyncio.create_task(widener.run())
    async with asyncio.timeout(20):
        while len(told) < 2:
            widener.look()
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert told == [(PART, "no endpoint answers"), (PART, len(scene.every) - 2)]
    await scene.assert_true()


async def test_a_snapshot_from_before_a_listing_is_widened_not_refused(net: Devnet) -> None:
    scene = Scene(net, 9)
    await scene.load()
    pages = list(scene.venue.snapshot()())
    scene.venue.tokens = frozenset(scene.every)
    scene.venue.restore(pages)
    assert len(scene.venue.tokens) == 2
    await widen(scene.book, PART, scene.every, scene, scene.blocks)
    await scene.assert_true()
    later = UniswapV3("uniswap", scene.factory, [], FEES)
    later.restore(scene.venue.snapshot()())
    assert (later.tokens, later.pools) == (scene.venue.tokens, scene.venue.pools)
