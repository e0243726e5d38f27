"""A venue as it comes out of a snapshot, and the look for new pools that follows a start."""

import asyncio

from keeper.book.book import Book
from keeper.book.widen import Widener
from keeper.chain.blocks import Blocks
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.ports import Venue
from keeper.types import Token
from keeper.units import Address
from tests.uniswap import DirectRpc


async def search(net: Devnet, venue: Venue) -> Book:
    """Let a book of one venue start from a snapshot, wait for the look, and return the book."""
    reader, blocks = ChainReader(DirectRpc(net)), Blocks(DirectRpc(net))
    weth = Token(Address(net.tokens["WETH"].address), "WETH", 18)
    book = Book("devnet", [], [venue], weth)
    book.stand_at(await reader.head())
    looked = asyncio.Event()
    errors: list[Exception] = []

    def failed(_part: str, error: Exception, _pause: float | None) -> None:
        errors.append(error)
        looked.set()

    widener = Widener(book, reader, blocks, lambda *_: looked.set(), failed)
    widener.search()
    running = asyncio.create_task(widener.run())
    async with asyncio.timeout(20):
        await looked.wait()
    assert errors == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return book
