"""Variants on one tape see the same of every head, also where what is asked rests on what was heard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.app.replay import Variant, replay
from keeper.app.taped import Taped
from keeper.book.book import Book
from keeper.conditions import Conditions
from keeper.config import Chain, Settings
from keeper.protocols.morpho_blue.ledger import Pool
from keeper.protocols.morpho_blue.oracle import Dollars, MorphoOracle
from keeper.tape.asking import TapedRpc
from keeper.tape.records import Block, Reads, Record
from keeper.types import Call, CallResult, Head, NextBlock, Skip, View, Watch
from keeper.units import Hash
from tests.plans import USDC, WETH, address, make_head, make_view

CHAIN = Chain.model_validate({"chain_id": 1, "endpoints": [{"url": "http://localhost"}]})
ANSWERS = 3
"""Heads at which the oracle answers; then it reverts for ever."""
HEADS = 14


class Market:
    """A market with Morpho's oracle: what does not answer is asked less and less."""

    market = protocol = "morpho"
    stopped = ""

    def __init__(self) -> None:
        terms: Any = SimpleNamespace(
            loan=USDC.address, collateral=WETH.address, oracle=address("oracle")
        )
        pool = Pool(0, Hash(b"\1" * 32), terms, debtors=1)
        dollars = Dollars(address("dollars"), unit=10**8)
        self.oracle = MorphoOracle("morpho", lambda: [(pool, None)], dollars)

    def tokens(self) -> Mapping[Any, Any]:
        return {token.address: token for token in (USDC, WETH)}

    def watch(self) -> Watch:
        return Watch(frozenset(), frozenset())

    def calls(self) -> Sequence[Call]:
        return ()

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Ask nothing more."""

    def permissions(self) -> Sequence[Any]:
        return ()

    def flash_sources(self, asset: Any) -> Sequence[Any]:
        return ()


class Judged(Book):
    """A book whose views are of the prices alone."""

    async def view(self, next_block: NextBlock, deadline_ms: int) -> tuple[View, list[Skip]] | None:
        assert self.head is not None
        prices = {name: market.prices for name, market in self.markets.items()}
        return replace(make_view(self.head, ()), prices=prices), []


def book() -> Judged:
    market: Any = Market()
    made = Judged("x", [market], [], WETH)
    made.stand_at(make_head(0))
    return made


def answer(call: Call, number: int) -> CallResult:
    if call.target == address("oracle") and number > ANSWERS:
        return CallResult(False, b"")
    return CallResult(True, (10**8).to_bytes(32, "big"))


def recorded() -> Iterator[Record]:
    """Yield what a recorder writes down of such a market."""
    held = book()
    for number in range(1, HEADS + 1):
        head = make_head(number)
        held.fold(head, [])
        yield Block(head, [])
        wanted = held.reads()
        calls = [*wanted.calls, *Conditions(CHAIN.inclusion_model).calls()]
        results = [answer(call, number) for call in calls]
        yield Reads(calls, results)
        held.observe(wanted, results, head)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tape begin with that book."""

    async def taped(name: str, table: Chain, records: Any, where: str) -> Taped:
        held = book()
        markets = {name: each.protocol for name, each in held.markets.items()}
        watched: Any = SimpleNamespace(markets=markets, venues={}, unloaded={}, coin=WETH.address)
        reader: Any = None
        return Taped(name, table, watched, held, reader, TapedRpc(), iter(records), where, None)

    monkeypatch.setattr(Taped, "open", taped)


@pytest.mark.usefixtures("opened")
async def test_variants_ask_an_oracle_that_fails_at_the_heads_it_was_asked_at() -> None:
    records = list(recorded())
    asked = [len(each.calls) for each in records if isinstance(each, Reads)]
    assert len(set(asked)) > 1, "the oracle was left out at some heads"
    settings = Settings.model_validate({})
    variants = [Variant(name, settings) for name in ("one", "two", "three")]
    outcomes = await replay("x", CHAIN, records, variants)
    for each in outcomes:
        assert (each.heads, each.undecided) == (HEADS, 0), each.name
        assert each.digests == outcomes[0].digests
