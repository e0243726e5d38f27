"""Debts at stable rates are loaded whole, or not at all."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from keeper.chain.words import selector, word
from keeper.errors import IncompleteError
from keeper.protocols.aave_v3.eras import ERAS
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.special import load_special_debts
from keeper.protocols.aave_v3.stable import Stable
from keeper.types import Call, CallResult, Head
from keeper.units import Address, Hash, Wei

ASSET, SUPPLY, DEBT, STABLE, ALICE, BOB = (Address(bytes([n]) * 20) for n in range(10, 16))
YEAR = 31_536_000
NOW = 1_700_000_000
HEAD = Head(7, Hash(b"\7" * 32), Hash(b"\6" * 32), NOW, Wei(0), 0, 0)
DEBTS = {ALICE: Stable(10**9, 5 * 10**25, NOW - YEAR), BOB: Stable(10**8, 3 * 10**25, NOW)}


class Telling:
    """A node that tells of some borrowers, each with what is on the chain, and of what all owe."""

    def __init__(self, total: int, *told: Address) -> None:
        self._total = total
        self._told = told

    async def multicall(self, calls: Sequence[Call], _block: Hash) -> list[CallResult]:
        return [CallResult(True, word(self._total)) for _ in calls]

    async def collect(self, *_: Any) -> set[bytes]:
        return {STABLE + each for each in self._told}

    async def sweep(
        self,
        _stage: str,
        calls: Iterable[Call],
        _total: int,
        _block: Hash,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        take([CallResult(True, word(self._one(call))) for call in calls])

    def _one(self, call: Call) -> int:
        debt = DEBTS[Address(call.data[-20:])]
        return {
            selector("principalBalanceOf(address)"): debt.principal,
            selector("getUserStableRate(address)"): debt.rate,
            selector("getUserLastUpdated(address)"): debt.since,
        }[call.data[:4]]


async def loaded(total: int, *told: Address, first_block: int = 0) -> Ledger:
    ledger = Ledger("main", era=ERAS["3.1"])
    ledger.list_reserve(Reserve(0, ASSET, SUPPLY, DEBT, 1, updated_at=NOW, stable_token=STABLE))
    reader: Any = Telling(total, *told)
    await load_special_debts(reader, HEAD, ledger, first_block)
    return ledger


async def test_principals_need_not_add_up_to_what_is_owed_with_interest() -> None:
    owed = sum(debt.owed(ERAS["3.1"].compounded, NOW) for debt in DEBTS.values())
    assert owed > 1_150_000_000 > sum(debt.principal for debt in DEBTS.values())
    for total in (owed, owed - 3, owed + 3):
        ledger = await loaded(total, ALICE, BOB)
        assert {who: held[0] for who, held in ledger.stable.items()} == DEBTS


@pytest.mark.parametrize("told", [(), (ALICE,), (BOB,)])
async def test_debts_of_which_some_were_not_found_are_not_taken(told: tuple[Address, ...]) -> None:
    owed = sum(debt.owed(ERAS["3.1"].compounded, NOW) for debt in DEBTS.values())
    with pytest.raises(IncompleteError, match=f"of which {owed} are owed") as error:
        await loaded(owed, *told, first_block=9)
    assert error.value.hint == "set first_block below 9"
