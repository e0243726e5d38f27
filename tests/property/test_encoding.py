"""A packed batch reads back as it was, bounds are told, answers and reasons are understood."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_hash.auto import keccak
from hypothesis import given, strategies as st

from keeper.contracts import liquidator
from keeper.planning.decoding import RAN
from keeper.planning.encoding import (
    NATIVE,
    Amount,
    AmountMode,
    Batch,
    BatchError,
    Call,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    Minimum,
    Protocol,
    Redeem,
    Swap,
    Template,
    Unwrap,
    Wrap,
    decode_receipt_logs,
    decode_run,
    encode_run,
    exactly,
    explain_reason,
    pack,
    share_of_gain,
    untipped,
)
from keeper.types import Log
from keeper.units import WAD, Address, Hash, Wei
from tests.plans import Plans

TOKENS = tuple(Address(bytes([n]) * 20) for n in range(1, 5))
OTHERS = tuple(Address(bytes([n]) * 20) for n in range(100, 106))
UINT128 = st.integers(0, 2**128 - 1)
TOKEN, OTHER = st.sampled_from(TOKENS), st.sampled_from(OTHERS)
AMOUNT = st.builds(Amount, st.sampled_from(AmountMode), UINT128)


def items(most: int) -> st.SearchStrategy[tuple[Item, ...]]:
    item = st.builds(
        Item,
        st.binary(min_size=20, max_size=20),
        UINT128,
        UINT128,
        st.integers(-(2**95), 2**95 - 1),
    )
    return st.lists(item, min_size=1, max_size=most).map(tuple)


CALLS = st.builds(
    Call,
    OTHER,
    st.binary(min_size=40, max_size=200),
    st.sampled_from((*TOKENS, NATIVE)),
    TOKEN,
    AMOUNT,
    UINT128,
    st.one_of(st.none(), st.integers(4, 8)),
)
ACTIONS = st.one_of(
    st.builds(Swap, OTHER, st.integers(0, 2**24 - 1), TOKEN, TOKEN, AMOUNT, UINT128),
    CALLS,
    st.builds(Wrap, TOKEN, AMOUNT),
    st.builds(Unwrap, TOKEN, AMOUNT),
    st.builds(Redeem, TOKEN, TOKEN, AMOUNT, UINT128),
)
GAS = st.integers(0, 2**32 - 1)
GROUPS = st.builds(
    Group,
    OTHER,
    TOKEN,
    TOKEN,
    items(5),
    st.lists(ACTIONS, max_size=4).map(tuple),
    GAS,
    GAS,
    OTHER,
    st.sampled_from(Check),
)
FUNDS = st.builds(
    Fund, st.sampled_from(FundKind), TOKEN, UINT128, OTHER, TOKEN, st.integers(0, 2**24 - 1)
)
BATCHES = st.builds(
    Batch,
    st.integers(0, 2**64 - 1),
    st.just(TOKENS),
    st.lists(GROUPS, min_size=1, max_size=4).map(tuple),
    st.lists(FUNDS, max_size=4).map(tuple),
    st.lists(st.builds(Minimum, TOKEN, UINT128), max_size=4).map(tuple),
    UINT128,
    st.integers(0, 65_535),
    UINT128,
)


class Reader:
    """Reads the packed form in order, as its layout says."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        self.at += size
        assert self.at <= len(self.data)
        return self.data[self.at - size : self.at]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)


def check_action(reader: Reader, action, table: list[bytes]) -> None:
    first, spend, receive, target = (reader.number(1) for _ in range(4))
    amount, minimum, extra = reader.number(16), reader.number(16), reader.take(4)
    assert amount == action.amount.value
    assert (first >> 4) & 3 == action.amount.mode
    kind = first & 15
    coins = [table[i] if i != 255 else NATIVE for i in (spend, receive)]
    match action:
        case Swap():
            assert (kind, coins) == (1, [action.spend, action.receive])
            assert (table[target], minimum) == (action.factory, action.minimum_received)
            assert extra == action.fee.to_bytes(3, "big") + b"\0"
        case Call():
            assert (kind, coins) == (2, [action.spend, action.receive])
            assert (table[target], minimum) == (action.target, action.minimum_received)
            before = reader.take(int.from_bytes(extra[:2], "big"))
            behind = reader.take(int.from_bytes(extra[2:], "big"))
            if action.patch_at is None:
                assert first >> 7
                assert before + behind == action.data
            else:
                at = action.patch_at
                assert not first >> 7
                assert (before, behind) == (action.data[:at], action.data[at + 32 :])
        case Wrap():
            assert (kind, coins) == (3, [NATIVE, action.wrapped])
        case Unwrap():
            assert (kind, coins) == (4, [action.wrapped, NATIVE])
        case Redeem():
            assert (kind, coins, minimum) == (
                5,
                [action.vault, action.asset],
                action.minimum_received,
            )


@given(BATCHES)
def test_a_batch_reads_back_as_it_was(batch: Batch) -> None:
    reader = Reader(pack(batch))
    assert reader.number(8) == batch.deadline
    tokens, addresses, funds, minimums, groups, count = (reader.number(1) for _ in range(6))
    assert (tokens, funds, minimums) == (4, len(batch.funds), len(batch.minimums))
    assert (groups, count) == (len(batch.groups), sum(len(g.items) for g in batch.groups))
    assert reader.number(2) == batch.tip_share
    assert (reader.number(16), reader.number(16)) == (batch.tip, batch.refill)
    table = [reader.take(20) for _ in range(addresses)]
    assert tuple(table[:4]) == batch.tokens
    assert len(set(table)) == len(table)
    for fund in batch.funds:
        kind, token, other, fee, source, amount = (reader.number(n) for n in (1, 1, 1, 3, 1, 16))
        assert (kind, table[token], fee, amount) == (fund.kind, fund.token, fund.fee, fund.amount)
        if fund.kind is FundKind.UNISWAP:
            assert table[other] == fund.other
        if fund.kind is not FundKind.INVENTORY:
            assert table[source] == fund.source
    for minimum in batch.minimums:
        assert (table[reader.number(1)], reader.number(16)) == (minimum.token, minimum.gain)
    for group in batch.groups:
        size = reader.number(2)
        start = reader.at
        protocol, pool, collateral, debt, debt_token, check = (reader.number(1) for _ in range(6))
        assert (protocol, check) == (group.protocol, group.check)
        assert [table[i] for i in (pool, collateral, debt)] == [
            group.pool,
            group.collateral,
            group.debt,
        ]
        if check:
            assert table[debt_token] == group.debt_token
        assert (reader.number(1), reader.number(1)) == (len(group.items), len(group.actions))
        assert (reader.number(4), reader.number(4)) == (group.item_gas, group.group_gas)
        for item in group.items:
            assert reader.take(20) == item.borrower
            assert reader.number(12, signed=True) == item.minimum_gain
            assert (reader.number(16), reader.number(16)) == (item.repay, item.minimum_debt)
        for action in group.actions:
            check_action(reader, action, table)
        assert reader.at == start + size
    assert reader.at == len(reader.data)


@given(BATCHES)
def test_the_calldata_is_what_eth_abi_makes(batch: Batch) -> None:
    assert encode_run(batch) == keccak(b"run(bytes)")[:4] + encode(["bytes"], [pack(batch)])


GROUP = Group(
    OTHERS[0],
    TOKENS[0],
    TOKENS[1],
    (Item(OTHERS[1], 1),),
    (Swap(OTHERS[2], 500, TOKENS[0], TOKENS[1]),),
    1,
    1,
)
BATCH = Batch(1, TOKENS, (GROUP,))


def numbered(n: int) -> tuple[Item, ...]:
    return tuple(Item(Address(i.to_bytes(20, "big")), 1) for i in range(n))


def test_a_hundred_items_fit_in_one_group_or_in_a_group_each() -> None:
    bounds = liquidator().bounds
    one_group = replace(BATCH, groups=(replace(GROUP, items=numbered(100)),))
    assert len(pack(one_group)) < bounds["max_group"]
    alone = tuple(replace(GROUP, items=(item,)) for item in numbered(100))
    assert len(pack(replace(BATCH, groups=alone))) < bounds["max_batch"]
    # The longest: every group has one item and a swap, every table is full.
    spread = bounds["max_addresses"] * 20 + bounds["max_funds"] * 23 + bounds["max_minimums"] * 17
    assert 48 + spread + 100 * (2 + 16 + 64 + 40) <= bounds["max_batch"]


LONG = Call(OTHERS[3], bytes(9000), TOKENS[0], TOKENS[1])
MANY = tuple(Address(i.to_bytes(20, "big")) for i in range(1, 80))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            replace(BATCH, groups=(replace(GROUP, items=numbered(101)),)),
            "101 items, the contract takes 100",
        ),
        (replace(BATCH, groups=(GROUP,) * 101), "101 groups"),
        (
            replace(BATCH, groups=(replace(GROUP, actions=GROUP.actions * 2),) * 99),
            "bytes of a batch",
        ),
        (replace(BATCH, tokens=MANY[:17]), "17 tokens"),
        (replace(BATCH, tokens=TOKENS + TOKENS[:1]), "listed twice"),
        (replace(BATCH, tokens=TOKENS[:1]), "not listed"),
        (replace(BATCH, funds=(Fund(FundKind.INVENTORY, TOKENS[0], 1),) * 5), "5 funds"),
        (replace(BATCH, minimums=(Minimum(TOKENS[0], 1),) * 17), "17 minimums"),
        (replace(BATCH, minimums=(Minimum(TOKENS[0], -1),)), "minimum gain -1"),
        (replace(BATCH, groups=(replace(GROUP, actions=GROUP.actions * 17),)), "17 actions"),
        (replace(BATCH, groups=(replace(GROUP, actions=(LONG,)),)), "bytes of a group"),
        (replace(BATCH, groups=(replace(GROUP, items=()),)), "at least one item"),
        (replace(BATCH, groups=(GROUP, replace(GROUP, items=()))), "at least one item"),
        (replace(BATCH, groups=tuple(replace(GROUP, pool=a) for a in MANY[:70])), "addresses"),
        (replace(BATCH, tip=2**128), "tip"),
        (replace(BATCH, deadline=-1), "deadline"),
        (replace(BATCH, groups=(replace(GROUP, items=(Item(OTHERS[1], 2**128),)),)), "repay"),
        (
            replace(BATCH, groups=(replace(GROUP, items=(Item(OTHERS[1], 1, 0, 2**95),)),)),
            "minimum gain",
        ),
        (
            replace(BATCH, groups=(replace(GROUP, actions=(replace(LONG, data=b"abc"),)),)),
            "selector",
        ),
        (
            replace(
                BATCH,
                groups=(replace(GROUP, actions=(replace(LONG, data=bytes(40), patch_at=9),)),),
            ),
            "patch_at 9",
        ),
        (
            replace(
                BATCH,
                groups=(replace(GROUP, actions=(replace(LONG, data=bytes(40), patch_at=3),)),),
            ),
            "patch_at 3",
        ),
    ],
)
def test_what_the_contract_cannot_take_is_refused_by_name(batch: Batch, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        encode_run(batch)


FOR_ALL = Template(b"call", amount=False, together=True, view=b"view")


@pytest.mark.parametrize(
    "wrong",
    [{"view": b""}, {"amount": True}, {"value": True}, {"middle": b"m"}, {"closing": b"c"}],
)
def test_a_call_for_all_takes_the_borrowers_alone(wrong: dict[str, Any]) -> None:
    def called(template: Template) -> Batch:
        group = replace(GROUP, protocol=Protocol.CALL, check=Check.VIEW, template=template)
        return replace(BATCH, groups=(group,))

    assert encode_run(called(FOR_ALL))
    with pytest.raises(BatchError, match="call for all"):
        encode_run(called(replace(FOR_ALL, **wrong)))


def test_shares_and_amounts() -> None:
    assert exactly(7) == Amount(AmountMode.EXACT, 7)
    assert share_of_gain(WAD).value == WAD
    for bad in (0, WAD + 1, -1):
        with pytest.raises(ValueError, match="share"):
            share_of_gain(bad)


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.integers(-(2**127), 2**127 - 1), st.binary(min_size=4, max_size=4)
        ),
        max_size=5,
    ),
    st.lists(st.integers(-(2**255), 2**255 - 1), max_size=5),
)
def test_results_read_back(words, gains) -> None:
    packed = [
        ok << 255 | int.from_bytes(why, "big") << 128 | gain % 2**128 for ok, gain, why in words
    ]
    data = encode(
        ["uint256[]", "uint256[]", "int256[]", "uint256", "uint256"],
        [packed, packed[:1], gains, 7, 8],
    )
    result = decode_run(data)
    expected = [(ok, gain, why if any(why) else b"") for ok, gain, why in words]
    assert [(item.ok, item.gain, item.reason) for item in result.items] == expected
    assert [(g.ok, g.gain, g.reason) for g in result.groups] == expected[:1]
    assert (result.gains, result.tip, result.refill) == (tuple(gains), 7, 8)


def test_other_return_data_is_refused() -> None:
    for data in (b"", b"\1" * 31, b"\xff" * 320):
        with pytest.raises(ValueError, match="not an answer"):
            decode_run(data)


def test_only_the_runs_of_our_contract_are_read_from_a_receipt() -> None:
    data = encode(
        ["uint256"] * 4 + ["address[]", "int256[]"],
        [0b101, 1, 3, 4, ["0x" + TOKENS[0].hex(), "0x" + TOKENS[1].hex()], [-5, 6]],
    )
    ours = Log(OTHERS[0], (RAN, bytes(12) + OTHERS[1]), data, 1, Hash(bytes(32)), 0)
    others = [
        ours._replace(address=OTHERS[2]),
        ours._replace(topics=(bytes(32),)),
        ours._replace(topics=()),
    ]
    (event,) = decode_receipt_logs([*others, ours], OTHERS[0])
    assert (event.operator, event.items, event.groups) == (OTHERS[1], (0, 2), (0,))
    assert event.gains == {TOKENS[0]: -5, TOKENS[1]: 6}
    assert (event.tip, event.refill) == (3, 4)
    abi = {entry["name"]: entry for entry in liquidator().abi if entry["type"] == "event"}
    inputs = ",".join(i["type"] for i in abi["Ran"]["inputs"])
    assert keccak(f"Ran({inputs})".encode()) == RAN


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", "no reason given"),
        ("930bb771", "Aave HealthFactorNotBelowThreshold"),
        ("cbcb2256", "DebtBelowMinimum: skipped"),
        ("857449c1", "GroupLoss"),
        ("08c379a0", "reverted with a message"),
        ("08c379a0ff", "unreadable message"),
        ("08c379a0" + encode(["string"], ["STF"]).hex(), "STF"),
        ("4e487b71", "panic"),
        ("4e487b71" + f"{0x11:064x}", "panic 0x11: arithmetic overflow"),
        ("4e487b71" + f"{0x99:064x}", "panic 0x99: unknown"),
        ("deadbeef", "unknown error 0xdeadbeef"),
    ],
)
def test_reasons_are_told_in_words(data: str, told: str) -> None:
    assert told in explain_reason(bytes.fromhex(data))


def test_the_flash_payload_is_the_batch_itself() -> None:
    packed = pack(BATCH)
    assert decode(["bytes"], encode_run(BATCH)[4:]) == (packed,)


def test_a_plan_without_its_tip_is_the_batch_without_it() -> None:
    batch = replace(BATCH, tip=7 * 10**15, tip_share=123)
    plan = Plans().make()
    tipped = replace(
        plan,
        calldata=encode_run(batch),
        bid=replace(plan.bid, tip=Wei(batch.tip)),
        tips=(Wei(batch.tip),),
    )
    plain = untipped(tipped)
    assert plain.calldata == encode_run(replace(batch, tip=0, tip_share=0))
    assert (plain.bid.tip, plain.tips) == (0, ())
    assert untipped(plan) is plan
