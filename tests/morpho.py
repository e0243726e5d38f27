"""Follow a Morpho deployment of the local chain by its logs alone, as the listener and the book do."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.morpho import Morpho, MorphoMarket, deploy_morpho
from keeper.protocols.morpho_blue import MorphoBlue
from keeper.protocols.morpho_blue.accounts import key_of
from keeper.protocols.morpho_blue.ledger import Ledger
from keeper.types import Drift, Head, Log, NextBlock, Position, Prices, Undo
from keeper.units import Address, Hash, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc

T = TypeVar("T")
WAD = 10**18
LLTV = 86 * 10**16


def deployed(net: Devnet, lltv: int = LLTV, *, price: bool = True) -> tuple[Morpho, MorphoMarket]:
    """Return Morpho with USDC lent against WETH, priced as the chain's oracle does."""
    morpho = deploy_morpho(net.chain)
    market = morpho.market(net.tokens["USDC"], net.tokens["WETH"], lltv)
    if price:
        morpho.set_price(market, market.quotient(net.price("WETH"), net.price("USDC")))
    morpho.supply(market, 50_000_000 * 10**6)
    return morpho, market


def configured(net: Devnet, deployment: Morpho, **more: Any) -> MorphoBlue.Config:
    """Return the settings of a deployment that takes dollars from the chain's Aave oracle."""
    options = {"morpho": to_hex(deployment.address), "prices": to_hex(net.market.oracle), **more}
    return MorphoBlue.Config.model_validate(options)


class MorphoFollowing:
    """A deployment loaded at a head and then kept by folding each block's logs."""

    def __init__(
        self, net: Devnet, morpho: Morpho, *, from_start: bool = False, **more: Any
    ) -> None:
        self.net, self.morpho = net, morpho
        self.reader = ChainReader(DirectRpc(net))
        self.head = self.run(self.reader.head())
        config = configured(net, morpho, **more)
        self.market = self.run(MorphoBlue.discover(self.reader, "morpho", config, self.head))
        self.prices = Prices("morpho", 1, {})
        self.blocks: list[tuple[Head, list[Log], list[Undo]]] = []
        if from_start:
            self.head = self.run(self.reader.head(0))
            self.run(self.market.oracle.bootstrap(self.reader, self.head_now()))
            self.follow()
            return
        self.run(self.market.bootstrap(self.reader, self.head))
        self.run(self.market.oracle.bootstrap(self.reader, self.head))
        self.observe()

    @staticmethod
    def connect(net: Devnet) -> ChainReader:
        return ChainReader(DirectRpc(net))

    def head_now(self) -> Head:
        return self.run(self.reader.head())

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
            watch = self.market.watch()
            logs = self.logs(self.head.hash)
            undos = self.fold(logs)
            while (wider := self.market.watch()) != watch:
                for undo in reversed(undos):
                    undo()
                watch, logs = wider, self.logs(self.head.hash)
                # a market that is listed anew widens the watch again, to the same
                undos = self.fold(logs)
            self.blocks.append((self.head, logs, undos))
            folded += logs
        self.observe()
        return folded

    def logs(self, block: Hash) -> list[Log]:
        watch = self.market.watch()
        query = {
            "blockHash": to_hex(block),
            "address": [to_hex(each) for each in watch.addresses],
            "topics": [[to_hex(each) for each in watch.topics]],
        }
        return [
            log.at(self.head.timestamp) for log in parse.logs(self.net.rpc("eth_getLogs", query))
        ]

    def fold(self, logs: Sequence[Log]) -> list[Undo]:
        return [undo for log in logs if (undo := self.market.fold(log)) is not None]

    def observe(self) -> None:
        """Read prices and the market's own reads at the head, as every head does."""
        calls, own = self.market.oracle.calls(), self.market.calls()
        results = self.run(self.reader.multicall([*calls, *own], self.head.hash))
        self.prices = self.market.oracle.prices(results[: len(calls)], self.head)
        self.market.observe(results[len(calls) :], self.head)

    def at(self, seconds: int = 0) -> NextBlock:
        return replace(self.head.next_block(BLOCK_SECONDS), timestamp=self.head.timestamp + seconds)

    def key(self, market: MorphoMarket, who: bytes) -> Address:
        return key_of(self.ledger.pools[Hash(market.id)].number, Address(who))

    def position(self, market: MorphoMarket, who: bytes, seconds: int = 0) -> Position:
        found = self.market.position(self.key(market, who), self.prices, self.at(seconds))
        assert found is not None
        return found

    def drifts(self) -> list[Drift]:
        """Compare every market and every borrower with the chain."""
        return self.run(self.market.audit(self.reader, self.head, 10**6, 0))


def state(ledger: Ledger) -> dict[str, object]:
    """Return all that folding keeps; a copy."""
    return {
        "totals": {pool.id: pool.totals for pool in ledger.numbered},
        "debtors": [pool.debtors for pool in ledger.numbered],
        "accounts": {key: ledger.accounts.get(key) for key in ledger.accounts},
    }
