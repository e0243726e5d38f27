"""Follow a market of the local chain by its logs alone, as the listener and the book do."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.types import Drift, Head, Log, NextBlock, Position, Prices, Skip, Undo, Watch
from keeper.units import Address, Hash, to_hex

BLOCK_SECONDS = 12
T = TypeVar("T")


class DirectRpc:
    """Hand the chain's blocking connection to what awaits one."""

    def __init__(self, net: Devnet) -> None:
        self._net = net

    async def request(self, method: str, params: Sequence[object]) -> Any:
        return self._net.rpc(method, *params)


@dataclass
class Block:
    """One followed block: its head, its logs and what takes them back."""

    head: Head
    logs: list[Log]
    undos: list[Undo]


async def found(reader: ChainReader, pool: Address, head: Head, market: str = "main") -> AaveV3:
    """Find a market by its pool."""
    return await AaveV3.discover(reader, market, AaveV3.Config(pool=to_hex(pool)), head)


class Following:
    """One market, loaded at a head and then kept by folding each block's logs."""

    def __init__(self, net: Devnet, pool: bytes, *, from_genesis: bool = False) -> None:
        self.net = net
        self.reader = ChainReader(DirectRpc(net))
        self.head = self.run(self.reader.head())
        self.market = self.run(found(self.reader, Address(pool), self.head))
        self.prices = Prices("main", 1, {})
        self.blocks: list[Block] = []
        if from_genesis:
            self.head = self.run(self.reader.head(0))
            self.follow()
            return
        self.run(self.market.bootstrap(self.reader, self.head))
        self.run(self.market.oracle.bootstrap(self.reader, self.head))
        self.observe()

    @property
    def ledger(self) -> Ledger:
        return self.market._ledger

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def follow(self) -> list[Log]:
        """Fold every block up to the chain's head and read its prices; return the logs folded."""
        number = self.net.chain.block_number()
        folded: list[Log] = []
        while self.head.number < number:
            self.head = self.run(self.reader.head(self.head.number + 1))
            logs, watch = self.logs(self.head.hash), self.watch()
            undos = self.fold(logs)
            while (wider := self.watch()) != watch:
                self.take_back(undos)
                logs, watch = self.logs(self.head.hash, wider), wider
                undos = self.fold(logs)
            self.blocks.append(Block(self.head, logs, undos))
            folded.extend(logs)
        self.observe()
        return folded

    def watch(self) -> tuple[Watch, Watch]:
        return self.market.watch(), self.market.oracle.watch()

    def logs(self, block: Hash, watches: Sequence[Watch] = ()) -> list[Log]:
        watches = watches or self.watch()
        addresses = frozenset().union(*(watch.addresses for watch in watches))
        topics = frozenset().union(*(watch.topics for watch in watches))
        query = {
            "blockHash": "0x" + block.hex(),
            "address": ["0x" + address.hex() for address in addresses],
            "topics": [["0x" + topic.hex() for topic in topics]],
        }
        entries = self.net.rpc("eth_getLogs", query)
        return [log.at(self.head.timestamp) for log in parse.logs(entries)]

    def fold(self, logs: Sequence[Log]) -> list[Undo]:
        undos = []
        for log in logs:
            for source in (self.market, self.market.oracle):
                undo = source.fold(log)
                if undo is not None:
                    undos.append(undo)
        return undos

    def take_back(self, undos: Sequence[Undo]) -> None:
        for undo in reversed(undos):
            undo()

    def observe(self) -> None:
        """Read prices and the market's own reads at the head, as every head does."""
        calls, own = self.market.oracle.calls(), self.market.calls()
        results = self.run(self.reader.multicall([*calls, *own], self.head.hash))
        self.prices = self.market.oracle.prices(results[: len(calls)], self.head)
        self.market.observe(results[len(calls) :], self.head)

    def at(self, seconds: int = 0) -> NextBlock:
        """Return a block that many seconds after the head."""
        return replace(self.head.next_block(BLOCK_SECONDS), timestamp=self.head.timestamp + seconds)

    def pairs(self, borrower: bytes) -> tuple[list[AaveTerms], list[Skip]]:
        """Return what may be liquidated in the next block, and what may not."""
        position = self.position(borrower, BLOCK_SECONDS)
        pairs, skips = self.market.pairs(position, self.prices, self.at(BLOCK_SECONDS))
        return list(pairs), list(skips)

    def position(self, borrower: bytes, seconds: int = 0) -> Position:
        position = self.market.position(Address(borrower), self.prices, self.at(seconds))
        assert position is not None
        return position

    def drifts(self) -> list[Drift]:
        """Compare every reserve and every holder with the chain."""
        holders = len(self.ledger.accounts)
        return self.run(self.market.audit(self.reader, self.head, 2 * holders, 0))


def state(ledger: Ledger) -> dict[str, object]:
    """Return all that folding keeps, without what each head reads anew; a copy."""
    return {
        "reserves": {
            number: replace(reserve, virtual_balance=None, cash=None, token=None)
            for number, reserve in ledger.reserves.items()
        },
        "accounts": {holder: ledger.accounts.get(holder) for holder in ledger.accounts},
        "stable": dict(ledger.stable),
        "categories": dict(ledger.categories),
        "borrowers": ledger.borrowers,
        "premium": ledger.flash_premium,
        "sentinel": ledger.sentinel,
        "stopped": ledger.stopped,
    }
