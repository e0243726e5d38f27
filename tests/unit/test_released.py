"""What a million holders leave behind goes beside the event loop, a little at a time."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from keeper.chain.keys import Keys
from keeper.oracles.aave_oracle import AaveOracle
from keeper.protocols.aave_v3 import AaveV3, market as aave_module
from keeper.protocols.aave_v3.accounts import SHARDS, Accounts, shard_of
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.holders import load_holders
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Call, CallResult, Head
from keeper.units import Address, Hash, Wei

POOL = Address(b"\1" * 20)
HEAD = Head(7, Hash(b"\7" * 32), Hash(b"\6" * 32), 1_700_000_000, Wei(0), 0, 0)
COUNT = 3 * SHARDS


class Told(bytes):
    """Bytes that say in which thread they are freed."""

    freed_in: list[int]

    def __del__(self) -> None:
        self.freed_in.append(threading.get_ident())


@pytest.fixture
def freed() -> list[int]:
    Told.freed_in = []
    return Told.freed_in


def crowded() -> Ledger:
    """Return a ledger of some holders to every shard."""
    ledger = Ledger("main")
    shards: list[dict[Address, bytes]] = [{} for _ in range(SHARDS)]
    for number in range(COUNT):
        holder = Address(number.to_bytes(20))
        shards[shard_of(holder)][holder] = Told(bytes(34))
    for number, shard in enumerate(shards):
        ledger.accounts.load(number, shard)
    return ledger


def made() -> AaveV3:
    market = AaveV3(
        "main", Deployment(POOL, POOL, POOL, POOL, 10), AaveOracle("main", POOL, POOL, POOL, POOL)
    )
    market._ledger = crowded()
    return market


class Node:
    """A reader of a chain on which everybody holds nothing."""

    def __init__(self, found: Keys | None = None) -> None:
        self.found = found

    async def multicall(self, calls: Sequence[Call], _: Hash) -> list[CallResult]:
        return [CallResult(True, bytes(32)) for _ in calls]

    async def collect(self, *_: object) -> Keys:
        found, self.found = self.found, None
        assert found is not None
        return found

    async def sweep(
        self,
        stage: str,
        calls: Iterable[Call],
        total: int,
        block: Hash,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        results = [CallResult(True, bytes(32)) for _ in calls]
        assert len(results) == total
        take(results)


async def test_a_ledger_replaced_from_the_chain_is_freed_beside_the_loop(
    freed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    market = made()

    async def find(*_: object) -> Deployment:
        return Deployment(POOL, POOL, POOL, POOL, 10)

    async def load(*_: object) -> Ledger:
        return Ledger("main")

    monkeypatch.setattr(aave_module, "find", find)
    monkeypatch.setattr(aave_module, "load", load)
    node: Any = Node()
    await market.bootstrap(node, HEAD)
    assert len(freed) == COUNT
    assert threading.get_ident() not in freed


async def test_a_ledger_replaced_by_a_snapshot_lets_its_holders_go_in_steps(
    freed: list[int],
) -> None:
    market = made()
    empty = AaveV3("main", market._deployment, market.oracle)
    held = market._ledger  # as an undo of a block does
    await asyncio.to_thread(market.restore, list(empty.snapshot()()))
    assert len(held.accounts) == 0
    assert len(freed) == COUNT
    assert threading.get_ident() not in freed


async def test_who_was_found_in_the_logs_is_forgotten_beside_the_loop(freed: list[int]) -> None:
    found = Keys()
    found.add(Told(bytes(20) + number.to_bytes(20)) for number in range(COUNT))
    node: Any = Node(found)
    del found
    await load_holders(node, POOL, HEAD, Ledger("main"), 0)
    assert len(freed) == COUNT
    assert threading.get_ident() not in freed


def test_accounts_that_were_let_go_can_still_be_asked() -> None:
    accounts = Accounts()
    holder = Address(b"\5" * 20)
    accounts.put(holder, b"\0" * 33 + b"\1")
    frozen = accounts.freeze()
    accounts.release()
    assert len(accounts) == 0
    accounts.put(holder, b"\0" * 33 + b"\2")
    assert accounts.get(holder)[-1] == 2
    assert frozen[shard_of(holder)][holder][-1] == 1
