"""What the doctor says of the seconds between two blocks, and what `init` makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from keeper.chain.reader import ChainReader
from keeper.doctor import State
from keeper.doctor.block_time import Pace, check_block_time, likely_block_time, measure_pace
from keeper.errors import RpcError
from keeper.types import Head
from tests.fake_node import header
from tests.plans import make_head

HEAD, NOW = 1_000, 10**9


class Headers:
    """A node whose header at a height is of a time that is told."""

    def __init__(self, time_of: Callable[[int], int]) -> None:
        self.time_of = time_of

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Serve one request for a header."""
        assert method == "eth_getBlockByNumber"
        number = int(params[0], 16)
        return header(head_at(number, self.time_of(number)))


def head_at(number: int, timestamp: int = NOW) -> Head:
    return replace(make_head(number), timestamp=timestamp)


def reader(time_of: Callable[[int], int]) -> ChainReader:
    return ChainReader(Headers(time_of))


@pytest.mark.parametrize(
    ("seconds", "block_time", "state", "said"),
    [
        (1_200, 12, State.OK, "12.00 s"),
        (1_290, 12, State.OK, "12.90 s"),
        (200, 2, State.OK, "2.00 s"),
        (200, 12, State.WARN, "2.00 s"),
        (200, 3, State.OK, "2.00 s"),
        (170, 2, State.OK, "1.70 s"),
        (500, 12, State.WARN, "5.00 s"),
        (1_200, 2, State.WARN, "12.00 s"),
        (25, 1, State.OK, "0.25 s"),
        (25, 2, State.OK, "0.25 s"),
        (25, 3, State.WARN, "0.25 s"),
        (0, 1, State.OK, "0.00 s"),
    ],
)
async def test_a_pace_far_from_what_is_set_is_warned_of(
    seconds: int, block_time: int, state: State, said: str
) -> None:
    asked = reader(lambda number: NOW - (HEAD - number) * seconds // 100)
    found, detail, hint = await check_block_time(asked, head_at(HEAD), block_time)
    assert (found, said in detail) == (state, True)
    assert (f"block_time = {Pace(seconds).rounded}" in hint) is (state is State.WARN)


async def test_a_young_chain_is_not_measured() -> None:
    asked = reader(lambda number: pytest.fail("nothing to compare with"))
    for number in (0, 99):
        head = head_at(number)
        assert await measure_pace(asked, head) is None
        assert (await check_block_time(asked, head, 12))[0] is State.OK


async def test_a_node_without_the_older_header_keeps_nobody_from_starting() -> None:
    def gone(number: int) -> int:
        raise RpcError("eth_getBlockByNumber", -32000, "header not found")

    state, detail, _ = await check_block_time(reader(gone), make_head(HEAD), 12)
    assert (state, "header not found" in detail) == (State.WARN, True)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 1), (25, 1), (149, 1), (150, 2), (200, 2), (1_212, 12)]
)
def test_a_pace_is_rounded_to_what_the_option_holds(seconds: int, expected: int) -> None:
    assert Pace(seconds).rounded == expected


@pytest.mark.parametrize(
    ("chain_id", "seconds", "expected"),
    [
        (8453, 200, 2),
        (1, 1_212, 12),
        (7, 500, 5),
        (7, 25, 1),
        (8453, 0, 2),
        (7, -5, 12),
        (31337, 360_000, 12),
        (10, None, 2),
    ],
)
async def test_init_writes_what_it_measures_or_what_is_known(
    chain_id: int, seconds: int | None, expected: int
) -> None:
    def time_of(number: int) -> int:
        if seconds is None:
            raise RpcError("eth_getBlockByNumber", -32000, "header not found")
        return NOW - seconds

    assert await likely_block_time(Headers(time_of), chain_id, head_at(HEAD)) == expected
