"""Mints and Burns, folded, give the only balance that fits, and are taken back exactly."""

import copy

import pytest
from hypothesis import given, settings, strategies as st

from keeper.chain.words import topic
from keeper.errors import InvariantError
from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Log, Undo
from keeper.units import RAY, Address, Hash
from tests.property.test_aave_ledger import market

MINT = topic("Mint(address,address,uint256,uint256,uint256)")
BURN = topic("Burn(address,address,uint256,uint256,uint256)")
USERS = [Address(bytes([1]) * 18 + bytes([number & 3, 7])) for number in range(3)]

steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from((0, 63)),
        st.sampled_from(USERS),
        st.integers(0, 10**30) | st.integers(0, 3),
        st.integers(RAY, 5 * RAY),
        st.integers(0, 10**20),
        st.booleans(),
    ),
    max_size=25,
)


def told(token: Address, user: Address, change: int, increase: int, index: int) -> Log:
    """Return the log a token writes of a change of a balance, interest reported apart."""
    kind = MINT if change >= 0 else BURN
    data = b"".join(value.to_bytes(32) for value in (abs(change), increase, index))
    word = bytes(12) + user
    return Log(token, (kind, word, word), data, 1, Hash(bytes(32)), 0, timestamp=1)


def totals(ledger: Ledger) -> list[tuple[int, int]]:
    return [(each.scaled_supply, each.scaled_debt) for each in ledger.reserves.values()]


@given(steps)
@settings(max_examples=100)
def test_a_folded_change_leaves_the_balance_the_contract_has(
    changes: list[tuple[bool, int, Address, int, int, int, bool]],
) -> None:
    source = market()
    ledger = source._ledger
    start, untouched = b"".join(source.snapshot()()), copy.deepcopy(ledger)
    undos: list[Undo] = []
    for owes, number, user, after, index, increase, freeze in changes:
        shards = ledger.accounts.freeze() if freeze else []
        frozen = [dict(shard) for shard in shards]
        account, reserve = ledger.account(user), ledger.reserves[number]
        held = (account.borrowed if owes else account.supplied).get(number, 0)
        balance = v36.debt_balance_up if owes else v36.supply_balance_down
        change = balance(after, index) - balance(held, index) + increase
        token = reserve.debt_token if owes else reserve.supply_token
        ledger.touched = set()
        undo = source.fold(told(token, user, change, increase, index))
        assert undo is not None
        undos.append(undo)
        now = ledger.account(user)
        assert (now.borrowed if owes else now.supplied).get(number, 0) == after
        assert ledger.touched == ({user} if owes or now.borrowed else set())
        assert ledger.borrowers == sum(bool(ledger.account(each).borrowed) for each in USERS)
        accounts = [ledger.account(each) for each in USERS]
        assert totals(ledger) == [
            (
                sum(each.supplied.get(at, 0) for each in accounts),
                sum(each.borrowed.get(at, 0) for each in accounts),
            )
            for at in ledger.reserves
        ]
        assert shards == frozen
    for undo in reversed(undos):
        undo()
    assert b"".join(source.snapshot()()) == start
    assert (totals(ledger), ledger.borrowers) == (totals(untouched), untouched.borrowers)


@pytest.mark.parametrize("owes", [False, True])
def test_a_balance_that_does_not_fit_is_refused_and_changes_nothing(owes: bool) -> None:
    source = market()
    ledger, (user, *_) = source._ledger, USERS
    reserve = ledger.reserves[0]
    token = reserve.debt_token if owes else reserve.supply_token
    for held in (0, 5):
        if held:
            source.fold(told(token, user, held, 0, RAY))
        before = b"".join(source.snapshot()())
        with pytest.raises(InvariantError, match=r"main: .*does not fit"):
            source.fold(told(token, user, 2**128, 0, RAY))
        log = told(token, user, 7, 0, RAY)
        wrong = bytes(11) + b"\1" + user
        for each in (
            log._replace(topics=(MINT, wrong, wrong)),
            log._replace(data=log.data[:-32] + bytes(32)),
            log._replace(data=log.data + bytes(32)),
            log._replace(topics=log.topics[:2]),
        ):
            with pytest.raises(InvariantError, match=r"Mint of .* does not decode"):
                source.fold(each)
        assert b"".join(source.snapshot()()) == before
        assert totals(ledger)[0][owes] == held
