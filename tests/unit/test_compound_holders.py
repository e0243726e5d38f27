"""What is kept of a long history, and how a crowd of holders is frozen."""

import random

from keeper.chain.words import word
from keeper.protocols.compound_v2.columns import SHARDS, Column
from keeper.protocols.compound_v2.events import ACCRUE, BORROW, REPAY, TRANSFER
from keeper.protocols.compound_v2.holders import WIDTH, Keying, _History, _last
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.types import Log
from keeper.units import WAD, Address, Hash
from tests.unit.test_compound_events import ALICE, BOB, CETH, CUSDC, made


def log(ctoken: Address, name: bytes, block: int, index: int, *values: int | bytes) -> Log:
    data = b"".join(map(word, values))
    return Log(ctoken, (name,), data, block, Hash(bytes(32)), index)


def test_interest_leaves_no_key_and_a_debt_has_its_index() -> None:
    key, ledger = Keying(), made()
    found: set[bytes] = set()
    for block in range(1_000):
        found.add(key(log(CETH, ACCRUE, block, 0, 1, 2, WAD + block, 3)))
        if block % 100 == 0:
            found.add(key(log(CETH, BORROW, block, 1, ALICE, 5, 70 + block, 9)))
    assert (len(found), {len(each) for each in found}) == (11, {WIDTH})
    found.add(key(log(CUSDC, BORROW, 1, 7, ALICE, 5, 44, 9)))
    found.add(key(log(CUSDC, TRANSFER, 1, 8, CUSDC, BOB, 9)))
    history = _History(ledger, found)
    assert {pair: _last(event) for pair, event in history.owed.items()} == {
        (CETH, ALICE): (970, WAD + 900),
        (CUSDC, ALICE): (44, WAD),
    }
    assert set(history.held) == {(CETH, ALICE), (CUSDC, ALICE), (CUSDC, BOB)}


def test_of_two_debts_in_one_block_the_later_counts() -> None:
    key, ledger = Keying(), made()
    logs = [
        log(CETH, ACCRUE, 5, 2, 1, 2, WAD + 7, 3),
        log(CETH, BORROW, 5, 300, ALICE, 5, 10, 9),
        log(CETH, REPAY, 5, 299, BOB, ALICE, 5, 20, 9),
    ]
    history = _History(ledger, {key(each) for each in logs})
    assert _last(history.owed[CETH, ALICE]) == (10, WAD + 7)
    nonsense = log(CETH, BORROW, 5, 300, ALICE)
    assert key(nonsense) == bytes(WIDTH)


def test_a_column_is_frozen_without_copying_and_holds_still() -> None:
    """As a mapping beside it does, while both are written on; a write copies one shard."""
    draw = random.Random(5)
    column: Column[int] = Column()
    plain: dict[Address, int] = {}
    frozen: list[tuple[Column[int], dict[Address, int]]] = []
    for step in range(4_000):
        account = Address(draw.randrange(900).to_bytes(20, "big"))
        if draw.random() < 0.3:
            assert column.pop(account, None) == plain.pop(account, None)
        else:
            column[account] = plain[account] = step
        if step % 1_000 == 500:
            frozen.append((column.freeze(), plain.copy()))
    assert column == plain
    assert all(held == was and len(held) == len(was) for held, was in frozen)
    still = column.freeze()
    assert all(a is b for a, b in zip(still._shards, column._shards, strict=True))
    column[ALICE] = 1
    shared = sum(a is b for a, b in zip(still._shards, column._shards, strict=True))
    assert (shared, ALICE in still, ALICE in column) == (SHARDS - 1, False, True)


def test_a_frozen_ledger_holds_still() -> None:
    ledger = made()
    ledger.set_balance(ALICE, ledger.ctokens[0], 7)
    ledger.set_debt(ALICE, ledger.ctokens[1], (5, WAD))
    frozen: Ledger = ledger.freeze()
    ledger.set_balance(ALICE, ledger.ctokens[0], 8)
    ledger.set_debt(ALICE, ledger.ctokens[1], (0, WAD))
    ledger.set_entered(BOB, ledger.ctokens[0], entered=True)
    ledger.ctokens[0].terms.clear()
    assert frozen.ctokens[0].balances == {ALICE: 7}
    assert frozen.owing == {ALICE: 2}
    assert frozen.ctokens[1].debts == {ALICE: (5, WAD)}
    assert (len(frozen.entered), len(frozen.ctokens[0].terms)) == (0, 1)
    assert frozen.by_address[CETH] is frozen.ctokens[0]
