"""Follow mUSD on the local chain by its logs alone, and ask its contracts the same."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.musd import Musd
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.protocols.liquity_v1 import LiquityV1
from keeper.protocols.liquity_v1.ledger import Ledger, Whole
from keeper.protocols.liquity_v1.market import LIQUIDATE
from keeper.types import Head, NextBlock, Position, Prices, Undo
from keeper.units import WAD, Address, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc
from tests.line import Play
from tests.uniswap import CREATE, FAR_FUTURE, MINT

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


def open_pool(net: Devnet, musd: Musd, whale: bytes, price: int, depth: int) -> bytes:
    """Open a pool of mUSD and WETH (0.05 %) at a price of 18 decimals, `depth` whole mUSD a side."""
    weth, manager = net.tokens["WETH"].address, net.uniswap.position_manager
    amounts = {musd.token: depth * WAD, weth: depth * WAD * WAD // price}
    net.send(whale, weth, "deposit()", value=amounts[weth])
    for token in amounts:
        net.send(whale, token, "approve(address,uint256)", [manager, 2**256 - 1])
    first, second = sorted(amounts)
    worth = {musd.token: WAD, weth: price}
    root = isqrt((worth[first] << 192) // worth[second])
    net.send(whale, manager, CREATE, [first, second, 500, root], gas=8_000_000)
    entry = (first, second, 500, -887_270, 887_270, amounts[first], amounts[second], 0, 0)
    net.send(whale, manager, MINT, [(*entry, whale, FAR_FUTURE)], gas=8_000_000)
    pool = net.call(
        net.uniswap.factory, "getPool(address,address,uint24)", [first, second, 500], ["address"]
    )
    return bytes.fromhex(pool[2:])


@asynccontextmanager
async def playing_musd(net: Devnet, musd: Musd, home: Path, **settings: Any) -> AsyncIterator[Play]:
    """Run a keeper that watches mUSD beside Aave, with all it needs allowed."""
    operator = deploy_operator(net)
    net.send(
        operator.owner,
        operator.contract,
        "allow(address,bytes4,address)",
        [musd.manager, LIQUIDATE, musd.manager],
    )
    table = f"""
[chains.devnet.markets.musd]
protocol = "liquity-v1"
trove_manager = "{to_hex(musd.manager)}"
wrapped = "{to_hex(net.tokens["WETH"].address)}"
"""
    path = write_settings(net, operator, home, extra=table, **settings)
    async with staged(net, load([path]).settings, live=True) as stage:
        yield Play(stage)
