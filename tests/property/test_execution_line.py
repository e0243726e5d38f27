"""Fees, gas limits and nonces hold for every input."""

from hypothesis import given, settings, strategies as st

from keeper.execution.gas import FULL_BLOCKS, GAS_LIMIT_CAP, fees, gas_limit_up
from keeper.execution.nonce import NonceLine
from keeper.types import Head
from keeper.units import Hash, Wei

amounts = st.integers(0, 10**15)


@settings(deadline=None)
@given(base=st.integers(1, 10**13), priority=amounts, cap=amounts)
def test_fees_survive_full_blocks_and_never_pass_the_cap(
    base: int, priority: int, cap: int
) -> None:
    found = fees(Wei(base), Wei(priority), Wei(cap))
    if base > cap:
        assert found is None
        return
    assert found is not None
    assert base <= found.max_fee <= cap
    assert 0 <= found.priority_fee <= min(priority, found.max_fee)
    if found.max_fee < cap:
        assert found.priority_fee == priority
        fee = base
        for _ in range(FULL_BLOCKS):
            assert found.max_fee >= fee + priority
            full = Head(0, Hash(b""), Hash(b""), 0, Wei(fee), 30_000_000, 30_000_000)
            fee = full.next_base_fee()


@settings(deadline=None)
@given(before_refunds=st.integers(21_000, 13_000_000), refunded=st.integers(0, 5_000_000))
def test_the_gas_limit_covers_refunds_and_nested_calls(before_refunds: int, refunded: int) -> None:
    used = before_refunds - min(refunded, before_refunds // 5)
    limit = gas_limit_up(used)
    inside = limit
    for _ in range(2):
        inside -= inside // 64
    assert inside >= before_refunds or limit == GAS_LIMIT_CAP
    assert used * 5 // 4 < limit <= GAS_LIMIT_CAP


@settings(deadline=None, max_examples=300)
@given(
    start=st.integers(0, 5),
    foreign=st.integers(0, 3),
    steps=st.lists(st.sampled_from(["take", "give back", "mine", "recount"]), max_size=60),
    choice=st.randoms(use_true_random=False),
)
def test_a_nonce_is_held_once_and_no_gap_outlives_the_next_send(
    start: int, foreign: int, steps: list[str], choice: object
) -> None:
    line = NonceLine()
    mined, strangers = start, set(range(start, start + foreign))
    held: set[int] = set()
    line.synchronise(mined, mined + foreign, ())
    for step in steps:
        if step == "take":
            nonce = line.take()
            assert nonce not in held | strangers
            assert nonce >= mined
            assert set(range(mined, nonce)) <= held | strangers, "the lowest free one"
            held.add(nonce)
        elif step == "give back" and held:
            gone = choice.choice(sorted(held))  # type: ignore[attr-defined]
            held.remove(gone)
            line.give_back(gone)
        elif step == "mine" and mined in held | strangers:
            held.discard(mined)
            strangers.discard(mined)
            mined += 1
            line.confirm(mined)
        elif step == "recount":
            pending = mined
            while pending in held | strangers:
                pending += 1
            line.synchronise(mined, pending, held)
            strangers = {nonce for nonce in strangers if nonce < pending}
        assert line.confirmed == mined
