"""One Clipper's ledger, its positions, and what may be called on them."""

from dataclasses import replace

import pytest

from keeper.chain.words import selector
from keeper.errors import InvariantError, UndecodableError
from keeper.protocols.maker_clip import notes, rules, snapshot
from keeper.protocols.maker_clip.dutch import Linear, Stairstep
from keeper.protocols.maker_clip.ledger import TAKE, YANK, Kind, Ledger, Sale, Urn
from keeper.protocols.maker_clip.terms import RewardTerms, TakeTerms, Way
from keeper.protocols.maker_clip.valuation import Judge, Timing, left
from keeper.types import CallResult, Log, Reason, Token
from keeper.units import MAX_UINT256, RAY, WAD, Address, Hash

CLIP, VAT, OWNER, OTHER = (Address(bytes([n]) * 20) for n in (0xC1, 0xFA, 0x0A, 0x0B))
ILK = b"WETH-A".ljust(32, b"\0")
WETH = Token(Address(b"\1" * 20), "WETH", 18)
DAI = Token(Address(b"\2" * 20), "DAI", 18)
RAD = WAD * RAY
FIGURES = rules.Figures(
    calculator=Stairstep(99 * RAY // 100, 90),
    tail=8_400,
    cusp=4 * RAY // 10,
    chost=5_650 * RAD,
    stopped=0,
    tip=100 * RAD,
    chip=WAD // 1_000,
    room=10**6 * RAD,
    chop=113 * WAD // 100,
    barks=True,
)
SALE = Sale(20_000 * RAD, 10 * WAD, 1_000, 2_400 * RAY)
TIMING = Timing(slippage_bps=100, cost=20 * WAD, survival_ppm=0)


def ledger() -> Ledger:
    return Ledger("clip", CLIP, VAT, ILK, kind=Kind(RAY, 1_400 * RAY, 5_000 * RAD))


def judge(held: Ledger, timestamp: int = 1_000, feed: int = 2_000, **figures) -> Judge:
    now = replace(FIGURES, **figures)
    return Judge("clip", "maker-clip", WETH, DAI, held, held.kind, now, feed * WAD, timestamp)


def note(signature: str, *words: bytes | int) -> Log:
    """Return the note of a call of the Vat, as its contract writes it."""
    packed = [
        (each % 2**256).to_bytes(32, "big") if isinstance(each, int) else each.rjust(32, b"\0")
        for each in words
    ]
    call = selector(signature) + b"".join(packed)
    data = (32).to_bytes(32, "big") + (224).to_bytes(32, "big") + call.ljust(224, b"\0")
    topics = (call[:4].ljust(32, b"\0"), *packed[:3])
    return Log(VAT, topics, data, 7, Hash(b"h" * 32), 0)


FROB = "frob(bytes32,address,address,address,int256,int256)"
FORK = "fork(bytes32,address,address,int256,int256)"


def test_notes_of_the_vat_change_urns_and_what_holds_for_all_and_are_taken_back() -> None:
    held = ledger()
    before = held.kind
    undos = [
        held.fold(log)
        for log in (
            note(FROB, ILK, OWNER, OWNER, OWNER, 5 * WAD, 6_000 * WAD),
            note(FROB, ILK, OWNER, OWNER, OWNER, 0, -1_000 * WAD),
            note(FORK, ILK, OWNER, OTHER, 2 * WAD, 2_000 * WAD),
            note(FORK, ILK, OTHER, OTHER, WAD, WAD),
            note(
                "grab(bytes32,address,address,address,int256,int256)",
                ILK,
                OTHER,
                CLIP,
                CLIP,
                -2 * WAD,
                -2_000 * WAD,
            ),
            note("fold(bytes32,address,int256)", ILK, OWNER, 7),
            note("file(bytes32,bytes32,uint256)", ILK, b"spot".ljust(32, b"\0"), 1_500 * RAY),
            note("file(bytes32,bytes32,uint256)", ILK, b"dust".ljust(32, b"\0"), 9),
        )
    ]
    assert held.urns == {OWNER: Urn(3 * WAD, 3_000 * WAD)}
    assert held.kind == Kind(RAY + 7, 1_500 * RAY, 9)
    assert held.touched == {OWNER, OTHER}
    assert held.fold(note(FROB, b"X" * 32, OWNER, OWNER, OWNER, 1, 1)) is None
    assert (
        held.fold(note("file(bytes32,bytes32,uint256)", ILK, b"line".ljust(32, b"\0"), 9)) is None
    )
    for undo in reversed(undos):
        assert undo is not None
        undo()
    assert not held.urns
    assert held.kind == before


def test_a_note_that_makes_no_sense_stops_the_market() -> None:
    held = ledger()
    good = note(FROB, ILK, OWNER, OWNER, OWNER, -1, 0)
    with pytest.raises(UndecodableError, match="less than nothing"):
        held.fold(good)
    with pytest.raises(UndecodableError, match="no note"):
        held.fold(good._replace(data=good.data[:100]))
    assert not held.urns
    take = (TAKE, (7).to_bytes(32, "big"), OWNER.rjust(32, b"\0"))
    with pytest.raises(UndecodableError, match="not there"):
        held.fold(Log(CLIP, take, bytes(160), 1, Hash(b"h" * 32), 0))


@pytest.mark.parametrize("is_indexed", [False, True])
def test_a_yanked_auction_is_gone_and_comes_back_on_undo(is_indexed: bool) -> None:
    """The Clipper does not index the number; forks may."""
    held = ledger()
    held.sales[7] = SALE
    number = (7).to_bytes(32, "big")
    topics, data = ((YANK, number), b"") if is_indexed else ((YANK,), number)
    log = Log(CLIP, topics, data, 1, Hash(b"h" * 32), 0)
    assert held.fold(log._replace(address=VAT)) is None
    undo = held.fold(log)
    assert held.sales == {}
    assert held.touched == {held.name_of(7)}
    assert undo is not None
    undo()
    assert held.sales == {7: SALE}


def test_auctions_of_two_clippers_have_two_names() -> None:
    one, other = ledger(), Ledger("other", OTHER, VAT, ILK)
    assert one.name_of(7) != other.name_of(7)
    assert one.number_of(one.name_of(7)) == 7
    assert other.number_of(one.name_of(7)) is None
    assert one.name_of(7)[12:] == (7).to_bytes(8, "big")


def test_what_is_frozen_is_read_back_and_of_no_other_clipper() -> None:
    held = ledger()
    held.sales[7] = SALE
    held.urns = {Address(n.to_bytes(20, "big")): Urn(n, 2 * n) for n in range(1, 5_000)}
    pages = list(snapshot.pages(held)())
    assert len(pages) == 3
    again = snapshot.restored(pages, ledger())
    assert (again.sales, again.urns, again.kind) == (held.sales, held.urns, held.kind)
    with pytest.raises(InvariantError, match="another Clipper"):
        snapshot.restored(pages, Ledger("other", OTHER, VAT, ILK))
    with pytest.raises(InvariantError, match="cannot be read"):
        snapshot.restored([b"{}"], ledger())


def test_an_unsafe_urn_is_barked_at_for_the_reward() -> None:
    held = ledger()
    held.urns[OWNER] = Urn(10 * WAD, 15_000 * WAD)
    found = judge(held)
    position = found.position(OWNER)
    assert position is not None
    assert position.health == WAD * 14 // 15
    ((terms,), skips) = found.pairs(position, TIMING)
    assert not skips
    assert isinstance(terms, RewardTerms)
    assert (terms.way, terms.scaled_debt) == (Way.BARK, 15_000 * WAD)
    assert terms.seize(1).received == terms.reward == 116_950 * WAD // 1_000
    after = left(position, terms, 1)
    assert (after.collateral, after.debt) == ((), ())


def test_health_is_below_one_exactly_when_the_dog_may_bark() -> None:
    held = ledger()
    held.urns[OWNER] = Urn(10 * WAD, 14_000 * WAD)
    safe = judge(held).position(OWNER)
    held.urns[OWNER] = Urn(10 * WAD, 14_000 * WAD + 1)
    unsafe = judge(held).position(OWNER)
    assert safe is not None
    assert unsafe is not None
    assert unsafe.health < WAD <= safe.health


def test_a_bark_of_a_part_leaves_an_urn_that_is_not_barked_at_again() -> None:
    held = ledger()
    held.urns[OWNER] = Urn(10 * WAD, 15_000 * WAD)
    found = judge(held, room=11_300 * RAD)
    position = found.position(OWNER)
    assert position is not None
    ((terms,), _) = found.pairs(position, TIMING)
    after = left(position, terms, 1)
    assert after.collateral[0].amount == 10 * WAD - 10 * WAD * 10_000 // 15_000
    assert after.debt[0].amount == 5_000 * WAD
    assert found.pairs(after, TIMING)[1][0].reason is Reason.DENIED


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"stopped": 1}, Reason.PAUSED),
        ({"barks": False}, Reason.PAUSED),
        ({"room": 0}, Reason.NO_LIQUIDITY),
        ({"room": 4_520 * RAD}, Reason.DUST),
        ({"tip": 0, "chip": 0}, Reason.UNPROFITABLE),
    ],
)
def test_what_is_not_barked_at_has_a_reason(figures, reason: Reason) -> None:
    held = ledger()
    held.urns[OWNER] = Urn(10 * WAD, 15_000 * WAD)
    found = judge(held, **figures)
    position = found.position(OWNER)
    assert position is not None
    pairs, (skip,) = found.pairs(position, TIMING)
    assert not pairs
    assert skip.reason is reason


def test_what_ended_is_started_anew_for_the_reward_if_there_is_one() -> None:
    held = ledger()
    held.sales[7] = SALE
    name = held.name_of(7)
    ended = 1_000 + 8_401
    for figures, reason in (
        ({}, None),
        ({"stopped": 2}, Reason.PAUSED),
        ({"chost": 20_001 * RAD}, Reason.UNPROFITABLE),
        ({"tip": 0, "chip": 0}, Reason.UNPROFITABLE),
    ):
        found = judge(held, ended, **figures)
        position = found.position(name)
        assert position is not None
        pairs, skips = found.pairs(position, TIMING)
        assert [skip.reason for skip in skips] == ([] if reason is None else [reason])
        if reason is None:
            (terms,) = pairs
            assert isinstance(terms, RewardTerms)
            assert (terms.way, terms.reward) == (Way.REDO, 120 * WAD)
            after = left(position, terms, 1)
            assert after.health == MAX_UINT256
            assert found.pairs(after, TIMING)[1][0].reason is Reason.DENIED


def test_an_auction_whose_price_fell_to_nothing_is_left_alone() -> None:
    held = ledger()
    held.sales[7] = SALE
    found = judge(held, 1_000 + 100, calculator=Linear(100), cusp=0)
    position = found.position(held.name_of(7))
    assert position is not None
    pairs, (skip,) = found.pairs(position, TIMING)
    assert not pairs
    assert skip.detail == "its price fell to nothing"


def taking() -> tuple[Judge, TakeTerms]:
    held = ledger()
    held.sales[7] = SALE
    found = judge(held, 1_000 + 40 * 90)
    position = found.position(held.name_of(7))
    assert position is not None
    ((terms,), _) = found.pairs(position, TIMING)
    assert isinstance(terms, TakeTerms)
    return found, terms


def test_a_take_costs_what_maker_asks_and_its_parts_leave_what_maker_wants() -> None:
    found, terms = taking()
    price = terms.price
    assert price == found.figures.auction(SALE).price_at(found.timestamp)
    assert terms.maximum == -(-10 * WAD * price // RAY)
    whole = terms.seize(terms.maximum)
    assert (whole.received, whole.repaid) == (10 * WAD, terms.maximum)
    half = terms.legal_down(terms.maximum // 2)
    seized = terms.seize(half)
    assert half <= terms.maximum // 2
    assert seized.repaid == half
    assert seized.received * price <= half * RAY < (seized.received + 1) * price
    # 5,650 has to be left of the 20,000 that are wanted.
    most = terms.seize(terms.legal_down(terms.maximum - 1))
    assert most.received == 14_350 * RAD // price or most.received * price <= 14_350 * RAD
    assert terms.legal_down(0) == 0
    small = replace(terms, auction=replace(terms.auction, tab=5_000 * RAD))
    assert small.legal_down(small.maximum // 2) == 0
    assert small.legal_down(small.maximum) == small.maximum


def test_a_part_leaves_the_rest_on_the_same_terms() -> None:
    found, terms = taking()
    position = found.position(found.ledger.name_of(7))
    assert position is not None
    repay = terms.legal_down(terms.maximum // 3)
    after = left(position, terms, repay)
    bought = terms.seize(repay).received
    assert after.state == (SALE.tab - bought * terms.price, SALE.lot - bought)
    ((more,), _) = found.pairs(after, TIMING)
    assert isinstance(more, TakeTerms)
    assert (more.auction.tab, more.auction.lot) == after.state
    assert left(position, terms, terms.maximum).collateral == ()


def answer(*words: int) -> CallResult:
    return CallResult(True, b"".join(word.to_bytes(32, "big") for word in words))


def test_figures_that_are_not_told_are_none_and_room_is_the_lesser_one() -> None:
    clip = int.from_bytes(CLIP, "big")
    own = [answer(each) for each in (8_400, 4 * RAY // 10, 1, 0, 2, 3)]
    dog = [answer(each) for each in (100, 40, 1)]
    milk = answer(clip, WAD, 70, 30)
    stairs = [answer(99 * RAY // 100), answer(90), CallResult(False, b"")]
    contracts = rules.Contracts(CLIP, OTHER, VAT, OWNER, ILK)
    named = answer(int.from_bytes(OTHER, "big"))
    told = [answer(1), named, *own, *dog, milk, *stairs]
    found = rules.figures_of(told, contracts)
    assert found is not None
    assert (found.room, found.barks, found.tip, found.chip) == (40, True, 2, 3)
    away = rules.figures_of([*told[:11], answer(clip + 1, WAD, 70, 30), *stairs], contracts)
    assert away is not None
    assert not away.barks
    for place in range(1, 12):
        lost = [*told[:place], CallResult(False, b""), *told[place + 1 :]]
        assert rules.figures_of(lost, contracts) is None
    assert rules.figures_of([*told[:12], *[CallResult(False, b"")] * 3], contracts) is None
    assert rules.figures_of(told, replace(contracts, dog=VAT)) is None


def test_topics_of_notes_are_selectors() -> None:
    assert bytes.fromhex("76088703").ljust(32, b"\0") == notes.FROB
    assert len(notes.TOPICS) == 5
