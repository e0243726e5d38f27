"""Follow mUSD on the local chain by its logs alone, and ask its contracts the same."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.musd import Musd
from keeper.protocols.liquity_v1 import LiquityV1
from keeper.protocols.liquity_v1.ledger import Ledger, Whole
from keeper.types import Head, NextBlock, Position, Prices, Undo
from keeper.units import Address, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc

T = TypeVar("T")


def owner(number: int) -> bytes:
    """Return an address that owns nothing yet."""
    return (0xA11CE << 64 | number).to_bytes(20, "big")


class MusdFollowing:
    """One system, loaded at a head and then kept by folding each block's logs."""

    def __init__(self, net: Devnet, musd: Musd) -> None:
        self.net, self.musd = net, musd
        self.reader = ChainReader(DirectRpc(net))
        self.head: Head = self.run(self.reader.head())
        config = LiquityV1.Config(
            trove_manager=to_hex(musd.manager), wrapped=to_hex(net.tokens["WETH"].address)
        )
        self.market = self.run(LiquityV1.discover(self.reader, "musd", config, self.head))
        self.run(self.market.bootstrap(self.reader, self.head))
        self.prices = Prices("musd", 1, {})
        self.blocks: list[list[Undo]] = []
        self.observe()

    @property
    def ledger(self) -> Ledger:
        return self.market._ledger

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def follow(self) -> int:
        """Fold every block up to the chain's head; return how many logs changed something."""
        number, folded = self.net.chain.block_number(), 0
        while self.head.number < number:
            self.head = self.run(self.reader.head(self.head.number + 1))
            watch = self.market.watch()
            query = {
                "blockHash": "0x" + self.head.hash.hex(),
                "address": ["0x" + address.hex() for address in watch.addresses],
                "topics": [["0x" + topic.hex() for topic in watch.topics]],
            }
            logs = [
                log.at(self.head.timestamp)
                for log in parse.logs(self.net.rpc("eth_getLogs", query))
            ]
            undos = [undo for log in logs if (undo := self.market.fold(log)) is not None]
            self.blocks.append(undos)
            folded += len(undos)
        self.observe()
        return folded

    def take_back(self) -> None:
        """Undo every block that was followed."""
        for undos in reversed(self.blocks):
            for undo in reversed(undos):
                undo()
        self.blocks.clear()

    def observe(self) -> None:
        calls, own = self.market.oracle.calls(), self.market.calls()
        results = self.run(self.reader.multicall([*calls, *own], self.head.hash))
        self.prices = self.market.oracle.prices(results[: len(calls)], self.head)
        self.market.observe(results[len(calls) :], self.head)

    def now(self) -> NextBlock:
        """Return the head itself as the block judged: what views say there is then exact."""
        return NextBlock(self.head.number, self.head.timestamp, self.head.base_fee)

    def next(self) -> NextBlock:
        return self.head.next_block(BLOCK_SECONDS)

    def position(self, borrower: bytes, at: NextBlock | None = None) -> Position | None:
        return self.market.position(Address(borrower), self.prices, at or self.now())

    def held(self, borrower: bytes) -> Whole:
        trove = self.ledger.troves[Address(borrower)]
        return self.ledger.whole(trove, self.head.timestamp)

    def told(self, borrower: bytes) -> Whole:
        """Return what getEntireDebtAndColl says of a trove at the head."""
        words = self.net.call(
            self.musd.manager, "getEntireDebtAndColl(address)", [borrower], ["uint256"] * 6
        )
        return Whole(*words[:3])
