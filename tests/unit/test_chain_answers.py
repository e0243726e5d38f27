"""What a node's words are worth: about a block it lacks, about what it dropped, about a call."""

import pytest

from keeper.chain.answers import Kind, kind_of_error
from keeper.errors import RpcError

HASH = "0x" + "ab" * 32

LACKS = [
    (-32000, "header not found"),
    (-32000, "header for hash not found"),
    (-32000, "missing trie node ab (path )"),
    (-32000, "historical state ab is not available"),
    (-32000, "required historical state unavailable (reexec=128)"),
    (-32000, "World state unavailable"),
    (-32001, f"block not found: hash {HASH}"),
    (-32001, f"{HASH} could not be found"),
    (-32000, "4294967295 could not be found"),
    (-32002, f"No state available for block {HASH}"),
    (-32002, f"No state available for block 21000000 ({HASH})"),
    (-32001, "Receipt not available for 'To' block '11052984'."),
    (-32603, "upstream does not have the requested block yet"),
    (-32000, "One of the blocks specified in filter (fromBlock, toBlock) cannot be found."),
    (-32602, "block range extends beyond current head block"),
]
DROPPED = [
    (4444, "pruned history unavailable"),
    (4444, "gone"),
    (-32000, "history has been pruned for this block"),
    (-32000, "state at block #5 is pruned"),
    (-32000, "old data not available due to pruning"),
    (-32000, "state transition failed: data before txNum=2662500000 is not available"),
    (-32001, "Receipt not available for 'From' block '11052984'."),
    (-32001, "Receipt not available for From block 11052984."),
]
FINAL = [
    (3, f"{HASH} could not be found"),
    (3, "pruned"),
    (-32000, "execution reverted: No state available for block 5"),
    (-32000, "VM Exception while processing transaction: revert history pruned"),
    (-32000, "out of gas"),
    (-32000, "invalid opcode: INVALID"),
    (-32000, "insufficient funds for gas * price + value"),
    (-32000, "the position could not be found"),
    (-32000, "the method eth_simulateV1 could not be found"),
    (-32005, "block range is too large"),
]
WORDS = (
    [(Kind.UNKNOWN_BLOCK, *each) for each in LACKS]
    + [(Kind.DROPPED, *each) for each in DROPPED]
    + [(Kind.FINAL, *each) for each in FINAL]
    + [(Kind.UNSUPPORTED, -32601, "pruned"), (Kind.REFUSED, 403, "pruned")]
)


@pytest.mark.parametrize(("kind", "code", "message"), WORDS)
def test_words_are_told_apart(kind: Kind, code: int, message: str) -> None:
    assert kind_of_error(RpcError("eth_call", code, message)) is kind


@pytest.mark.parametrize(("_", "code", "message"), WORDS)
def test_what_a_call_returned_is_final_whatever_the_words(_: Kind, code: int, message: str) -> None:
    assert kind_of_error(RpcError("eth_call", code, message, b"\x01")) is Kind.FINAL
