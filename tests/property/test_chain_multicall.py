"""The hand-packed multicall equals the ABI coder byte for byte."""

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given, strategies as st

from keeper.chain.multicall import decode_aggregate3, encode_aggregate3
from keeper.types import Call, CallResult
from keeper.units import Address

CALLS = st.lists(
    st.builds(
        Call,
        target=st.binary(min_size=20, max_size=20).map(Address),
        data=st.binary(max_size=200),
    ),
    max_size=20,
)
RESULTS = st.lists(
    st.builds(CallResult, ok=st.booleans(), data=st.binary(max_size=200)), max_size=20
)


@given(CALLS)
def test_encoding_equals_the_abi_coder(calls: list[Call]) -> None:
    rows = [("0x" + call.target.hex(), True, call.data) for call in calls]
    expected = bytes.fromhex("82ad56cb") + encode(["(address,bool,bytes)[]"], [rows])
    assert encode_aggregate3(calls) == expected


@given(RESULTS)
def test_decoding_reads_what_the_abi_coder_writes(results: list[CallResult]) -> None:
    answer = encode(["(bool,bytes)[]"], [[(each.ok, each.data) for each in results]])
    assert decode_aggregate3(answer) == results


@given(RESULTS.filter(bool), st.data())
def test_a_cut_answer_is_an_error_or_reads_the_same(
    results: list[CallResult], data: st.DataObject
) -> None:
    answer = encode(["(bool,bytes)[]"], [[(each.ok, each.data) for each in results]])
    cut = answer[: data.draw(st.integers(0, len(answer) - 1))]
    try:
        read = decode_aggregate3(cut)
    except ValueError:
        return
    # Only padding was cut.
    rows = [(each.ok, each.data) for each in read]
    assert rows == list(decode(["(bool,bytes)[]"], answer)[0])


def test_an_empty_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="cut short"):
        decode_aggregate3(b"")
