"""The Liquity V1 family's arithmetic: ratios, offset and redistribution, recovery mode, interest."""

import pytest
from hypothesis import given, settings, strategies as st

from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.ledger import Ledger, System, Trove, Whole
from keeper.protocols.liquity_v1.terms import LiquityTerms
from keeper.types import Token
from keeper.units import MAX_UINT256, WAD, Address

COIN = Token(Address(b"\x01" * 20), "WETH", 18)
USD = Token(Address(b"\x02" * 20), "MUSD", 18)
amounts = st.integers(1, 10**30)


def test_ratios_round_down_and_no_debt_is_the_highest() -> None:
    assert rules.ratio_down(11 * WAD, 20_000 * WAD, 2_000 * WAD) == 11 * WAD // 10
    assert rules.ratio_down(11 * WAD, 20_000 * WAD + 1, 2_000 * WAD) == 11 * WAD // 10 - 1
    assert rules.ratio_down(1, 0, WAD) == MAX_UINT256


def test_the_caller_is_paid_the_reserve_and_the_200th_part() -> None:
    whole = Whole(2 * WAD + 199, 3_000 * WAD, 5 * WAD)
    terms = LiquityTerms(COIN, USD, whole, 3_000 * WAD, 200 * WAD, 0, 1_500 * WAD)
    seizure = terms.seize(terms.legal_down(terms.maximum))
    assert (seizure.repaid, seizure.received) == (-200 * WAD, WAD // 100)
    assert seizure.received + seizure.protocol_fee == whole.collateral
    assert terms.legal_down(0) == 0
    worth = terms.bonus - 10_000
    assert worth == 10_000 * (200 * WAD + 15 * WAD)


def test_the_pool_pays_interest_first_and_its_share_of_the_collateral_goes_with_it() -> None:
    done = rules.resolve(201 * WAD, 900, 100, 400)
    rest = 201 * WAD - 201 * WAD // 200
    assert (done.offset_interest, done.offset_principal) == (100, 300)
    assert done.offset_collateral == rest * 400 // 1_000
    assert (done.spread_interest, done.spread_principal) == (0, 600)
    assert done.compensation + done.offset_collateral + done.spread_collateral == 201 * WAD


def test_an_empty_pool_spreads_all_and_a_deep_one_nothing() -> None:
    empty = rules.resolve(200, 10, 1, 0)
    assert (empty.offset_debt, empty.spread_collateral, empty.spread_principal) == (0, 199, 10)
    deep = rules.resolve(200, 10, 1, 11)
    assert (deep.offset_debt, deep.spread_collateral, deep.spread_principal) == (11, 0, 0)


RECOVERY = [
    # collateral, debt, pool; at 1,000 dollars: up to 100 % all is spread, whatever the pool holds
    (20, 20_000, 50_000, (0, 20_000, 0)),
    (19, 20_000, 0, (0, 20_000, 0)),
    # under 110 % as ever: what the pool can, the rest spread
    (21, 20_000, 50_000, (20_000, 0, 0)),
    (21, 20_000, 5_000, (5_000, 15_000, 0)),
    # from 110 % up to the system's 145 %: 22 of 25 coins for the debt, three are the owner's
    (25, 20_000, 20_000, (20_000, 0, 3)),
    (22, 20_000, 20_000, (20_000, 0, 0)),
]


@pytest.mark.parametrize(("coins", "debt", "pool", "wanted"), RECOVERY)
def test_recovery_mode(coins: int, debt: int, pool: int, wanted: tuple[int, int, int]) -> None:
    done = rules.resolve_in_recovery(
        coins * WAD, debt * WAD, pool * WAD, 1_000 * WAD, 145 * WAD // 100
    )
    assert done is not None
    assert (done.offset_debt, done.spread_principal, done.surplus) == tuple(
        each * WAD for each in wanted
    )
    taken = coins * WAD - done.surplus
    assert done.compensation == taken // 200
    assert done.compensation + done.offset_collateral + done.spread_collateral == taken


@pytest.mark.parametrize(
    ("coins", "pool"),
    [(29, 50_000), (30, 50_000), (25, 19_999)],
    ids=["at the system's ratio", "above it", "the pool cannot pay all"],
)
def test_recovery_mode_leaves_alone(coins: int, pool: int) -> None:
    found = rules.resolve_in_recovery(
        coins * WAD, 20_000 * WAD, pool * WAD, 1_000 * WAD, 145 * WAD // 100
    )
    assert found is None


@given(amounts, amounts, st.integers(0, 10**28), st.integers(0, 10**31))
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_on_the_way(
    collateral: int, principal: int, interest: int, pool: int
) -> None:
    done = rules.resolve(collateral, principal, interest, pool)
    held = done.compensation + done.offset_collateral + done.spread_collateral
    assert held == collateral
    assert done.offset_principal + done.spread_principal == principal
    assert done.offset_interest + done.spread_interest == interest
    assert done.offset_debt <= pool


def test_what_is_spread_keeps_the_error_of_its_division() -> None:
    done = rules.resolve(200, 10, 0, 0)
    once = rules.spread_down(rules.Spread(), done, 7)
    assert (once.collateral, once.collateral_error) == divmod(199 * WAD, 7)
    twice = rules.spread_down(once, done, 7)
    assert 7 * twice.collateral + twice.collateral_error == 2 * 199 * WAD
    assert rules.spread_down(once, rules.resolve(200, 10, 0, 10), 7) is once


def test_interest_is_of_the_principal_and_rounds_down() -> None:
    year = 31_556_952
    assert rules.interest_down(10_000, 100, 0, year) == 100
    assert rules.interest_down(10_000, 100, 0, year - 1) == 99
    assert rules.system_interest_down(10_000 * 100, 5, 5 + year) == 100


def test_a_trove_has_its_part_of_what_was_spread() -> None:
    system = System(collateral_total=3 * WAD, principal_total=5 * WAD, interest_total=WAD)
    trove = Trove(10, 100, 7, 4, 0, 0, WAD, 2 * WAD, 0)
    ledger = Ledger("m", system=system)
    assert ledger.whole(trove, 99) == Whole(10 + 4 * 2, 100 + 4 * 3, 7 + 4)
    # Without new principal no interest is pending either (getPendingDebt).
    same = trove._replace(principal_snapshot=5 * WAD)
    assert ledger.whole(same, 99) == Whole(18, 100, 7)


def test_the_system_s_ratio_counts_interest_to_the_second() -> None:
    system = System(
        active_collateral=15,
        default_collateral=5,
        active_principal=900,
        active_interest=10,
        default_principal=50,
        default_interest=5,
        numerator=10_000 * 31_556_952,
        accrued_at=100,
    )
    assert (system.debt_at(100), system.debt_at(107)) == (965, 972)
    assert system.ratio_down(WAD, 100) == 20 * WAD // 965
