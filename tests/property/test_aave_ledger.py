"""A packed ledger says what a plain one would, freezes, comes back from its pages, and undoes."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keeper.errors import InvariantError
from keeper.oracles.aave_oracle import AaveOracle
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.accounts import (
    EMPTY,
    SHARDS,
    Account,
    Accounts,
    pack,
    shard_of,
    unpack,
)
from keeper.protocols.aave_v3.audit import holders
from keeper.protocols.aave_v3.deployment import Deployment, judge
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import NextBlock, Prices, Token
from keeper.units import RAY, Address, Bps, Wei

RESERVES = (0, 1, 63, 64, 127)
MOST = 2**128 - 1
LOW = 4 + 4 * SHARDS + 19
"""The last byte of the first address in a page that holds every shard."""
AT = NextBlock(8, 1_700_000_000, Wei(0))

amounts = st.one_of(st.integers(0, 3), st.integers(0, MOST), st.just(MOST))
balances = st.dictionaries(st.sampled_from(RESERVES), amounts.filter(bool))
flags = st.sets(st.sampled_from(RESERVES)).map(lambda bits: sum(1 << bit for bit in bits))
accounts = st.builds(Account, flags, st.integers(0, 255), balances, balances)
users = st.integers(0, 11).map(lambda n: Address(bytes([n % 2, n % 5, n]).rjust(20, b"\7")))
changes = st.lists(
    st.tuples(
        users,
        st.sampled_from(["supply", "borrow", "flag", "category"]),
        st.sampled_from(RESERVES),
        amounts,
    ),
    max_size=40,
)


FACTS = dict.fromkeys(("has_grace", "has_bitmaps", "has_deficit", "has_ltv_zero"), True)
"""What a pool of v3.6 answers."""


def name(kind: int, number: int) -> Address:
    return Address(bytes([kind, number]) * 10)


def market(revision: int = 10) -> AaveV3:
    pool, provider, configurator, oracle = (Address(bytes([n]) * 20) for n in range(200, 204))
    prices = AaveOracle("main", pool, provider, configurator, oracle)
    era, doubt = judge(revision, FACTS)
    found = Deployment(pool, provider, configurator, oracle, revision, era, doubt)
    made = AaveV3("main", found, prices)
    for number in RESERVES:
        terms = 18 << 48 | 1 << 56 | (7_000 + number) << 16 | 10_500 << 32
        reserve = Reserve(number, name(1, number), name(2, number), name(3, number), terms)
        reserve.token = Token(reserve.asset, f"T{number}", 18)
        reserve.borrow_index, reserve.liquidity_index = 2 * RAY + number, RAY + number
        reserve.updated_at = AT.timestamp
        made._ledger.list_reserve(reserve)
    made._ledger.categories[3] = Category(Bps(9_000), Bps(9_300), Bps(10_100), collateral=1 | 2)
    return made


def change(ledger: Ledger, step: tuple[Address, str, int, int]) -> object:
    user, what, number, amount = step
    reserve = ledger.reserves[number]
    match what:
        case "supply":
            return ledger.set_supplied(user, reserve, amount)
        case "borrow":
            return ledger.set_borrowed(user, reserve, amount)
        case "flag":
            return ledger.set_flag(user, reserve, used=bool(amount % 2))
        case _:
            return ledger.set_category(user, amount % 5)


class Plain:
    """The same four changes on dictionaries."""

    def __init__(self) -> None:
        self.held: dict[Address, tuple[dict[int, int], dict[int, int], set[int], list[int]]] = {}

    def change(self, step: tuple[Address, str, int, int]) -> None:
        user, what, number, amount = step
        supplied, borrowed, used, category = self.held.setdefault(user, ({}, {}, set(), [0]))
        if what == "flag":
            (used.add if amount % 2 else used.discard)(number)
        elif what == "category":
            category[0] = amount % 5
        else:
            (supplied if what == "supply" else borrowed)[number] = amount

    def account(self, user: Address) -> Account:
        supplied, borrowed, used, category = self.held[user]
        return Account(
            sum(1 << number for number in used),
            category[0],
            {number: amount for number, amount in supplied.items() if amount},
            {number: amount for number, amount in borrowed.items() if amount},
        )

    def total(self, kind: int, number: int) -> int:
        return sum((held[1] if kind else held[0]).get(number, 0) for held in self.held.values())


@given(accounts)
def test_a_record_holds_exactly_its_account(account: Account) -> None:
    record = pack(account)
    assert unpack(record) == account
    assert pack(unpack(record)) == record
    assert len(record) == 17 * (1 + len(account.supplied) + len(account.borrowed))


@pytest.mark.parametrize("amount", [MOST + 1, -1])
def test_what_does_not_fit_is_refused_and_changes_nothing(amount: int) -> None:
    ledger, user = market()._ledger, Address(b"\1" * 20)
    ledger.set_supplied(user, ledger.reserves[0], 5)
    before = ledger.accounts.get(user)
    for put in (ledger.set_supplied, ledger.set_borrowed):
        with pytest.raises(InvariantError, match=r"main: .*does not fit"):
            put(user, ledger.reserves[0], amount)
    with pytest.raises(InvariantError, match="does not fit"):
        ledger.set_category(user, 256)
    with pytest.raises(InvariantError, match="reserve id 128"):
        ledger.list_reserve(Reserve(128, name(1, 9), name(2, 9), name(3, 9), 0))
    assert ledger.accounts.get(user) == before
    assert (ledger.reserves[0].scaled_supply, ledger.borrowers) == (5, 0)


@given(changes)
@settings(max_examples=60)
def test_the_ledger_says_what_plain_dictionaries_say(
    steps: list[tuple[Address, str, int, int]],
) -> None:
    source, plain = market(), Plain()
    ledger = source._ledger
    start = b"".join(source.snapshot()())
    undos = []
    for step in steps:
        undos.append(change(ledger, step))
        plain.change(step)
    for user in plain.held:
        assert ledger.account(user) == plain.account(user)
    assert ledger.borrowers == sum(bool(plain.account(user).borrowed) for user in plain.held)
    for number, reserve in ledger.reserves.items():
        totals = plain.total(0, number), plain.total(1, number)
        assert (reserve.scaled_supply, reserve.scaled_debt) == totals
    assert set(ledger.accounts) == {user for user in plain.held if plain.account(user) != Account()}
    for undo in reversed(undos):
        undo()  # type: ignore[operator]
    assert b"".join(source.snapshot()()) == start


@given(changes, changes)
@settings(max_examples=40)
def test_a_snapshot_is_of_the_moment_it_was_taken(
    first: list[tuple[Address, str, int, int]], second: list[tuple[Address, str, int, int]]
) -> None:
    source, other = market(), market()
    for step in first:
        change(source._ledger, step)
        change(other._ledger, step)
    pages, gather = source.snapshot(), source.all_legs()
    for step in second:
        change(source._ledger, step)
    restored = market()
    restored.restore(pages())
    assert restored._ledger == other._ledger
    assert restored.borrowers() == other.borrowers()
    frozen = gather()
    assert set(frozen.borrowers) == set(restored.all_legs()().borrowers)
    for step in second:
        change(restored._ledger, step)
    assert restored._ledger == source._ledger


@given(changes)
@settings(max_examples=60)
def test_gathered_legs_are_those_of_each_borrower(
    steps: list[tuple[Address, str, int, int]],
) -> None:
    source = market()
    for step in steps:
        change(source._ledger, step)
    arrays = source.all_legs()()
    found: list[tuple[list[tuple[int, float]], list[tuple[int, float]]]] = [
        ([], []) for _ in arrays.borrowers
    ]
    sides = (
        (arrays.collateral_rows, arrays.collateral_classes, arrays.collateral_amounts),
        (arrays.debt_rows, arrays.debt_classes, arrays.debt_amounts),
    )
    for side, (rows, classes, values) in enumerate(sides):
        assert (np.diff(rows) >= 0).all()
        for row, number, value in zip(rows, classes, values, strict=True):
            found[row][side].append((int(number), float(value)))
    assert len(arrays.borrowers) == source.borrowers()
    for borrower, (collateral, debt) in zip(arrays.borrowers, found, strict=True):
        for held, expected in zip((collateral, debt), source.legs(borrower), strict=True):
            assert [number for number, _ in held] == [number for number, _ in expected]
            assert [value for _, value in held] == pytest.approx(
                [float(value) for _, value in expected], rel=1e-15
            )


def test_a_change_of_terms_changes_factors_and_no_leg() -> None:
    source, user = market(), Address(b"\1" * 20)
    ledger = source._ledger
    ledger.set_supplied(user, ledger.reserves[1], 1_000)
    ledger.set_flag(user, ledger.reserves[1], used=True)
    ledger.set_category(user, 3)
    ledger.set_borrowed(user, ledger.reserves[0], 100)
    source.changed()
    prices = Prices("main", 10**8, {name(1, 1): 10**8, name(1, 0): 10**8})
    before = source.legs(user)
    ((number, _),), ((owed, _),) = before
    collateral, debt = source.factors(prices, AT)
    assert collateral[number] == pytest.approx(0.93 * 10**8 / 10**18)
    assert debt[owed] == pytest.approx(2 * 10**8 / 10**18)
    ledger.set_terms(3, Category(Bps(9_000), Bps(9_500), Bps(10_100), collateral=1 | 2))
    assert source.factors(prices, AT)[0][number] == pytest.approx(0.95 * 10**8 / 10**18)
    undo = ledger.set_terms(3, Category(Bps(9_000), Bps(9_500), Bps(10_100), collateral=1))
    assert source.factors(prices, AT)[0][number] == pytest.approx(0.7001 * 10**8 / 10**18)
    ledger.set_configuration(ledger.reserves[1], ledger.reserves[1].configuration & ~(0xFFFF << 16))
    assert source.factors(prices, AT)[0][number] == 0.0
    assert np.isnan(source.factors(Prices("main", 10**8, {}), AT)[0][number])
    undo()
    assert source.factors(prices, AT)[0][number] == pytest.approx(0.95 * 10**8 / 10**18)
    assert source.legs(user) == before
    assert source.changed() == set()


def filled() -> AaveV3:
    source = market()
    for number in range(300):
        user = Address(bytes([number % 7]) * 17 + (number * 7_919 % 60_000).to_bytes(3))
        ledger = source._ledger
        ledger.set_supplied(user, ledger.reserves[0], 10**18 + number)
        if number % 3:
            ledger.set_borrowed(user, ledger.reserves[64], 10**30 + number)
    return source


def damaged(pages: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    head, body = pages
    yield "nothing", []
    yield "no holders", [head]
    yield "no JSON", [b"{" + head, body]
    yield "another format", [head.replace(b'"format":2', b'"format":1'), body]
    yield "another market", [head.replace(b'"main"', b'"other"'), body]
    yield "a key less", [head.replace(b'"deficit"', b'"deficits"'), body]
    yield "another total", [head.replace(b'"borrowers":"200"', b'"borrowers":"201"'), body]
    yield "cut", [head, body[:-1]]
    yield "cut at a record", [head, body[:-17]]
    yield "twice", [head, body, body]
    yield "the last amount", [head, body[:-1] + bytes([body[-1] ^ 1])]
    yield "its token", [head, body[:-17] + b"\2" + body[-16:]]
    yield "an address", [head, body[:LOW] + bytes([body[LOW] ^ 1]) + body[LOW + 1 :]]
    yield "empty", [head, b""]


def test_a_damaged_snapshot_is_refused_and_replaces_nothing() -> None:
    pages = list(filled().snapshot()())
    restored = market()
    restored.restore(pages)
    assert restored._ledger == filled()._ledger
    ways = 0
    for way, broken in damaged(pages):
        assert broken != pages, way
        before = restored._ledger
        with pytest.raises(InvariantError, match="main: the snapshot cannot be read"):
            restored.restore(broken)
        assert restored._ledger is before, way
        ways += 1
    assert ways == 14


@given(st.integers(0, 2**31), st.integers(0, 255))
@settings(max_examples=60)
def test_no_changed_byte_of_a_snapshot_escapes_as_another_error(at: int, value: int) -> None:
    head, body = filled().snapshot()()
    place = at % len(body)
    try:
        market().restore([head, body[:place] + bytes([value]) + body[place + 1 :]])
    except InvariantError:
        return


def test_a_pool_changed_since_the_snapshot_stays_stopped() -> None:
    pages = list(filled().snapshot()())
    same, newer = market(), market(revision=12)
    same.restore(pages)
    assert same.stopped == ""
    newer.restore(pages)
    assert "revision 12" in newer.stopped
    older = market(revision=9)
    older._ledger.stop("the rules of pool revision 9 are not known")
    upgraded = market()
    upgraded.restore(older.snapshot()())
    assert "revision 9" in upgraded.stopped


def test_a_frozen_shard_is_copied_once_and_only_when_written() -> None:
    accounts, record = Accounts(), pack(Account(supplied={1: 5}))
    near, far = Address(bytes(19) + b"\1"), Address(bytes(19) + b"\2")
    accounts.put(near, record)
    accounts.put(far, record)
    frozen = accounts.freeze()
    accounts.put(near, EMPTY)
    assert frozen[shard_of(near)] == {near: record}
    assert accounts.get(near) == EMPTY
    assert len(accounts) == 1
    copied = accounts.shard(shard_of(near))
    accounts.put(near, record)
    assert accounts.shard(shard_of(near)) is copied
    assert accounts.shard(shard_of(far)) is frozen[shard_of(far)]


@pytest.mark.parametrize("sample", [0, 1, 10, 150, 299, 300, 900])
def test_an_audit_picks_the_same_holders_for_a_seed(sample: int) -> None:
    ledger = filled()._ledger
    picked = holders(ledger, sample, 7)
    assert len(picked) == len(set(picked)) == min(sample, len(ledger.accounts))
    other = market()
    other.restore(filled().snapshot()())
    assert picked == holders(other._ledger, sample, 7)
    if sample == 10:
        assert picked != holders(ledger, sample, 8)
        assert sum(bool(ledger.account(holder).borrowed) for holder in picked) >= 5
