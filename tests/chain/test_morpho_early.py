"""Pre-liquidations: who let a contract act is taken between the two thresholds, as it foretells."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from keeper.chain.words import topic
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.morpho import Morpho, MorphoMarket, borrower
from keeper.errors import ConfigError
from keeper.protocols.morpho_blue import MorphoBlue
from keeper.protocols.morpho_blue.accounts import key_of
from keeper.protocols.morpho_blue.calls import PRE_LIQUIDATE
from keeper.protocols.morpho_blue.early import FIRST, EarlyTerms
from keeper.types import AllowedCall, FlashKind, Position
from keeper.units import WAD, Address, Hash, to_hex
from tests.chain.test_morpho_line import fall, playing
from tests.line import Play, assert_clean
from tests.margin_slide import WATCH, by_position, delivered, told
from tests.morpho import MorphoFollowing, configured, deployed, state
from tests.webhook import Hook

STAND_IN = Path(__file__).parent / "stand_ins" / "pre_liquidation.vy"
AUTHORIZE = "setAuthorization(address,bool)"
TAKEN = topic("PreLiquidate(bytes32,address,address,uint256,uint256,uint256)")
PERCENT = WAD // 100
ETH = 10**18
ALICE, BOB, CAROL = (borrower(number) for number in range(3))
Place = tuple[Devnet, Morpho, MorphoMarket, bytes]


@pytest.fixture(scope="module")
def place(devnet: Devnet) -> Iterator[Place]:
    """WETH at 2,500, thresholds of 80 and 86 %: Alice and Bob owe 1,950, Alice lets it act."""
    before = devnet.snapshot()
    morpho, market = deployed(devnet)
    vyper: Any = pytest.importorskip("vyper")
    output = vyper.compile_code(STAND_IN.read_text(), output_formats=["bytecode"])
    early = (80 * PERCENT, 40 * PERCENT, 90 * PERCENT, 101 * PERCENT, 104 * PERCENT, market.oracle)
    kinds = ["address", "(address,address,address,address,uint256)"]
    kinds.append("(uint256,uint256,uint256,uint256,uint256,address)")
    code = bytes.fromhex(output["bytecode"][2:])
    contract = devnet.deploy(code + encode(kinds, [morpho.address, market.params, early]))
    morpho.open(market, [(who, 10 * ETH, 19_500 * 10**6) for who in (ALICE, BOB)])
    morpho.open(market, [(CAROL, 10 * ETH, 1_000 * 10**6)])
    for who in (ALICE, CAROL):
        devnet.send(who, morpho.address, AUTHORIZE, [contract, True])
    yield devnet, morpho, market, contract
    devnet.revert(before)


@pytest.fixture
def put_back(place: Place) -> Iterator[Place]:
    net, *_ = place
    before = net.snapshot()
    yield place
    net.revert(before)


def early_position(following: MorphoFollowing, who: bytes) -> Position | None:
    key = key_of(FIRST, Address(who))
    return following.market.position(key, following.prices, following.at(12))


def test_the_line_between_the_thresholds() -> None:
    made = EarlyTerms(
        contract=Address(b"\1" * 20),
        id=Hash(b"\2" * 32),
        lltv=80 * PERCENT,
        close_low=10 * PERCENT,
        close_high=110 * PERCENT,
        incentive_low=101 * PERCENT,
        incentive_high=104 * PERCENT,
        oracle=Address(b"\3" * 20),
    )
    price, lltv = 10**36, 86 * PERCENT
    assert [made.is_open(10**9, price, owed * 10**6, lltv) for owed in (800, 801, 860, 861)] == [
        False,
        True,
        True,
        False,
    ]
    assert made.factors_down(10**9, price, 860 * 10**6, lltv) == (104 * PERCENT, 110 * PERCENT)
    assert made.factors_down(10**9, price, 830 * 10**6, lltv) == (
        1_025_000_000_000_000_000,
        60 * PERCENT,
    )


def test_who_authorised_is_followed_and_undone(put_back: Place) -> None:
    net, morpho, _, contract = put_back
    more: dict[str, Any] = {"pre_liquidations": [to_hex(contract)]}
    following = MorphoFollowing(net, morpho, **more)
    (early,) = following.ledger.early
    assert early.authorisers == {ALICE, CAROL}
    legs = following.market.all_legs()()
    assert len(legs.borrowers) == 5
    assert following.market.legs(key_of(FIRST, Address(BOB))) == ((), ())
    start = state(following.ledger)
    net.send(BOB, morpho.address, AUTHORIZE, [contract, True])
    net.send(CAROL, morpho.address, AUTHORIZE, [contract, False])
    following.market.changed()
    following.follow()
    assert early.authorisers == {ALICE, BOB}
    assert following.market.changed() == {key_of(FIRST, Address(who)) for who in (BOB, CAROL)}
    assert following.drifts() == []
    loaded = MorphoFollowing(net, morpho, **more)
    assert loaded.ledger.early[0].authorisers == {ALICE, BOB}
    other = MorphoBlue("morpho", configured(net, morpho, **more), 0, [early.terms])
    other.restore(following.market.snapshot()())
    assert other._ledger.early[0].authorisers == {ALICE, BOB}
    early.authorisers.discard(Address(ALICE))
    assert [drift.subject.rpartition(" ")[0][-10:] for drift in following.drifts()]
    early.authorisers.add(Address(ALICE))
    for _, _, undos in reversed(following.blocks):
        for undo in reversed(undos):
            undo()
    assert early.authorisers == {ALICE, CAROL}
    assert state(following.ledger) == start


@pytest.mark.parametrize("percent", [99, 95, 90])
@pytest.mark.parametrize("share", [1, 3])
def test_a_call_does_what_was_foretold(put_back: Place, percent: int, share: int) -> None:
    net, morpho, market, contract = put_back
    following = MorphoFollowing(net, morpho, pre_liquidations=[to_hex(contract)])
    price = market.quotient(net.price("WETH"), net.price("USDC")) * percent // 100
    morpho.set_price(market, price)
    allowed = [contract, 2**255]
    net.send(Cast.RIVAL, market.loan.address, "approve(address,uint256)", allowed)
    following.follow()
    position = early_position(following, ALICE)
    assert position is not None
    assert position.market.endswith(f"-pre-{contract[:4].hex()}")
    at = following.at(12)
    pairs, skips = following.market.pairs(position, following.prices, at)
    call = "preLiquidate(address,uint256,uint256,bytes)"
    if percent != 95:
        # above its threshold, or under Morpho's own
        assert (pairs, skips) == ([], [])
        assert position.health >= WAD
        assert not net.send(Cast.RIVAL, contract, call, [ALICE, 0, 1, b""], check=False).ok
        return
    over = [ALICE, 0, pairs[0].word(pairs[0].maximum) + 10**12, b""]
    assert not net.send(Cast.RIVAL, contract, call, over, check=False).ok
    following.follow()
    position = early_position(following, ALICE)
    assert position is not None
    ((terms,), _) = following.market.pairs(position, following.prices, following.at(12))
    legal = terms.legal_down(terms.maximum // share)
    expected, left = terms.seize(legal), following.market.after(position, terms, legal)
    mined = net.send(Cast.RIVAL, contract, call, [ALICE, 0, terms.word(legal), b""])
    (log,) = [each for each in mined.logs if each["topics"][0] == to_hex(TAKEN)]
    data = bytes.fromhex(log["data"][2:])
    assert int.from_bytes(data[:32]) == expected.repaid
    assert int.from_bytes(data[64:96]) == expected.received
    (act,) = [each for each in following.follow() if each.address == contract]
    assert following.drifts() == []
    place = following.market
    assert place.place_told(act) == position.market
    tokens = market.loan.address, market.collateral.address
    taken = (ALICE, *tokens, expected.repaid, expected.received, Cast.RIVAL)
    assert place.liquidation(act) == taken
    assert place.liquidation(act._replace(data=act.data[:64])) is None
    assert place.liquidation(act._replace(address=Address(market.oracle))) is None
    where = place.liquidation_logs()
    assert (act.address in where.addresses, act.topics[0] in where.topics) == (True, True)
    key = key_of(FIRST, Address(ALICE))
    assert following.market.position(key, following.prices, following.at()) == left
    assert early_position(following, BOB) is not None
    assert following.market.legs(key_of(FIRST, Address(BOB))) == ((), ())


async def test_bad_input_is_one_line(put_back: Place) -> None:
    net, morpho, market, contract = put_back
    second = morpho.market(net.tokens["DAI"], net.tokens["WETH"], 86 * PERCENT)
    reader = MorphoFollowing.connect(net)
    head = await reader.head()
    for more, why in (
        ({"pre_liquidations": [to_hex(market.oracle)]}, "is no pre-liquidation contract"),
        (
            {"pre_liquidations": [to_hex(contract)], "ids": [to_hex(second.id)]},
            "which is not among ids",
        ),
    ):
        with pytest.raises(ConfigError, match=why):
            await MorphoBlue.discover(reader, "m", configured(net, morpho, **more), head)
    config = configured(net, morpho, pre_liquidations=[to_hex(contract)])
    made = await MorphoBlue.discover(reader, "m", config, head)
    allowed = AllowedCall(Address(contract), PRE_LIQUIDATE, Address(contract))
    assert allowed in made.permissions()


async def test_the_line_takes_it_before_morpho_would(put_back: Place, tmp_path: Path) -> None:
    net, morpho, market, contract = put_back
    more = f'pre_liquidations = ["{to_hex(contract)}"]'
    allow = [(contract, PRE_LIQUIDATE)]
    with Hook() as hook:
        more += "\n" + hook.table + WATCH
        async with playing(net, tmp_path, morpho, more=more, allow=allow) as play:
            await told(play)
            await play.stage.step(lambda: fall(net, morpho, [market], 5))
            await told(play)
            await play.stage.mine(2)
            await told(play)
            await delivered(play)
            await check_taken(play)
    early = {key: told for key, told in by_position(hook.notes).items() if "-pre-" in key[0]}
    ((place, who),) = early
    last = early[place, who][-1]
    assert (who, last["level"]) == (to_hex(ALICE), "liquidated")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        rows = db.execute(
            "SELECT market, borrower, reason, repaid, hash, log_index FROM liquidations"
        ).fetchall()
    told_of = last["liquidation"]
    found = (told_of["transaction"], told_of["log_index"])
    assert rows == [(place, who, "ours", told_of["repaid"]["amount"], *found)]


async def check_taken(play: Play) -> None:
    """Assert that Alice was taken through the contract, with Morpho's own loan."""
    plans = [plan for report in play.stage.reports for plan in report.plans]
    play.assert_taken([ALICE])
    assert_clean(play.tally)
    assert await play.audit() == []
    quotes = [quote for plan in plans for quote in plan.quotes]
    assert {quote.flash.kind for quote in quotes} == {FlashKind.MORPHO}
    assert all("-pre-" in quote.opportunity.position.market for quote in quotes)
