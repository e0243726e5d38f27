"""What a liquidation of a cascade costs: whose loan, and which share of a batch's gas."""

from dataclasses import replace
from typing import Any

import pytest

from keeper.errors import ConfigError
from keeper.planning.gas import FUND, SWAP
from keeper.stress.costs import Costs
from keeper.stress.pools import Sale
from keeper.types import FlashKind, FlashSource, Hop, Prices, Step
from keeper.units import USD, Address, Usd, Wei
from tests.plans import GWEI, USDC, WETH, PairTerms, address, make_head, make_position, make_view

POOL, OTHER = address("pool"), address("other")
HOP = Hop("v3", POOL, WETH.address, USDC.address)
SALE = Sale(2_000 * 10**6, (((HOP,), 10**18),))
STEP = Step(PairTerms(), 1_000 * 10**6, PairTerms().seize(1_000 * 10**6))
WHO = make_position(address("one"))
PRICES = Prices("aave-v3", USD, {WETH.address: 2_000 * USD, USDC.address: USD})
CAP = 15_000_000


def source(kind: FlashKind, place: Address, ppm: int, available: int = 10**15) -> FlashSource:
    return FlashSource(kind, place, USDC.address, available, ppm)


AAVE, UNISWAP = FlashKind.AAVE, FlashKind.UNISWAP_V3


def costs(*sources: FlashSource, base_fee: int = GWEI, data_fee: Any = None) -> Costs:
    view = make_view(make_head())
    at = replace(view.next_block, base_fee=Wei(base_fee))
    view = replace(view, next_block=at, prices={"aave-v3": PRICES}, data_fee=data_fee)
    return Costs(view, lambda _: sources, Wei(0), CAP)


def gas(made: Costs, mates: int, prices: Prices = PRICES) -> Usd:
    lender = made.lender(STEP, SALE)
    assert lender is not None
    return made.gas_usd_up(WHO, STEP, SALE, lender, mates, prices)


def test_the_loan_is_the_cheapest_that_is_no_pool_of_the_sale() -> None:
    dear, cheap = source(AAVE, OTHER, 500), source(AAVE, POOL, 0)
    assert costs(dear, cheap).lender(STEP, SALE) == cheap
    pools = source(UNISWAP, POOL, 0), source(UNISWAP, OTHER, 100)
    assert costs(*pools, dear).lender(STEP, SALE) == pools[1]


def test_nobody_lends_more_than_there_is() -> None:
    assert costs(source(AAVE, OTHER, 5, 999 * 10**6)).lender(STEP, SALE) is None
    assert costs().lender(STEP, SALE) is None
    free = replace(STEP, seizure=replace(STEP.seizure, repaid=0))
    paid = costs().lender(free, SALE)
    assert paid is not None
    assert (paid.kind, paid.premium_up(0)) == (FlashKind.NONE, 0)


def test_gas_is_that_of_a_batch() -> None:
    """A bench measured 144,010 for each of twenty, and 510,000 or so for one alone."""
    made = costs(source(AAVE, OTHER, 5))
    twenty, alone = gas(made, 20), gas(made, 1)
    unit = GWEI * 2_000 * USD / 10**18
    assert twenty / unit == pytest.approx(144_010, rel=0.1)
    assert alone / unit == pytest.approx(562_000, rel=0.05)
    assert gas(made, 10_000) > twenty / 2, "a transaction holds so many at most"


def test_gas_follows_fees_ether_lender_and_sale() -> None:
    made = costs(source(AAVE, OTHER, 5))
    assert gas(costs(source(AAVE, OTHER, 5), base_fee=3 * GWEI), 1) == 3 * gas(made, 1)
    halved = replace(PRICES, values={WETH.address: 1_000 * USD, USDC.address: USD})
    assert gas(made, 1, halved) * 2 == gas(made, 1)
    elsewhere = Prices("other", 1, {USDC.address: 1})
    assert gas(made, 1, elsewhere) == gas(made, 1)
    morpho = costs(source(FlashKind.MORPHO, OTHER, 0))
    unit = GWEI * 2_000 * USD // 10**18
    assert gas(made, 1) - gas(morpho, 1) == unit * (FUND[AAVE] - FUND[FlashKind.MORPHO])
    lender = made.lender(STEP, SALE)
    assert lender is not None
    kept = made.gas_usd_up(WHO, STEP, Sale(0, ()), lender, 1, PRICES)
    assert gas(made, 1) - kept == unit * SWAP


class Posting:
    """Charges a finney for each byte."""

    def wei_up(self, size: int, gas: int) -> Wei:
        return Wei(size * 10**15)


def test_a_rollup_posts_each_call() -> None:
    plain, posted = costs(source(AAVE, OTHER, 5)), costs(source(AAVE, OTHER, 5), data_fee=Posting())
    one, twenty = gas(posted, 1) - gas(plain, 1), gas(posted, 20) - gas(plain, 20)
    assert 0 < twenty < one / 2


def test_gas_cannot_be_weighed_without_a_price() -> None:
    view = replace(make_view(make_head()), prices={"m": Prices("m", 1, {})})
    with pytest.raises(ConfigError, match="no market of test prices WETH"):
        Costs(view, lambda _: (), Wei(0), CAP)
