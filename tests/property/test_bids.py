"""The default strategy never bids past what a liquidation brings, whatever others pay."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings, strategies as st

from keeper import Bid, BidOutcome, BidRecord, Bps, FeeHistory, Inclusion, Quote, Wei
from strategies.profitability import Profitability, shade
from tests.fake_market import GWEI, USDC, VALUES, WBTC, WETH, view
from tests.unit.test_strategy_profitability import make_quote

UNIT = {WETH: 10**18, USDC: 10**6, WBTC: 10**8}

records = st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), max_size=60).map(
    lambda rows: BidRecord(tuple(BidOutcome(Bps(share), won) for share, won in rows))
)
histories = st.none() | st.lists(st.integers(0, 10**4 * GWEI), min_size=3, max_size=3).map(
    lambda fees: FeeHistory(100, (10, 50, 90), (tuple(Wei(fee) for fee in sorted(fees)),))
)
options = st.fixed_dictionaries(
    {
        "tip_bps_of_profit": st.integers(0, 4_000),
        "largest_tip_bps_of_profit": st.integers(4_000, 9_000),
        "priority_percentile": st.integers(0, 90),
        "priority_fee_gwei": st.integers(0, 5),
        "largest_priority_fee_gwei": st.integers(0, 50_000),
        "full_blocks": st.integers(0, 32),
    }
)


@st.composite
def quotes(draw: Any, base_fee: int) -> Quote:
    """Return a quote that pays at the next base fee and a usual priority fee."""
    debt = draw(st.sampled_from(list(UNIT)))
    gas = draw(st.integers(100_000, 16_000_000))
    usual = draw(st.integers(0, GWEI))
    data_fee = draw(st.integers(0, UNIT[debt]))
    minimum = draw(st.integers(1, 100 * UNIT[debt]))
    spare = draw(st.integers(0, 10 * UNIT[debt]))
    price = VALUES[debt] * 10**18
    gas_cost = -(-gas * (base_fee + usual) * VALUES[WETH] * UNIT[debt] // price)
    made = make_quote(minimum + spare, debt, minimum)
    return replace(made, gas=gas, gas_cost=gas_cost + data_fee, data_fee=data_fee)


@settings(deadline=None, max_examples=300)
@given(
    base_fee=st.integers(1, 290 * GWEI),
    data=st.data(),
    option=options,
    history=histories,
    record=records,
    inclusion=st.sampled_from(list(Inclusion)),
)
def test_no_bid_passes_value_less_gas_less_minimum(
    base_fee: int,
    data: Any,
    option: dict[str, int],
    history: FeeHistory | None,
    record: BidRecord,
    inclusion: Inclusion,
) -> None:
    quote = data.draw(quotes(view(base_fee=base_fee).next_block.base_fee))
    seen = replace(
        view(base_fee=base_fee), fee_history=history, bid_record=record, inclusion=inclusion
    )
    bid = Profitability(Profitability.Config(**option)).bid(quote, seen)
    assert isinstance(bid, Bid)
    assert 0 <= bid.priority_fee <= bid.max_fee <= 300 * GWEI
    debt = quote.debt
    paid = quote.gas * (seen.next_block.base_fee + bid.priority_fee) + bid.tip
    left = quote.net + quote.gas_cost - quote.data_fee - quote.minimum_profit
    assert paid * VALUES[WETH] * UNIT[debt] <= left * VALUES[debt] * 10**18
    assert 0 <= bid.tip * 10_000 <= quote.net * option["largest_tip_bps_of_profit"]
    if debt != WETH or not inclusion.orders_by_fee:
        assert bid.tip == 0


@settings(deadline=None)
@given(first=st.integers(0, 9_000), more=st.integers(0, 9_000), record=records)
def test_a_share_stays_within_its_bounds_and_is_the_same_each_time(
    first: int, more: int, record: BidRecord
) -> None:
    largest = min(first + more, 9_000)
    share = shade(first, largest, record)
    assert 0 <= share <= largest
    assert share == shade(first, largest, record)
