"""A Morpho deployment on the real contract: found, loaded, followed, audited, refused in words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from keeper.chain.words import uint
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.morpho import PARAMS, Morpho, MorphoMarket, borrower
from keeper.errors import ConfigError, InvariantError, UndecodableError
from keeper.protocols.morpho_blue import MorphoBlue
from keeper.protocols.morpho_blue.accounts import key_of, pack
from keeper.protocols.morpho_blue.calls import FLASH_LOAN, LIQUIDATE
from keeper.protocols.morpho_blue.events import LIQUIDATE as LIQUIDATED, SUPPLY_COLLATERAL
from keeper.protocols.morpho_blue.terms import Way
from keeper.types import AllowedCall, FlashKind, FlashSource, Reason
from keeper.units import WAD, Address, Wad, to_hex
from tests.morpho import MorphoFollowing, configured, deployed, state

STAND_IN = Path(__file__).parent / "stand_ins" / "adaptive_rate_model.vy"
CALL = f"liquidate({PARAMS},address,uint256,uint256,bytes)"
ETH = 10**18
ALICE, BOB, CAROL = (borrower(number) for number in range(3))

Place = tuple[Devnet, Morpho, MorphoMarket]


@pytest.fixture(scope="module")
def place(devnet: Devnet) -> Iterator[Place]:
    """WETH at 2,500: Alice owes 1,000 USDC, Bob 2,000 and Carol 2,100, each behind one."""
    before = devnet.snapshot()
    morpho, market = deployed(devnet)
    owed = ((ALICE, 1_000), (BOB, 2_000), (CAROL, 2_100))
    morpho.open(market, [(who, ETH, usd * 10**6) for who, usd in owed])
    yield devnet, morpho, market
    devnet.revert(before)


@pytest.fixture
def put_back(place: Place) -> Iterator[Place]:
    """The place, as it was when the test ends."""
    net, *_ = place
    before = net.snapshot()
    yield place
    net.revert(before)


def test_loaded_and_followed_from_the_start_are_the_same(place: Place) -> None:
    net, morpho, market = place
    loaded = MorphoFollowing(net, morpho)
    followed = MorphoFollowing(net, morpho, from_start=True)
    assert loaded.drifts() == followed.drifts() == []
    assert state(loaded.ledger) == state(followed.ledger)
    position = loaded.position(market, BOB)
    assert (position.market, position.home) == (
        loaded.market.place(loaded.key(market, BOB)),
        "morpho",
    )
    assert position.market.startswith("morpho/WETH-USDC-86-")
    assert loaded.market.account(position) == loaded.key(market, BOB)
    assert position.health == 2_500 * 86 * WAD // (100 * 2_000)
    assert (position.collateral_value, position.debt_value) == (2_500 * 10**8, 2_000 * 10**8)
    for _, _, undos in reversed(followed.blocks):
        for undo in reversed(undos):
            undo()
    assert state(followed.ledger) == {"totals": {}, "debtors": [], "accounts": {}}


def test_a_snapshot_comes_back_and_a_damaged_one_does_not(place: Place) -> None:
    net, morpho, _ = place
    following = MorphoFollowing(net, morpho)
    pages, prices = list(following.market.snapshot()()), following.market.oracle.snapshot()
    other = MorphoBlue("morpho", configured(net, morpho))
    other.restore(pages)
    other.oracle.restore(prices())
    assert state(other._ledger) == state(following.ledger)
    assert other.tokens() == following.market.tokens()
    assert len(other.all_legs()().borrowers) == other.borrowers() == 3
    head, body = pages[0], pages[1]
    for broken in (
        [],
        [head],
        [head, body[:-1]],
        [head.replace(b'"format":1', b'"format":2'), *pages[1:]],
        [head, body[:-1] + bytes([body[-1] ^ 1]), *pages[2:]],
        [*pages, body],
    ):
        with pytest.raises(InvariantError, match="morpho: the snapshot cannot be read"):
            other.restore(broken)
    with pytest.raises(InvariantError, match="prices cannot be read"):
        other.oracle.restore([b"x"])
    assert state(other._ledger) == state(following.ledger)


def test_the_audit_finds_a_planted_drift(place: Place) -> None:
    net, morpho, _ = place
    following = MorphoFollowing(net, morpho)
    pool = following.ledger.numbered[0]
    key = key_of(0, Address(BOB))
    following.ledger.accounts.put(key, pack(ETH - 1, pool.totals.borrow_shares))
    pool.totals = replace(pool.totals, supply_assets=pool.totals.supply_assets + 1)
    found = {drift.subject.rpartition(" ")[2]: drift for drift in following.drifts()}
    assert set(found) == {"supply_assets", "collateral", "shares"}
    assert (found["collateral"].held, found["collateral"].actual) == (ETH - 1, ETH)
    one = following.run(following.market.audit(following.reader, following.head, 1, 5))
    assert any("supply_assets" in drift.subject for drift in one)


async def test_bad_input_is_one_line(place: Place) -> None:
    net, morpho, market = place
    reader = MorphoFollowing.connect(net)
    head = await reader.head()

    async def refused(**more: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            await MorphoBlue.discover(reader, "m", configured(net, morpho, **more), head)
        (line,) = str(caught.value).splitlines()
        return line

    assert "has no code" in await refused(morpho=to_hex(ALICE))
    assert "is not Morpho Blue" in await refused(morpho=to_hex(net.market.pool))
    assert f"no market 0x{'ab' * 32}" in await refused(ids=[to_hex(market.id), f"0x{'ab' * 32}"])
    with pytest.raises(ValidationError, match="64 hex digits"):
        configured(net, morpho, ids=["0x12"])
    with pytest.raises(ValidationError, match="needs prices or feeds"):
        MorphoBlue.Config.model_validate({"morpho": to_hex(morpho.address)})
    for more, why in (
        ({"prices": to_hex(morpho.address)}, "no BASE_CURRENCY_UNIT"),
        ({"feeds": {to_hex(market.loan.address): to_hex(morpho.address)}}, "no decimals"),
    ):
        made = MorphoBlue("m", configured(net, morpho, **more))
        with pytest.raises(ConfigError, match=why):
            await made.oracle.bootstrap(reader, head)


def test_only_the_markets_that_are_named_are_followed(put_back: Place) -> None:
    net, morpho, market = put_back
    named = MorphoFollowing(net, morpho, ids=[to_hex(market.id)])
    everything = MorphoFollowing(net, morpho)
    fresh = morpho.market(net.tokens["DAI"], net.tokens["WBTC"], 77 * 10**16)
    morpho.set_price(fresh, fresh.quotient(net.price("WBTC"), net.price("DAI")))
    morpho.supply(fresh, 10**24)
    morpho.open(fresh, [(ALICE, 10**8, 1_000 * ETH)])
    for following in (named, everything):
        following.follow()
        assert following.drifts() == []
    everything.observe()
    assert [pool.terms.lltv for pool in named.ledger.numbered] == [market.lltv]
    position = everything.position(fresh, ALICE)
    assert position.market.startswith("morpho/WBTC-DAI-77-")
    assert set(everything.market.tokens()) == {
        net.tokens[symbol].address for symbol in ("USDC", "WETH", "DAI", "WBTC")
    }
    assert everything.market.changed() >= {everything.key(fresh, ALICE)}


def test_an_oracle_that_cannot_be_read_is_a_reason(put_back: Place) -> None:
    net, morpho, market = put_back
    following = MorphoFollowing(net, morpho)
    at = following.at(12)
    price = following.prices.values[market.id]  # type: ignore[index]
    low = replace(following.prices, values=dict(following.prices.values))
    code = net.rpc("eth_getCode", to_hex(market.oracle), "latest")
    # it burns all the gas it is given
    net.rpc("anvil_setCode", to_hex(market.oracle), "0x5b600056")
    asked = []
    for _ in range(20):
        calls = following.market.oracle.calls()
        asked.append(market.oracle in {call.target for call in calls})
        following.observe()
        assert market.loan.address in following.prices.values
    # it answered before: it never rests for more than a head
    assert [place for place, each in enumerate(asked) if each] == [0, 1, *range(3, 20, 2)]
    assert market.id not in following.prices.values
    assert following.market.position(following.key(market, CAROL), following.prices, at) is None
    # who was far from the threshold when it last spoke is not looked at again
    held, owed = following.market.factors(following.prices, at)
    assert held[0] == pytest.approx(price / 1e36 * 0.86)
    position = following.market.position(following.key(market, CAROL), low, at)
    assert position is not None
    weak = replace(position, health=Wad(0))
    pairs, (skip,) = following.market.pairs(weak, following.prices, at)
    assert (pairs, skip.reason, skip.market) == ([], Reason.NO_PRICE, weak.market)
    assert owed[0] > 0
    net.rpc("anvil_setCode", to_hex(market.oracle), code)
    for _ in range(16):
        following.observe()
    assert following.prices.values[market.id] == price  # type: ignore[index]
    assert following.market.oracle.calls()[-1].target == market.oracle


def test_what_is_lent_and_allowed(place: Place) -> None:
    net, morpho, market = place
    following = MorphoFollowing(net, morpho)
    usdc = Address(market.loan.address)
    held = net.balance(usdc, morpho.address)
    lender = Address(morpho.address)
    loan = FlashSource(FlashKind.MORPHO, lender, usdc, held, 0)
    assert list(following.market.flash_sources(usdc)) == [loan]
    assert following.market.withdrawable(usdc) == held
    assert following.market.flash_sources(Address(ALICE)) == ()
    assert set(following.market.permissions()) == {
        AllowedCall(lender, LIQUIDATE, lender),
        AllowedCall(lender, FLASH_LOAN, lender),
    }


def test_bad_debt_is_written_off_or_avoided_and_told(put_back: Place) -> None:
    net, morpho, market = put_back
    following = MorphoFollowing(net, morpho)
    spared = MorphoFollowing(net, morpho, write_off=False)
    morpho.set_price(market, market.quotient(1_500 * 10**8, net.price("USDC")))
    for who, each in ((CAROL, spared), (BOB, following)):
        each.follow()
        position = each.position(market, who, 12)
        ((terms,), skips) = each.market.pairs(position, each.prices, each.at(12))
        assert (terms.way, skips) == (Way.COLLATERAL, [])
        taken = ETH - (each is spared)
        assert terms.seize(terms.maximum).received == taken
        left = each.market.after(position, terms, terms.maximum)
        assert (left.collateral == ()) == (left.debt == ()) == (each is following)
        args = [market.params, who, taken, 0, b""]
        net.send(Cast.RIVAL, market.loan.address, "approve(address,uint256)", [morpho.address, 0])
        net.send(
            Cast.RIVAL, market.loan.address, "approve(address,uint256)", [morpho.address, 2**255]
        )
        net.send(Cast.RIVAL, morpho.address, CALL, args)
        following.follow()
    spared.follow()
    logs = [log for _, each, _ in following.blocks for log in each]
    told = [uint(log.data, 3) for log in logs if log.topics[0] == LIQUIDATED]
    assert told[0] == 0 < told[1]
    assert [each.amount for each in following.market.backstops()] == [told[1]]
    assert [each.kind for each in MorphoFollowing(net, morpho).market.backstops()] == ["bad_debt"]
    assert MorphoFollowing(net, morpho).market.backstops() == spared.market.backstops()
    assert following.drifts() == []
    dust = following.position(market, CAROL, 12)
    assert dust.collateral[0].amount == 1
    assert spared.market.pairs(dust, spared.prices, spared.at(12))[1][0].reason is Reason.DUST


def test_the_adaptive_model_is_known_by_its_answers_and_foretold(put_back: Place) -> None:
    net, morpho, _ = put_back
    vyper: Any = pytest.importorskip("vyper")
    output = vyper.compile_code(STAND_IN.read_text(), output_formats=["bytecode"])
    model = net.deploy(bytes.fromhex(output["bytecode"][2:]))
    following = MorphoFollowing(net, morpho)
    market = morpho.market(net.tokens["USDC"], net.tokens["WETH"], 77 * 10**16, irm=model)
    morpho.set_price(market, market.quotient(net.price("WETH"), net.price("USDC")))
    morpho.supply(market, 10**10)
    morpho.open(market, [(ALICE, 10 * ETH, 95 * 10**8)])
    following.follow()
    pool = following.ledger.pools[market.id]  # type: ignore[index]
    assert pool.adaptive
    assert not following.ledger.numbered[0].adaptive
    for seconds in (1, 3_600, 86_400 * 20, 86_400 * 400):
        expected = pool.at(following.head.timestamp + seconds)
        net.rpc("evm_setNextBlockTimestamp", following.head.timestamp + seconds)
        morpho.send(Cast.RIVAL, market, f"accrueInterest({PARAMS})")
        following.follow()
        assert pool.totals == expected
        assert following.drifts() == []
    assert MorphoFollowing(net, morpho).ledger.pools[market.id].adaptive  # type: ignore[index]


def test_a_log_that_makes_no_sense_stops_the_market(place: Place) -> None:
    net, morpho, _ = place
    following = MorphoFollowing(net, morpho, from_start=True)
    log = next(
        each
        for _, logs, _ in following.blocks
        for each in logs
        if each.topics[0] == SUPPLY_COLLATERAL
    )
    for broken in (
        log._replace(data=log.data + b"\0"),
        log._replace(topics=log.topics[:3]),
        log._replace(topics=(*log.topics[:3], b"\1" * 32)),
    ):
        with pytest.raises(UndecodableError, match=r"SupplyCollateral of .* does not decode"):
            following.market.fold(broken)
    assert following.market.fold(log._replace(topics=(log.topics[0], b"\1" * 32))) is None
