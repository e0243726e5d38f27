"""What single events do to a ledger, without a chain: undo, refusal, and what stops a market."""

import copy

import pytest

from keeper.book.columns import Columns
from keeper.chain.words import read, selector, text, topic
from keeper.errors import InvariantError, UndecodableError
from keeper.oracles.aave_oracle import (
    ASSET_SOURCE_UPDATED,
    PRICE_ORACLE_UPDATED,
    RESERVE_DROPPED,
    RESERVE_INITIALIZED,
    AaveOracle,
    Feed,
)
from keeper.ports import LendingProtocol, Oracle
from keeper.protocols.aave_v3 import AaveV3, events
from keeper.protocols.aave_v3.bootstrap import tells_amounts
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.pairs import refusal
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.sentinel import Sentinel
from keeper.protocols.aave_v3.stable import Stable
from keeper.types import CallResult, DebtLeg, Head, Log, NextBlock, Position, Prices, Reason, Token
from keeper.units import RAY, ZERO_ADDRESS, Address, Hash, Wad, Wei

POOL, PROVIDER, CONFIGURATOR, ORACLE = (Address(bytes([n]) * 20) for n in range(1, 5))
ASSET, SUPPLY, DEBT, ALICE, BOB = (Address(bytes([n]) * 20) for n in range(10, 15))
NOW = 1_700_000_000
HEAD = Head(7, Hash(b"\7" * 32), Hash(b"\6" * 32), NOW, Wei(0), 0, 0)
ACTIVE = 1 << 56 | 18 << 48
AT = NextBlock(8, NOW + 12, Wei(0))


def event(address: Address, signature: str, *values: bytes | int, timestamp: int = NOW) -> Log:
    """Build a log; bytes are indexed, integers are data."""
    topics = tuple(v.rjust(32, b"\0") for v in values if isinstance(v, bytes))
    data = b"".join(v.to_bytes(32, "big") for v in values if isinstance(v, int))
    return Log(address, (topic(signature), *topics), data, 7, HEAD.hash, 0, timestamp=timestamp)


def number(address: Address) -> int:
    return int.from_bytes(address, "big")


@pytest.fixture
def market() -> AaveV3:
    oracle = AaveOracle("main", POOL, PROVIDER, CONFIGURATOR, ORACLE)
    market = AaveV3("main", Deployment(POOL, PROVIDER, CONFIGURATOR, ORACLE, 10), oracle)
    reserve = Reserve(0, ASSET, SUPPLY, DEBT, ACTIVE | 8_000 << 16 | 10_500 << 32, updated_at=NOW)
    reserve.token = Token(ASSET, "TOK", 18)
    market._ledger.list_reserve(reserve)
    return market


def test_it_is_what_the_book_asks_for(market: AaveV3) -> None:
    protocol: LendingProtocol = market
    oracle: Oracle = market.oracle
    assert (protocol.protocol, protocol.market) == ("aave-v3", "main")
    assert oracle is protocol.oracle


def ledger(market: AaveV3) -> Ledger:
    return market._ledger


MINT = "Mint(address,address,uint256,uint256,uint256)"
BURN = "Burn(address,address,uint256,uint256,uint256)"
MOVE = "BalanceTransfer(address,address,uint256,uint256)"
RATES = "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"
SEIZE = "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
TWO = 2 * RAY

EVENTS = [
    event(SUPPLY, MINT, ALICE, ALICE, 2_000, 0, TWO),
    event(SUPPLY, MOVE, ALICE, BOB, 300, TWO),
    event(SUPPLY, BURN, BOB, BOB, 100, 0, TWO),
    event(DEBT, MINT, ALICE, ALICE, 500, 0, TWO),
    event(DEBT, BURN, ALICE, POOL, 100, 0, TWO),
    event(POOL, RATES, ASSET, 10**25, 0, 2 * 10**25, TWO, TWO, timestamp=NOW + 5),
    event(POOL, SEIZE, ASSET, ASSET, ALICE, 1, 1, number(BOB), 1, timestamp=NOW + 86_400),
    event(POOL, "ReserveUsedAsCollateralEnabled(address,address)", ASSET, ALICE),
    event(POOL, "ReserveUsedAsCollateralDisabled(address,address)", ASSET, ALICE),
    event(POOL, "UserEModeSet(address,uint8)", ALICE, 2),
    event(POOL, "DeficitCreated(address,address,uint256)", ALICE, ASSET, 77),
    event(POOL, "DeficitCovered(address,address,uint256)", ASSET, number(BOB), 70),
    event(CONFIGURATOR, "ReservePaused(address,bool)", ASSET, 1),
    event(CONFIGURATOR, "ReserveActive(address,bool)", ASSET, 0),
    event(CONFIGURATOR, "BorrowableInIsolationChanged(address,bool)", number(ASSET), 1),
    event(CONFIGURATOR, "SiloedBorrowingChanged(address,bool,bool)", ASSET, 0, 1),
    event(CONFIGURATOR, "DebtCeilingChanged(address,uint256,uint256)", ASSET, 0, 9),
    event(CONFIGURATOR, "LiquidationGracePeriodChanged(address,uint40)", ASSET, NOW + 60),
    event(CONFIGURATOR, "LiquidationGracePeriodDisabled(address)", ASSET),
    event(
        CONFIGURATOR,
        "EModeCategoryAdded(uint8,uint256,uint256,uint256,address,string)",
        b"\2",
        9_000,
        9_300,
        10_100,
        0,
        160,
        0,
    ),
    event(CONFIGURATOR, "AssetCollateralInEModeChanged(address,uint8,bool)", ASSET, 2, 1),
    event(CONFIGURATOR, "AssetBorrowableInEModeChanged(address,uint8,bool)", ASSET, 2, 1),
    event(CONFIGURATOR, "AssetLtvzeroInEModeChanged(address,uint8,bool)", ASSET, 2, 1),
    event(CONFIGURATOR, "FlashloanPremiumTotalUpdated(uint128,uint128)", 9, 5),
    event(PROVIDER, "PriceOracleSentinelUpdated(address,address)", ZERO_ADDRESS, BOB),
    event(POOL, "Upgraded(address)", BOB),
]


def test_every_event_is_undone_exactly(market: AaveV3) -> None:
    folded = []
    for log in EVENTS:
        before = copy.deepcopy(ledger(market))
        undo = market.fold(log)
        assert undo is not None
        after = copy.deepcopy(ledger(market))
        undo()
        assert ledger(market) == before != after
        folded.append(market.fold(log))
        assert ledger(market) == after
    reserve = ledger(market).reserves[0]
    assert ledger(market).account(ALICE).supplied == {0: 700}
    assert ledger(market).account(BOB).supplied == {0: 250}
    assert ledger(market).account(ALICE).borrowed == {0: 200}
    assert (reserve.scaled_supply, reserve.scaled_debt, reserve.deficit) == (950, 200, 7)
    assert ledger(market).categories[2].threshold == 9_300


def test_keeping_the_atokens_accrues_the_collateral_without_an_event(market: AaveV3) -> None:
    for log in EVENTS[:6]:
        market.fold(log)
    reserve = ledger(market).reserves[0]
    expected = reserve.supply_index_at(NOW + 86_400), reserve.borrow_index_at(NOW + 86_400)
    market.fold(EVENTS[6])
    assert (reserve.liquidity_index, reserve.borrow_index) == expected
    assert reserve.updated_at == NOW + 86_400


def test_a_log_without_a_timestamp_is_refused(market: AaveV3) -> None:
    with pytest.raises(InvariantError, match=r"main: .*timestamp"):
        market.fold(event(POOL, RATES, ASSET, 0, 0, 0, RAY, RAY, timestamp=0))


@pytest.mark.parametrize(
    "log",
    [
        event(SUPPLY, BURN, ALICE, ALICE, 1, 0, RAY),
        event(SUPPLY, MOVE, ALICE, BOB, 1, RAY),
        event(DEBT, BURN, ALICE, ALICE, 1, 0, RAY),
        event(SUPPLY, MINT, ALICE, ALICE, 3, 0, TWO),
        event(POOL, "ReserveUsedAsCollateralEnabled(address,address)", BOB, ALICE),
    ],
)
def test_what_cannot_have_happened_stops_the_market(market: AaveV3, log: Log) -> None:
    with pytest.raises(InvariantError) as caught:
        market.fold(log)
    assert caught.value.scope == "main"


@pytest.mark.parametrize("log", EVENTS)
def test_a_log_that_does_not_decode_is_named(market: AaveV3, log: Log) -> None:
    before = copy.deepcopy(ledger(market))
    broken = [
        log._replace(data=log.data[:-1] if log.data else b"\0"),
        log._replace(topics=log.topics[:-1] if len(log.topics) > 1 else (*log.topics, bytes(32))),
        log._replace(topics=(*log.topics, bytes(32))),
    ]
    if log.topics[1:] and log.topics[0] != topic("Upgraded(address)"):
        garbled = (b"\xff" * 32,) * (len(log.topics) - 1)
        broken.append(log._replace(topics=(log.topics[0], *garbled)))
    for each in broken:
        with pytest.raises(InvariantError, match=r"^main: ") as caught:
            market.fold(each)
        assert "\n" not in str(caught.value)
        assert ledger(market) == before
    with pytest.raises(UndecodableError, match="in block 7, log 0 does not decode: it has") as told:
        market.fold(broken[2])
    assert f"of 0x{log.address.hex()}" in str(told.value)


@pytest.mark.parametrize(
    "log",
    [
        event(POOL, "Upgraded(address)", BOB),
        event(SUPPLY, "Upgraded(address)", BOB),
        event(DEBT, "Upgraded(address)", BOB),
        event(CONFIGURATOR, "Upgraded(address)", BOB),
        event(
            PROVIDER,
            "AddressSet(bytes32,address,address)",
            b"POOL_CONFIGURATOR".ljust(32, b"\0"),
            CONFIGURATOR,
            BOB,
        ),
    ],
)
def test_replaced_code_stops_the_market_until_it_is_read_again(market: AaveV3, log: Log) -> None:
    undo = market.fold(log)
    assert "replaced in block 7" in market.stopped
    position = Position("main", "aave-v3", ALICE, (), (), 0, 1, Wad(0))
    at = NextBlock(8, NOW + 12, Wei(0))
    pairs, (skip,) = market.pairs(position, Prices("main", 1, {}), at)
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert undo is not None
    undo()
    assert market.stopped == ""


def test_replaced_code_of_a_stable_debt_token_is_seen(market: AaveV3) -> None:
    held, stable = ledger(market), Address(b"\x21" * 20)
    held.reserves[0].stable_token = stable
    held.terms += 1
    log = event(stable, "Upgraded(address)", BOB)
    assert market.fold(log) is not None
    assert market.stopped.startswith(f"the code of 0x{stable.hex()} was replaced")


def test_who_owes_at_a_stable_rate_too_is_always_judged_exactly(market: AaveV3) -> None:
    """The screen does not know what such a debt grew to: it has no health there, as without a price."""
    held, prices = ledger(market), Prices("main", 10**8, {ASSET: 10**8})
    everyone = [Address(bytes([n]) * 20) for n in range(40, 45)]
    for who in everyone:
        market.fold(event(SUPPLY, MINT, who, who, 4_000, 0, RAY))
        market.fold(event(POOL, "ReserveUsedAsCollateralEnabled(address,address)", ASSET, who))
        market.fold(event(DEBT, MINT, who, who, 10, 0, RAY))
    held.set_stable(everyone[2], held.reserves[0], Stable(10, 10**25, NOW))
    assert everyone[2] in market.changed()
    gathered = Columns.filled(market.all_legs()())
    replaced = Columns()
    for who in everyone:
        replaced.replace(who, *market.legs(who))
    for columns in (gathered, replaced):
        rows = columns.candidates(*market.factors(prices, AT), 1.0)
        assert columns.borrowers(rows) == [everyone[2]]
    held.set_stable(everyone[2], held.reserves[0], Stable(0, 0, NOW))
    replaced.replace(everyone[2], *market.legs(everyone[2]))
    assert not replaced.candidates(*market.factors(prices, AT), 1.0).size


def test_only_borrowers_are_reported_as_changed(market: AaveV3) -> None:
    market.fold(event(SUPPLY, MINT, BOB, BOB, 1_000, 0, RAY))
    assert market.changed() == set()
    undo = market.fold(event(DEBT, MINT, ALICE, ALICE, 10, 0, RAY))
    assert market.changed() == {ALICE}
    assert market.changed() == set()
    market.fold(event(POOL, "ReserveUsedAsCollateralEnabled(address,address)", ASSET, ALICE))
    assert market.changed() == {ALICE}
    terms = "CollateralConfigurationChanged(address,uint256,uint256,uint256)"
    market.fold(event(CONFIGURATOR, terms, ASSET, 7_000, 8_000, 10_600))
    assert market.changed() == set()
    market.fold(event(CONFIGURATOR, terms, ASSET, 7_000, 7_900, 10_600))
    assert market.changed() == set()
    assert undo is not None
    undo()
    assert market.changed() == {ALICE}
    assert market.legs(ALICE) == ((), ())
    assert market.borrowers() == 0


def test_a_dropped_reserve_leaves_its_number_to_the_next(market: AaveV3) -> None:
    undo = market.fold(event(CONFIGURATOR, "ReserveDropped(address)", ASSET))
    assert SUPPLY not in market.watch().addresses
    listed = event(
        CONFIGURATOR,
        "ReserveInitialized(address,address,address,address,address)",
        BOB,
        Address(b"\x21" * 20),
        0,
        number(Address(b"\x22" * 20)),
        0,
    )
    back = market.fold(listed)
    assert ledger(market).by_asset[BOB].id == 0
    assert Address(b"\x22" * 20) in market.watch().addresses
    assert BOB not in market.tokens()
    assert back is not None
    assert undo is not None
    back()
    undo()
    assert set(ledger(market).by_asset) == {ASSET}
    assert SUPPLY in market.watch().addresses


def test_an_unread_liquidity_offers_nothing(market: AaveV3) -> None:
    calls = market.calls()
    assert len(calls) == 2
    market.observe([CallResult(True, b"\1".rjust(32, b"\0")), CallResult(False, b"")], HEAD)
    assert ledger(market).reserves[0].available is None
    assert market.flash_sources(ASSET) == ()


def test_a_new_reserve_is_complete_when_symbol_and_decimals_are_read(market: AaveV3) -> None:
    reserve = ledger(market).reserves[0]
    reserve.token, reserve.configuration = None, 1 << 56
    assert len(market.calls()) == 6
    symbol = CallResult(True, b"MKR".ljust(32, b"\0"))
    market.observe([words(0), words(0), symbol, words(8 << 48 | 5), words(5), words(6)], HEAD)
    assert market.tokens() == {ASSET: Token(ASSET, "MKR", 8)}
    assert reserve.configuration == 1 << 56 | 8 << 48


def test_decimals_that_were_read_outlast_what_was_taken_back(market: AaveV3) -> None:
    reserve = ledger(market).reserves[0]
    reserve.token, reserve.configuration = None, 1 << 56
    back = ledger(market).set_configuration(reserve, 1 << 56 | 7_500 << 16)
    market.calls()
    symbol = CallResult(True, b"MKR".ljust(32, b"\0"))
    market.observe([words(0), words(0), symbol, words(8 << 48), words(5), words(6)], HEAD)
    back()
    assert reserve.configuration == 1 << 56 | 8 << 48
    assert reserve.unit == 10**8


@pytest.mark.parametrize(
    ("supply", "debt", "why"),
    [
        (6, 5, "of revision 6, are not known"),
        (5, 7, "of revision 7, are not known"),
        (5, None, "of no known kind, are not known"),
    ],
)
def test_a_new_reserve_of_unknown_rules_is_not_taken_in(
    market: AaveV3, supply: int, debt: int | None, why: str
) -> None:
    reserve = ledger(market).reserves[0]
    reserve.token = None
    market.calls()
    symbol = CallResult(True, b"MKR".ljust(32, b"\0"))
    last = CallResult(False, b"") if debt is None else words(debt)
    with pytest.raises(InvariantError, match=why):
        market.observe([words(0), words(0), symbol, words(8 << 48), words(supply), last], HEAD)
    assert market.tokens() == {}


def test_inactive_reserves_are_refused() -> None:
    reserve = Reserve(0, ASSET, SUPPLY, DEBT, 0, token=Token(ASSET, "TOK", 18))
    assert refusal(reserve, NOW) == (Reason.PAUSED, "TOK is inactive")
    reserve.configuration = ACTIVE
    assert refusal(reserve, NOW) is None
    reserve.grace_until = NOW
    assert refusal(reserve, NOW) is not None
    assert refusal(reserve, NOW + 1) is None


def words(*values: int) -> CallResult:
    return CallResult(True, b"".join(value.to_bytes(32, "big") for value in values))


def test_a_sentinel_is_judged_at_the_next_block() -> None:
    unread = Sentinel(ALICE)
    assert unread.refusal(NOW) == (
        Reason.STALE_ORACLE,
        "the price oracle sentinel was not read",
    )
    first = unread.renewed([words(0), words(3_600), words(number(BOB)), CallResult(True, b"")])
    assert first.refusal(NOW) == (
        Reason.STALE_ORACLE,
        "the price oracle sentinel forbids liquidations",
    )
    up = first.renewed([words(0), words(3_600), words(number(BOB)), words(1, 0, NOW, NOW, 1)])
    assert up.refusal(NOW + 3_600) == (
        Reason.GRACE,
        f"sequencer grace period until {NOW + 3_600}",
    )
    assert up.refusal(NOW + 3_601) is None
    down = up.renewed([words(0), words(3_600), words(number(BOB)), words(1, 1, NOW, NOW, 1)])
    assert down.refusal(NOW + 9_999) == (Reason.STALE_ORACLE, "the sequencer is down")


def test_words() -> None:
    call = read(POOL, "getUserEMode(address)", ALICE)
    assert call.data == selector("getUserEMode(address)") + b"\0" * 12 + ALICE
    assert selector("POOL_REVISION()").hex() == "0148170e"
    assert text(b"MKR".ljust(32, b"\0")) == "MKR"
    assert text(bytes(31) + b"\x20" + bytes(31) + b"\3" + b"DAI".ljust(32, b"\0")) == "DAI"


def test_topics_are_those_of_the_protocol() -> None:
    known = {
        "804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a",
        "e413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286",
        "00058a56ea94653cdf4f152d227ace22d4c00ad99e2a43f58cb7d9e3feb295f2",
        "44c58d81365b66dd4b1a7f36c25aa97b8c71c361ee4937adc1a00000227db5dd",
        "d728da875fc88944cbf17638bcbe4af0eedaef63becd1d1c57cc097eb4608d84",
        "2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699",
        "458f5fa412d0f69b08dd84872b0215675cc67bc1d5b6fd93300a1c3878b86196",
        "4cf25bc1d991c17529c25213d3cc0cda295eeaad5f13f361969b12ea48015f90",
        "4beccb90f994c31aced7a23b5611020728a23d8ec5cddd1a3e9d97b96fda8666",
    }
    assert known <= {each.hex() for each in events.TOPICS}


@pytest.fixture
def oracle() -> AaveOracle:
    oracle = AaveOracle("main", POOL, PROVIDER, CONFIGURATOR, ORACLE)
    oracle._feeds = {ASSET: Feed(BOB, ALICE)}
    return oracle


def raw(address: Address, kind: bytes, *topics: bytes) -> Log:
    padded = tuple(each.rjust(32, b"\0") for each in topics)
    return Log(address, (kind, *padded), b"", 7, HEAD.hash, 0)


def test_answers_to_another_oracle_are_not_prices(oracle: AaveOracle) -> None:
    asked = len(oracle.calls())
    undo = oracle.fold(raw(PROVIDER, PRICE_ORACLE_UPDATED, ORACLE, BOB))
    assert oracle.prices([words(0), *[words(10**8)] * (asked - 1)], HEAD).values == {}
    assert undo is not None
    undo()
    oracle.calls()
    priced = [words(10**8)] * (asked - 1)
    assert oracle.prices([words(0), *priced], HEAD).values == {ASSET: 10**8}
    for base in (words(number(BOB)), CallResult(False, b"")):
        oracle.calls()
        assert oracle.prices([base, *priced], HEAD).values == {}


def test_a_price_of_zero_or_none_is_left_out(oracle: AaveOracle) -> None:
    for answer in (words(0), CallResult(False, b""), CallResult(True, b"")):
        count = len(oracle.calls())
        results = [words(0), words(10**8), answer, *[words(0)] * (count - 3)]
        assert oracle.prices(results, HEAD).values == {}
    count = len(oracle.calls())
    assert oracle.prices([CallResult(False, b"")] * count, HEAD).values == {}


def test_listings_and_sources_are_followed(oracle: AaveOracle) -> None:
    new = Address(b"\x33" * 20)
    assert oracle.fold(raw(ORACLE, ASSET_SOURCE_UPDATED, new, BOB)) is None
    listed = oracle.fold(raw(CONFIGURATOR, RESERVE_INITIALIZED, new, BOB))
    changed = oracle.fold(raw(ORACLE, ASSET_SOURCE_UPDATED, new, ALICE))
    dropped = oracle.fold(raw(CONFIGURATOR, RESERVE_DROPPED, ASSET))
    assert oracle.feeds == {new: Feed(ALICE)}
    for undo in (dropped, changed, listed):
        assert undo is not None
        undo()
    assert oracle.feeds == {ASSET: Feed(BOB, ALICE)}


def test_a_price_that_moved_in_silence_makes_its_proxy_asked_again(oracle: AaveOracle) -> None:
    def ask(price: int) -> int:
        count = len(oracle.calls())
        answers = [words(0), words(10**8), words(price), *[words(number(ALICE))] * (count - 3)]
        oracle.prices(
            answers, Head(8, Hash(price.to_bytes(32, "big")), HEAD.hash, NOW, Wei(0), 0, 0)
        )
        return count

    assert ask(100) == 4
    assert ask(100) == 3
    assert ask(101) == 3
    assert ask(101) == 4
    assert ask(101) == 3


def test_a_debt_that_nothing_stands_behind_is_refused_with_a_reason(market: AaveV3) -> None:
    debt = (DebtLeg(Token(ASSET, "TOK", 18), 10**18, 10**8),)
    bare = Position("main", "aave-v3", ALICE, (), debt, 0, 10**8, Wad(0))
    pairs, (skip,) = market.pairs(bare, Prices("main", 10**8, {ASSET: 10**8}), AT)
    assert pairs == []
    assert (skip.reason, skip.detail) == (Reason.DUST, "no collateral is left to seize")


def test_what_an_atoken_refuses_tells_how_it_tells_of_transfers() -> None:
    """One that lacks a function fails without a word; v3.0.0's repayments have an argument less."""
    refused, absent = CallResult(False, b"23"), CallResult(False, b"")
    assert tells_amounts([refused, absent]) is True
    assert tells_amounts([absent, refused]) is False
    assert tells_amounts([absent, CallResult(True, b"")]) is False
    assert tells_amounts([absent, absent]) is None
    assert tells_amounts([refused, refused]) is None
