"""Compound's arithmetic against worked figures, and each truncation on its own."""

from dataclasses import replace

import pytest

from keeper.protocols.compound_v2 import exponential as exp
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.ledger import Ledger, Pool
from keeper.protocols.compound_v2.terms import CompoundTerms
from keeper.protocols.compound_v2.valuation import Part, least_health, liquidity
from keeper.types import Token
from keeper.units import WAD, Address, Bps, Wad

SHARE = 28 * WAD // 1_000
WETH, USDC = (
    Token(Address(bytes([n]) * 20), s, d) for n, s, d in ((1, "WETH", 18), (2, "USDC", 6))
)
CETH, CUSDC = (Token(Address(bytes([n]) * 20), s, 8) for n, s in ((3, "cETH"), (4, "cUSDC")))


def test_interest_is_truncated_three_times() -> None:
    found = exp.accrue_down(WAD + 1, 1_000_003, 7, 10**9, 3, WAD // 3)
    assert found == exp.Accrued(WAD + 1 + 3 * 10**9, 1_000_003, 7)
    factor, borrows = 3 * 10**15, 999 * 10**18 + 1
    found = exp.accrue_down(2 * WAD + 1, borrows, 0, 10**15, 3, WAD // 3)
    interest = factor * borrows // WAD
    assert found.index == 2 * WAD + 1 + factor * (2 * WAD + 1) // WAD
    assert found.borrows == borrows + interest
    assert found.reserves == interest * (WAD // 3) // WAD


@pytest.mark.parametrize(
    ("rounded", "exact"),
    [
        (exp.borrow_balance_down(10, 3 * WAD, 2 * WAD), 15),
        (exp.borrow_balance_down(11, 3 * WAD, 2 * WAD), 16),
        (exp.exchange_rate_down(1_000, 500, 1, 7), 1_499 * WAD // 7),
        (exp.value_down(3, WAD // 2), 1),
        (exp.tokens_to_denom_down(WAD - 1, WAD - 1, WAD - 1), WAD - 3),
        (exp.seize_ratio_down(WAD + 1, WAD - 1, 3 * WAD, WAD), (WAD - 1) // 3),
        (exp.seize_down(WAD // 3, 4), 1),
        (exp.protocol_seize_down(1_000_001, SHARE), 28_000),
        (exp.treasury_seize_down(11_000_009, 11 * WAD // 10, WAD // 2), 500_000),
        (exp.redeem_down(101, WAD // 2, WAD // 10), 45),
    ],
)
def test_every_step_is_truncated(rounded: int, exact: int) -> None:
    assert rounded == exact


def test_nothing_is_divided_by_nothing() -> None:
    assert exp.exchange_rate_down(5, 0, 0, 0) == 0
    assert exp.seize_ratio_down(WAD, WAD, WAD, 0) == 0
    assert exp.borrow_balance_down(0, WAD, 0) == 0


def test_a_repay_for_a_seizure_is_the_largest() -> None:
    for ratio in (WAD // 3, 7 * WAD, 123_456_789):
        for seized in (1, 10, 10**12 + 7):
            repay = exp.repay_for_down(ratio, seized)
            assert exp.seize_down(ratio, repay) <= seized < exp.seize_down(ratio, repay + 1)


def part(
    number: int, factor: int, rates: tuple[int, int], debts: tuple[int, int], held: int
) -> Part:
    """Return a cToken at 2,000 dollars (18 decimals) or one dollar (6 decimals)."""
    token, underlying = ((CETH, WETH), (CUSDC, USDC))[number]
    price = (2_000 * WAD, WAD * 10**12)[number]
    terms = Terms(Wad(factor), Wad(11 * WAD // 10))
    return Part(number, token, underlying, terms, price, held, rates, debts)


def test_a_call_finds_interest_of_its_own_two_ctokens_alone() -> None:
    rate = 2 * 10**26
    ether = part(0, 8 * WAD // 10, (rate, rate + 10**24), (0, 0), 50 * 10**8)
    dollars = part(1, 0, (2 * 10**14, 2 * 10**14), (1_599 * 10**6, 1_609 * 10**6), 0)
    assert liquidity([ether, dollars]) == (1_600 * WAD, 1_599 * WAD)
    assert liquidity([ether, dollars], {0, 1}) == (1_608 * WAD, 1_609 * WAD)
    assert least_health([ether, dollars]) == 1_608 * WAD // 1_609
    # A call for the other collateral leaves the first as stored, and so finds less.
    other = replace(part(1, WAD, (2 * 10**14, 2 * 10**14), (0, 0), 5 * 10**9), id=2)
    assert liquidity([ether, dollars, other], {1, 2}) == (1_601 * WAD, 1_609 * WAD)
    assert least_health([ether, dollars, other]) == 1_601 * WAD // 1_609


def test_a_maximum_is_within_close_factor_and_balance() -> None:
    def terms(balance: int, limit: int, seize_share: int = 0, treasury: int = 0) -> CompoundTerms:
        return CompoundTerms(
            CETH, USDC, Bps(11_000), CUSDC.address, CETH.address, False, 11 * WAD // 10,
            10 * WAD, balance, limit, seize_share, treasury, 1_000, Address(b""), (),
        )  # fmt: skip

    assert terms(10**6, 500).maximum == 500
    assert terms(4_995, 500).maximum == 499
    assert terms(10**6, 500).legal_down(700) == 500
    assert terms(10**6, 0).legal_down(700) == 0
    assert terms(10**6, 500).seize(100).received == 1_000
    shared = terms(10**6, 500, seize_share=SHARE).seize(100)
    assert (shared.received, shared.protocol_fee) == (972, 28)
    treasury = terms(10**6, 500, treasury=WAD // 2).seize(110)
    assert (treasury.received, treasury.protocol_fee) == (1_050, 50)
    assert treasury.is_exact


def test_a_pool_counts_its_own_terms_or_the_core_ones() -> None:
    ledger = Ledger("m")
    made = CToken(0, CETH, WETH, False, WAD, 0, 0)
    ledger.list_ctoken(made)
    core, own = Terms(Wad(1), Wad(2)), Terms(Wad(3), Wad(4))
    ledger.set_terms(made, 0, core)
    assert ledger.terms_of(5, made) == core
    ledger.set_about(5, Pool(is_active=True, falls_back=True))
    assert ledger.terms_of(5, made) == core
    ledger.set_about(5, Pool(is_active=True, falls_back=False))
    assert ledger.terms_of(5, made) == Terms()
    undo = ledger.set_terms(made, 5, own)
    assert ledger.terms_of(5, made) == own
    ledger.set_about(5, Pool(is_active=False, falls_back=False))
    assert ledger.terms_of(5, made) == core
    undo()
    assert 5 not in made.terms
