"""Whole blocks folded source by source: order, what one refused log takes back, and who is told."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from keeper.book.faults import Fault, FaultKind
from keeper.book.parts import FoldingMany, Parts
from keeper.errors import InvariantError
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Log, Undo
from keeper.units import Address, Hash
from tests.unit.test_aave_events import (
    ALICE,
    ASSET,
    BOB,
    BURN,
    CONFIGURATOR,
    HEAD,
    MINT,
    MOVE,
    POOL,
    RATES,
    SEIZE,
    SUPPLY,
    TWO,
    event,
    market,
    number,
)

__all__ = ["market"]

NEXT = replace(HEAD, number=8, hash=Hash(b"\x08" * 32), parent=HEAD.hash)
NEW_ASSET, NEW_SUPPLY, NEW_DEBT = (Address(bytes([n]) * 20) for n in range(20, 23))
LISTED = event(
    CONFIGURATOR,
    "ReserveInitialized(address,address,address,address,address)",
    NEW_ASSET,
    NEW_SUPPLY,
    0,
    number(NEW_DEBT),
    0,
)
GOOD = [
    event(SUPPLY, MINT, ALICE, ALICE, 2_000, 0, TWO),
    event(POOL, RATES, ASSET, 10**25, 0, 2 * 10**25, TWO, TWO),
    event(SUPPLY, MOVE, ALICE, BOB, 300, TWO),
    event(POOL, "ReserveUsedAsCollateralEnabled(address,address)", ASSET, ALICE),
    event(SUPPLY, BURN, BOB, BOB, 600, 0, TWO),
]


def placed(logs: Sequence[Log]) -> list[Log]:
    return [log._replace(block_number=8, index=index) for index, log in enumerate(logs)]


def standing(market: AaveV3, **more: FoldingMany) -> tuple[Parts, list[tuple[str, Fault]]]:
    faults: list[tuple[str, Fault]] = []
    sources = {"market/main": market, "oracle/main": market.oracle}
    sources |= {f"venue/{name}": source for name, source in more.items()}
    parts = Parts(
        "test", sources, {"main": market}, lambda part, fault: faults.append((part, fault))
    )
    parts.stand_at(HEAD)
    return parts, faults


def kept(market: AaveV3) -> tuple[Ledger, object]:
    return copy.deepcopy(market._ledger), dict(market.oracle.feeds)  # type: ignore[attr-defined]


class Clumsy:
    """Refuses the log at one place, with an error of no kind that is known."""

    def __init__(self, market: AaveV3, refused: int) -> None:
        self._market = market
        self.refused = refused
        self.held: list[int] = []
        for name in ("watch", "bootstrap", "fold", "audit", "snapshot", "restore"):
            setattr(self, name, getattr(market, name))

    def fold_all(self, logs: Iterator[Log], undos: list[Undo]) -> None:
        for log in logs:
            if log.index == self.refused:
                raise RuntimeError("no")
            self.held.append(log.index)
            undos.append(self.held.clear)


def test_a_reserve_listed_in_a_block_has_that_blocks_later_logs_folded(market: AaveV3) -> None:
    parts, faults = standing(market)
    before = kept(market)
    strange = event(BOB, MINT, ALICE, ALICE, 1, 0, TWO)
    later = event(NEW_SUPPLY, MINT, BOB, BOB, 500, 0, TWO)
    again = event(NEW_SUPPLY, MOVE, BOB, ALICE, 50, TWO)
    parts.fold(NEXT, placed([*GOOD, strange, LISTED, later, strange, again]))
    assert faults == []
    assert market._ledger.account(BOB).supplied == {1: 200}
    assert market._ledger.account(ALICE).supplied == {0: 700, 1: 50}
    assert NEW_ASSET in market.oracle.feeds  # type: ignore[attr-defined]
    parts.undo()
    assert kept(market) == before


LATER = HEAD.timestamp + 5
MIXED = [
    event(POOL, RATES, ASSET, 10**25, 0, 2 * 10**25, TWO, TWO, timestamp=LATER),
    event(POOL, SEIZE, ASSET, ASSET, BOB, 1, 2, number(BOB), 1, timestamp=LATER + 5),
    event(SUPPLY, MINT, BOB, BOB, 2_000, 0, TWO, timestamp=LATER + 5),
    event(POOL, RATES, ASSET, 10**24, 0, 10**25, TWO + 9, TWO + 9, timestamp=LATER + 5),
    event(POOL, RATES, ASSET, 10**23, 0, 10**24, TWO + 9, TWO + 9, timestamp=LATER + 5),
    LISTED,
]


@pytest.mark.parametrize("turn", range(len(MIXED)))
def test_logs_folded_together_do_what_they_do_one_by_one(market: AaveV3, turn: int) -> None:
    logs = [*MIXED[turn:], *MIXED[:turn]]
    before = kept(market)
    undos = [undo for log in logs if (undo := market.fold(log)) is not None]
    alone = kept(market)
    for undo in reversed(undos):
        undo()
    assert kept(market) == before != alone
    together: list[Undo] = []
    market.fold_all(iter(logs), together)
    assert kept(market) == alone
    for undo in reversed(together):
        undo()
    assert kept(market) == before


@pytest.mark.parametrize("at", range(len(GOOD) + 1))
def test_a_refused_log_takes_its_block_back_wherever_it_stands(market: AaveV3, at: int) -> None:
    parts, faults = standing(market)
    before = kept(market)
    bad = event(SUPPLY, BURN, POOL, POOL, 1, 0, TWO)
    parts.fold(NEXT, placed([LISTED, *GOOD[:at], bad, *GOOD[at:]]))
    ((part, fault),) = faults
    assert (part, fault.kind, fault.block) == ("market/main", FaultKind.INVARIANT, 8)
    assert kept(market) == before
    assert not parts.is_folded("market/main")


def test_rates_told_before_a_refused_log_are_taken_back_with_the_rest(market: AaveV3) -> None:
    before = kept(market)
    undos: list[Undo] = []
    bad = event(POOL, SEIZE, BOB, ASSET, BOB, 1, 2, number(BOB), 1)
    with pytest.raises(InvariantError, match="unlisted"):
        market.fold_all(iter([*GOOD, bad]), undos)
    for undo in reversed(undos):
        undo()
    assert kept(market) == before


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_an_error_of_any_kind_names_its_log_and_leaves_the_others_alone(
    market: AaveV3, at: int
) -> None:
    clumsy = Clumsy(market, at)
    assert isinstance(clumsy, FoldingMany)
    parts, faults = standing(market, clumsy=clumsy)
    parts.fold(NEXT, placed(GOOD))
    ((part, fault),) = faults
    assert part == "venue/clumsy"
    assert fault.why.startswith(f"log {at} of block 8 from 0x{GOOD[at].address.hex()}")
    assert clumsy.held == []
    assert market._ledger.account(ALICE).supplied == {0: 700}
    assert parts.is_folded("market/main")
