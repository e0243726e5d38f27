"""What each era of Aave v3 does with known numbers, and where neighbours differ: there and nowhere else."""

import pickle
from dataclasses import fields
from itertools import pairwise

import pytest

from keeper.protocols.aave_v3.deployment import judge
from keeper.protocols.aave_v3.eras import ERAS, V35, Era, era_of
from keeper.protocols.aave_v3.v36 import SECONDS_PER_YEAR
from keeper.units import MAX_UINT256, RAY, WAD
from tests.aave_eras import terms

NAMES = list(ERAS)
EARLY, LATE = NAMES[:5], NAMES[5:]
CHANGES = {
    "3.1": {"has_grace", "has_virtual_balance"},
    "3.2": {"has_bitmaps", "has_stable_rates"},
    "3.3": {"repay_cap", "leftover", "writes_off", "has_deficit"},
    "3.4": {"debt_tokens", "compounded", "has_discounts"},
    "3.5": {
        *("supply_tokens", "debt_tokens", "supply_balance", "debt_balance", "scaled_supply"),
        *("scaled_debt", "supply_burn", "debt_burn", "debt_value", "least_debt", "health"),
        *("repaid_of", "accrues_kept"),
    },
    "3.6": {"supply_tokens", "debt_tokens", "has_ltv_zero", "counts_unweighted"},
    "3.7": {"seizure_rounding", "without_bonus", "fee_of", "has_sentinel"},
}
FACTS = ("has_grace", "has_bitmaps", "has_deficit", "has_ltv_zero")


@pytest.mark.parametrize("name", NAMES)
def test_interest_on_debt(name: str) -> None:
    old = NAMES.index(name) < NAMES.index("3.4")
    day = 1000136995684207123907444230 if old else 1000136995684421674802557900
    year = 1051265681539063650421944000 if old else 1051270833333333333333333333
    compounded = ERAS[name].compounded
    assert compounded(5 * 10**25, 86_400) == day
    assert compounded(5 * 10**25, SECONDS_PER_YEAR) == year
    assert compounded(5 * 10**25, 0) == RAY


@pytest.mark.parametrize("name", NAMES)
def test_ten_ether_against_seventeen_thousand_dollars(name: str) -> None:
    era = ERAS[name]
    health = era.health(20_000 * 10**8, 20_000 * 10**8 * 8_300, 17_000 * 10**8)
    assert health == (976470588235294118 if name in EARLY else 976470588235294117)
    pair = terms(era, 10 * WAD, 17_000 * 10**6, 2_000 * 10**8)
    assert pair.maximum == pair.legal_down(MAX_UINT256) == 8_500 * 10**6
    seizure = pair.seize(MAX_UINT256)
    assert (seizure.repaid, seizure.received) == (8_500 * 10**6, 4441250000000000000)
    assert seizure.protocol_fee == 21250000000000000


@pytest.mark.parametrize("name", NAMES)
def test_part_of_a_small_position(name: str) -> None:
    pair = terms(ERAS[name], WAD, 1_700 * 10**6, 1_999 * 10**8)
    if NAMES.index(name) < NAMES.index("3.3"):
        assert pair.maximum == 850 * 10**6
        assert pair.legal_down(900 * 10**6) == 850 * 10**6
    else:
        assert pair.maximum == 1_700 * 10**6
        assert pair.legal_down(900 * 10**6) == 700 * 10**6
        assert not pair._is_legal(900 * 10**6)


@pytest.mark.parametrize(("before", "name"), list(pairwise(NAMES)))
def test_an_era_is_the_one_before_but_for_what_it_changed(before: str, name: str) -> None:
    older, newer = ERAS[before], ERAS[name]
    changed = {
        each.name for each in fields(Era) if getattr(older, each.name) != getattr(newer, each.name)
    }
    assert changed - {"name", "revisions"} == CHANGES[name]


@pytest.mark.parametrize(
    ("revision", "name"),
    [
        *((1, "3.0"), (2, "3.0"), (3, "3.0"), (4, "3.1"), (5, "3.2"), (6, "3.3"), (7, "3.3")),
        *((8, "3.4"), (9, "3.5"), (10, "3.6"), (11, "3.7")),
    ],
)
def test_a_revision_names_its_era_when_the_pool_answers_like_it(revision: int, name: str) -> None:
    facts = {fact: getattr(ERAS[name], fact) for fact in FACTS}
    assert judge(revision, facts) == (ERAS[name], "")


def test_a_pool_that_answers_otherwise_is_followed_and_not_trusted() -> None:
    facts = dict.fromkeys(FACTS, False)
    era, doubt = judge(10, facts)
    assert (era.name, doubt) == ("3.0", "pool revision 10 does not answer as Aave v3.6 does")
    era, doubt = judge(12, dict.fromkeys(FACTS, True))
    assert (era.name, doubt) == ("3.7", "the rules of pool revision 12 are not known")
    assert era_of(12) is None


def test_an_era_travels_as_its_name() -> None:
    packed = pickle.dumps([V35] * 1_000)
    assert pickle.loads(packed)[999] is V35
    assert len(packed) < 3_000
