"""Base fees, fee history, rollups' data fees and the record of bids."""

from dataclasses import replace

import pytest

from keeper.fees import (
    ArbitrumFee,
    BidOutcome,
    BidRecord,
    FeeHistory,
    Inclusion,
    OpStackFee,
    parse_rewards,
    share_of,
)
from keeper.types import Head, NextBlock
from keeper.units import Bps, Hash, Wei

GWEI = 10**9
HEAD = Head(1, Hash(b""), Hash(b""), 1, Wei(1_000_000), 5_000_000, 60_000_000)


def extra(version: int, denominator: int, elasticity: int, least: int | None = None) -> bytes:
    """Return the extra data of an OP-stack header."""
    body = denominator.to_bytes(4, "big") + elasticity.to_bytes(4, "big")
    return bytes([version]) + body + (b"" if least is None else least.to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("used", "expected"),
    [(30_000_000, 1_000_000), (60_000_000, 1_125_000), (0, 875_000), (45_000_000, 1_062_500)],
)
def test_the_next_base_fee_is_eip_1559s(used: int, expected: int) -> None:
    assert replace(HEAD, gas_used=used).next_base_fee() == expected


@pytest.mark.parametrize(
    ("used", "data", "expected"),
    [
        # target 10m: half full falls by half of a 250th
        (5_000_000, b"", 998_000),
        (60_000_000, b"", 1_020_000),
        (20_000_000, extra(0, 50, 6), 1_020_000),
        (5_000_000, extra(0, 50, 6), 990_000),
        (5_000_000, extra(0, 0, 0), 998_000),
        (5_000_000, extra(1, 50, 6, 995_000), 995_000),
        (5_000_000, extra(1, 50, 6, 1), 990_000),
        (5_000_000, b"builder01", 998_000),
    ],
)
def test_an_op_stack_header_says_how_its_base_fee_moves(
    used: int, data: bytes, expected: int
) -> None:
    assert replace(HEAD, gas_used=used, extra=data).next_base_fee(Inclusion.OP_STACK) == expected


def test_extra_data_means_nothing_on_other_chains() -> None:
    written = replace(HEAD, extra=extra(0, 50, 6))
    assert written.next_base_fee() == HEAD.next_base_fee()
    assert HEAD.next_base_fee(Inclusion.ARBITRUM) == HEAD.base_fee


def test_a_maximum_outlives_full_blocks() -> None:
    at, full = NextBlock(2, 13, Wei(10 * GWEI)), replace(HEAD, base_fee=Wei(10 * GWEI))
    for blocks in range(1, 9):
        full = replace(full, gas_used=full.gas_limit)
        full = replace(full, base_fee=full.next_base_fee())
        assert at.base_fee_after(blocks) == full.base_fee
    assert at.base_fee_after(0) == at.base_fee
    assert 2.02 < at.base_fee_after(6) / at.base_fee < 2.03
    assert NextBlock(1, 1, Wei(1)).base_fee_after(3) == 4


def test_history_gives_the_median_of_blocks_that_paid() -> None:
    rows = parse_rewards((10, 50), [(1, 5), (0, 0), (3, 9), (2, 7)], (True, False, True, True))
    history = FeeHistory(9, (10, 50), rows)
    assert history.priority_fee(10) == 2
    assert history.priority_fee(11) == history.priority_fee(50) == 7
    assert history.priority_fee(51) is None
    assert FeeHistory(9, (10,), ()).priority_fee(10) is None


def test_a_history_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        parse_rewards((10, 50), [(1,)], (True,))
    with pytest.raises(ValueError, match="rows"):
        parse_rewards((10,), [(1,)], (True, False))


def test_the_l1_upper_bound_is_the_oracles() -> None:
    # signed 168, compressed 184: -42585600 + 836500 * 184 = 111330400; scaled 5227 * 16 * 20e9
    # + 1014213 * 3e9 = 1672640e9 + 3042639e9 = 4715279e9
    fee = OpStackFee(Wei(20 * GWEI), 5_227, Wei(3 * GWEI), 1_014_213)
    assert fee.upper_bound(100) == 111_330_400 * 4_715_279 * GWEI // 10**12
    # signed 68, compressed 84: below the least size, which is 100 bytes
    assert fee.upper_bound(0) == 100 * 10**6 * 4_715_279 * GWEI // 10**12
    assert fee.wei_up(100, 10**6) == fee.upper_bound(100)
    assert fee.gas_up(100, Wei(1)) == 0


def test_an_operator_fee_comes_on_top() -> None:
    fee = OpStackFee(Wei(0), 0, Wei(0), 0, Wei(700), Wei(3 * 10**9))
    assert fee.wei_up(100, 1_000_000) == 700 + 3_000_000
    assert fee.wei_up(100, 1) == 703


def test_arbitrums_component_is_priced_and_held_as_gas() -> None:
    fee = ArbitrumFee(Wei(16 * 25 * GWEI), Wei(GWEI // 100))
    # 916 + 84 bytes at 400 gwei, 1 % more; a tenth more at 7/8 of 0.1 gwei
    assert fee.wei_up(916, 0) == 1_000 * 400 * GWEI * 101 // 100
    assert fee.gas_up(916, Wei(GWEI // 10)) == -(-404_000 * GWEI * 11 // (10 * 87_500_000))
    assert fee.gas_up(916, Wei(GWEI // 100)) == -(-404_000 * GWEI * 11 // (10 * 10_000_000))


def test_who_orders_by_fee() -> None:
    assert [each for each in Inclusion if each.orders_by_fee] == [
        Inclusion.AUCTION,
        Inclusion.OP_STACK,
    ]


def test_a_record_counts_by_relay_and_share() -> None:
    record = BidRecord(
        (
            BidOutcome(Bps(1_000), won=True),
            BidOutcome(Bps(2_000), won=False),
            BidOutcome(Bps(3_000), won=False, relay="builder"),
            BidOutcome(Bps(4_000), won=True, relay="builder+other"),
        )
    )
    assert (record.wins(), record.losses()) == (2, 2)
    assert record.of("builder+other").wins() == 1
    assert (record.of("other").wins(), record.held_by("other").wins()) == (0, 1), "nobody's alone"
    assert (record.held_by("builder").wins(), record.held_by("build").wins()) == (1, 0)
    assert record.losses(high=2_000) == record.of("").losses() == 1
    assert record.of("builder").wins() == 0


def test_a_share_is_of_a_value() -> None:
    assert share_of(25, 100) == 2_500
    assert share_of(200, 100) == share_of(1, 0) == 10_000
    assert share_of(-1, 100) == 0
