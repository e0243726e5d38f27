"""Whatever a noun holds comes back from the record unchanged."""

from dataclasses import replace

import orjson
from hypothesis import given, settings, strategies as st

from keeper.journal.codec import dump, dump_whole, load, record_terms
from keeper.types import (
    Bid,
    Cause,
    CollateralLeg,
    DebtLeg,
    FlashKind,
    FlashSource,
    Head,
    Hop,
    NextBlock,
    Opportunity,
    Plan,
    Portion,
    Position,
    Quote,
    Reason,
    Seizure,
    Skip,
    Step,
    Token,
)
from tests.plans import PairTerms

numbers = st.integers(-(2**256), 2**256)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
addresses = st.binary(min_size=20, max_size=20)
hashes = st.binary(min_size=32, max_size=32)
tokens = st.builds(Token, addresses, texts, st.integers(0, 30))
terms = st.builds(PairTerms, tokens, tokens, st.integers(0, 2**200)).map(record_terms)
positions = st.builds(
    Position,
    texts,
    texts,
    addresses,
    st.lists(st.builds(CollateralLeg, tokens, *[numbers] * 4), max_size=3).map(tuple),
    st.lists(st.builds(DebtLeg, tokens, numbers, numbers), max_size=3).map(tuple),
    *[numbers] * 4,
)
found = st.builds(
    Opportunity,
    positions,
    st.lists(terms, max_size=2).map(tuple),
    st.sampled_from(Cause),
    texts,
)
opportunities = found.map(lambda one: replace(one, pairs=()))
quotes = st.builds(
    Quote,
    opportunities,
    st.lists(st.builds(Step, terms, numbers, st.builds(Seizure, *[numbers] * 3)), max_size=2).map(
        tuple
    ),
    st.lists(
        st.builds(
            Portion,
            st.lists(st.builds(Hop, texts, *[addresses] * 3), max_size=2).map(tuple),
            numbers,
        ),
        max_size=2,
    ).map(tuple),
    st.builds(FlashSource, st.sampled_from(FlashKind), addresses, addresses, numbers, numbers),
    tokens,
    *[numbers] * 9,
)
heads = st.builds(Head, numbers, hashes, hashes, *[numbers] * 4, st.binary(max_size=8))
skips = st.builds(Skip, texts, texts, addresses, st.sampled_from(Reason), texts, texts)
plans = st.builds(
    Plan,
    texts,
    texts,
    heads,
    st.builds(NextBlock, *[numbers] * 3),
    st.lists(quotes, max_size=2).map(tuple),
    st.builds(Bid, *[numbers] * 4),
    addresses,
    st.binary(max_size=40),
    *[numbers] * 6,
    st.lists(skips, max_size=2).map(tuple),
    st.dictionaries(addresses, numbers, max_size=3),
)


@settings(deadline=None, max_examples=100)
@given(found)
def test_an_opportunity_comes_back_with_its_pairs(opportunity: Opportunity) -> None:
    record = orjson.loads(orjson.dumps(dump_whole(opportunity)))
    assert load(Opportunity, record) == opportunity
    bare = orjson.loads(orjson.dumps(dump(opportunity)))
    assert load(Opportunity, bare) == replace(opportunity, pairs=())


@settings(deadline=None, max_examples=100)
@given(plans)
def test_a_plan_comes_back_equal(plan: Plan) -> None:
    assert load(Plan, orjson.loads(orjson.dumps(dump(plan)))) == plan


@settings(deadline=None, max_examples=30)
@given(plans)
def test_no_number_of_a_plan_is_a_json_number(plan: Plan) -> None:
    def walk(value: object) -> None:
        assert not isinstance(value, float)
        assert isinstance(value, bool) or not isinstance(value, int)
        if isinstance(value, dict):
            for entry in value.values():
                walk(entry)
        elif isinstance(value, list):
            for entry in value:
                walk(entry)

    walk(orjson.loads(orjson.dumps(dump(plan))))


@settings(deadline=None, max_examples=30)
@given(plans)
def test_a_record_from_before_a_defaulted_field_still_reads(plan: Plan) -> None:
    record = orjson.loads(orjson.dumps(dump(plan)))
    del record["prices"], record["skips"]
    assert load(Plan, record) == replace(plan, prices={}, skips=())
