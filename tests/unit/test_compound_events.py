"""What single events do to a ledger, and how the first comptrollers differ from Venus', without a chain."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from keeper.chain.codes import codes_of, doubts, fingerprint
from keeper.chain.multicall import MULTICALL3, encode_aggregate3
from keeper.chain.words import selector, topic, word
from keeper.errors import ConfigError, InvariantError, UndecodableError
from keeper.planning.grouping import group_key
from keeper.ports import LendingProtocol, Redeeming, Remembering
from keeper.protocols.compound_v2 import CompoundV2, events
from keeper.protocols.compound_v2.bootstrap import Asset, Deployment, find, load_terms
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.terms import CompoundTerms
from keeper.protocols.compound_v2.vai import (
    LATELY,
    RULES,
    Minted,
    Rules,
    Unread,
    Vai,
    rule_calls,
    take_rules,
)
from keeper.protocols.compound_v2.valuation import behind, parts, with_parts
from keeper.risk import Lists
from keeper.types import (
    Call,
    CallResult,
    Cause,
    Head,
    Log,
    NextBlock,
    Opportunity,
    Position,
    Prices,
    Quote,
    Reason,
    Step,
    Token,
)
from keeper.units import WAD, ZERO_ADDRESS, Address, Hash, Wad, Wei
from tests.plans import make_quote

COMPTROLLER, ORACLE, VAI, LIQUIDATOR = (Address(bytes([n]) * 20) for n in range(1, 5))
CETH, CUSDC, WETH, USDC, ALICE, BOB = (Address(bytes([n]) * 20) for n in range(10, 16))
HEAD = Head(7, Hash(b"\7" * 32), Hash(b"\6" * 32), 1_000, Wei(0), 0, 0)
FOUND = Deployment(
    COMPTROLLER,
    ORACLE,
    ZERO_ADDRESS,
    ZERO_ADDRESS,
    (Asset(CETH, WETH, is_native=True), Asset(CUSDC, USDC, is_native=False)),
    by_seconds=True,
)


def made() -> Ledger:
    ledger = Ledger("old", close_factor=WAD // 2)
    for number, (ctoken, token) in enumerate(
        ((CETH, Token(WETH, "WETH", 18)), (CUSDC, Token(USDC, "USDC", 6)))
    ):
        name = Token(ctoken, f"c{token.symbol}", 8)
        ledger.list_ctoken(CToken(number, name, token, number == 0, WAD, 0, 5))
        ledger.set_terms(ledger.ctokens[number], CORE, Terms(Wad(WAD // 2), Wad(WAD)))
    return ledger


def event(address: Address, signature: str, *values: bytes | int, indexed: int = 0) -> Log:
    """Build a log of which the first so many values are indexed."""
    words = [word(value) for value in values]
    topics = (topic(signature), *words[:indexed])
    return Log(address, topics, b"".join(words[indexed:]), 9, HEAD.hash, 0, timestamp=2_000)


def fold(ledger: Ledger, log: Log) -> None:
    """Apply a log, and see that it is taken back and applied alike again."""
    before = copy.deepcopy(ledger)
    undo = events.fold(ledger, COMPTROLLER, VAI, log)
    assert undo is not None
    after = copy.deepcopy(ledger)
    undo()
    assert ledger == before
    events.fold(ledger, COMPTROLLER, VAI, log)
    assert ledger == after


@pytest.mark.parametrize("indexed", [0, 2])
def test_forks_that_index_and_forks_that_do_not_are_read_alike(indexed: int) -> None:
    ledger = made()
    entered = "MarketEntered(address,address)"
    fold(ledger, event(COMPTROLLER, entered, CETH, ALICE, indexed=indexed))
    assert ledger.entered == {ALICE: 1}
    left = "MarketExited(address,address)"
    fold(ledger, event(COMPTROLLER, left, CETH, ALICE, indexed=indexed))
    assert ledger.entered == {}


def test_the_first_comptrollers_have_one_incentive_and_factors_that_decide() -> None:
    ledger = made()
    signature = "NewCollateralFactor(address,uint256,uint256)"
    fold(ledger, event(COMPTROLLER, signature, CETH, WAD // 2, 8 * WAD // 10))
    fold(
        ledger,
        event(COMPTROLLER, "NewLiquidationIncentive(uint256,uint256)", WAD, 108 * WAD // 100),
    )
    terms = [ledger.terms_of(CORE, each) for each in ledger.ctokens]
    assert [each.threshold for each in terms] == [8 * WAD // 10, WAD // 2]
    assert {each.incentive for each in terms} == {108 * WAD // 100}
    fold(ledger, event(COMPTROLLER, "NewCloseFactor(uint256,uint256)", 0, WAD))
    assert ledger.close_factor == WAD
    ledger.has_thresholds = True
    log = event(COMPTROLLER, signature, CETH, WAD // 2, 9 * WAD // 10)
    assert events.fold(ledger, COMPTROLLER, VAI, log) is None


def test_interest_is_counted_in_blocks_or_in_seconds() -> None:
    for by_seconds, moment in ((False, 9), (True, 2_000)):
        ledger = made()
        ledger.by_seconds = by_seconds
        first = "AccrueInterest(uint256,uint256,uint256)"
        fold(ledger, event(CETH, first, 7, WAD + 1, 70))
        later = "AccrueInterest(uint256,uint256,uint256,uint256)"
        fold(ledger, event(CETH, later, 1, 7, WAD + 2, 77))
        ctoken = ledger.ctokens[0]
        assert (ctoken.index, ctoken.borrows, ctoken.accrued_at) == (WAD + 2, 77, moment)
        with pytest.raises(UndecodableError, match="the borrow index falls"):
            events.fold(ledger, COMPTROLLER, VAI, event(CETH, first, 7, WAD + 1, 70))


def test_a_guardian_that_pauses_seizing_pauses_the_market() -> None:
    ledger = made()
    for name, on, paused in ((b"Transfer", 1, False), (b"Seize", 1, True), (b"Seize", 0, False)):
        data = word(64) + word(on) + word(len(name)) + name.ljust(32, b"\0")
        log = Log(COMPTROLLER, (topic("ActionPaused(string,bool)"),), data, 9, HEAD.hash, 0)
        events.fold(ledger, COMPTROLLER, VAI, log)
        assert ledger.is_paused is paused


def test_debts_and_balances_are_kept_with_their_owner() -> None:
    ledger = made()
    transfer = "Transfer(address,address,uint256)"
    fold(ledger, event(CETH, transfer, CETH, ALICE, 100, indexed=2))
    fold(ledger, event(CETH, transfer, ALICE, BOB, 30, indexed=2))
    fold(ledger, event(CETH, transfer, BOB, CETH, 30, indexed=2))
    assert ledger.ctokens[0].balances == {ALICE: 70}
    with pytest.raises(InvariantError, match="leaves -1 cWETH"):
        events.fold(ledger, COMPTROLLER, VAI, event(CETH, transfer, ALICE, BOB, 71, indexed=2))
    fold(ledger, event(CUSDC, "Borrow(address,uint256,uint256,uint256)", ALICE, 5, 9, 90))
    assert ledger.ctokens[1].debts == {ALICE: (9, WAD)}
    assert (dict(ledger.owing), ledger.touched) == ({ALICE: 2}, {ALICE})
    repay = "RepayBorrow(address,address,uint256,uint256,uint256)"
    fold(ledger, event(CUSDC, repay, BOB, ALICE, 9, 0, 81))
    assert (dict(ledger.ctokens[1].debts), ledger.ctokens[1].borrows, dict(ledger.owing)) == (
        {},
        81,
        {},
    )


def test_who_minted_vai_or_is_restricted_is_remembered() -> None:
    ledger = made()
    ledger.liquidator = LIQUIDATOR
    fold(ledger, event(VAI, "MintVAI(address,uint256)", ALICE, 5))
    fold(ledger, event(LIQUIDATOR, "LiquidationRestricted(address)", BOB, indexed=1))
    assert (ledger.minters, ledger.restricted) == ({ALICE: Unread(9)}, {BOB})
    fold(ledger, event(VAI, "RepayVAI(address,address,uint256)", ALICE, BOB, 5))
    liquidated = "LiquidateVAI(address,address,uint256,address,uint256)"
    fold(ledger, event(VAI, liquidated, ALICE, CETH, 5, CETH, 1))
    assert set(ledger.minters) == {ALICE, BOB, CETH}
    fold(ledger, event(LIQUIDATOR, "LiquidationRestrictionsDisabled(address)", BOB, indexed=1))
    assert ledger.restricted == set()
    stranger = event(BOB, "MintVAI(address,uint256)", BOB, 5)
    assert events.fold(ledger, COMPTROLLER, VAI, stranger) is None


async def test_who_mints_vai_at_every_head_has_no_reads_asked_for_twice() -> None:
    """Reads are asked for before a head's logs are folded, and again if those change them."""
    known = first_comptroller()
    ledger = made()
    ledger.vai = Vai(VAI, Token(VAI, "VAI", 18))
    market = CompoundV2("old", replace(FOUND, vai=VAI))
    market._ledger = ledger
    for name in ("vaiMintIndex()", "accrueVAIInterest()", "getVAIRepayRatePerBlock()"):
        known[VAI, name] = word(WAD)
    known[COMPTROLLER, "actionPaused(address,uint8)"] = word(0)
    known[COMPTROLLER, "mintedVAIs(address)"] = word(5)
    known[VAI, "pastVAIInterest(address)"] = word(1)
    known[VAI, "getVAIMinterInterestIndex(address)"] = word(WAD)
    reader = Answering(known)
    mint = event(VAI, "MintVAI(address,uint256)", ALICE, 5)
    for number in range(9, 13):
        head = replace(HEAD, number=number)
        before = list(market.calls())
        assert market.fold(mint._replace(block_number=number)) is not None
        assert market.calls() == before
        market.observe(await reader.multicall(before), head)
        # Read with the head after, and as it is there: it changed once more.
        assert ledger.minters == {ALICE: Unread(9) if number == 9 else Minted(5, 1, WAD)}
    sizes = [len(market.calls())]
    for number in (13, 13 + LATELY):
        market.observe(await reader.multicall(market.calls()), replace(HEAD, number=number))
        sizes.append(len(market.calls()))
    assert sizes == [8 + RULES + 3, 8 + RULES + 3, 8 + RULES]


def test_the_accrued_index_is_of_one_call() -> None:
    """A request that is cut between the reads adds the interest where nobody reads it."""
    vai = Vai(VAI, Token(VAI, "VAI", 18))
    calls = rule_calls(vai, COMPTROLLER, LIQUIDATOR)
    assert len(calls) == RULES
    growing = [CallResult(True, word(5 * WAD)), CallResult(True, b""), CallResult(True, word(WAD))]
    rest = [CallResult(True, word(n)) for n in (70, 0, 1, 900)]
    inner = encode(["(bool,bytes)[]"], [[(True, word(2)), (True, b""), (True, word(3))]])
    assert calls[0] == Call(MULTICALL3, encode_aggregate3(calls[1:4]))
    for through, first, least in ((True, True, 900), (False, False, 0)):
        told = [CallResult(True, inner), *growing, *rest]
        assert take_rules(told, 8, through=through) == Rules(2, 3, 70, 8, first, least)
        for nothing in (CallResult(True, b""), CallResult(False, inner)):
            told[0] = nothing
            found = take_rules(told, 8, through=through)
            assert found == Rules(5 * WAD, WAD, 70, 8, first, least)
        told[4] = CallResult(False, b"")
        assert take_rules(told, 8, through=through) is None


def test_a_liquidation_of_vai_is_told_with_vai_as_its_debt() -> None:
    market, ledger, _ = owing()
    log = event(
        VAI, "LiquidateVAI(address,address,uint256,address,uint256)", BOB, ALICE, 7, CETH, 9
    )
    assert market.liquidation(log) is None
    assert VAI not in market.liquidation_logs().addresses
    token = Token(Address(b"\x31" * 20), "VAI", 18)
    ledger.vai = Vai(VAI, token)
    assert market.tokens()[token.address] == token
    told = market.liquidation(log)
    received = 9 * ledger.ctokens[0].exchange_rate(ledger.ctokens[0].stored) // WAD
    assert received > 0
    assert told == (ALICE, token.address, WETH, 7, received, BOB)
    watch = market.liquidation_logs()
    assert log.address in watch.addresses
    assert log.topics[0] in watch.topics
    borrowed = log._replace(address=CUSDC, topics=(events.LIQUIDATE,))
    assert market.liquidation(borrowed) == (ALICE, USDC, WETH, 7, received, BOB)


def test_an_event_that_names_a_stranger_is_refused() -> None:
    log = event(COMPTROLLER, "MarketEntered(address,address)", BOB, ALICE)
    with pytest.raises(UndecodableError, match="does not list"):
        events.fold(made(), COMPTROLLER, VAI, log)


class Answering:
    """Answers reads by target and selector; what it does not know reverts."""

    def __init__(self, known: Mapping[tuple[Address, str], bytes]) -> None:
        self._known = {(to, selector(name)): answer for (to, name), answer in known.items()}

    async def code(self, _address: Address, _block: Hash | None = None) -> bytes:
        return b"\1"

    async def storage(self, _address: Address, _slot: int, _block: Hash) -> bytes:
        return bytes(32)

    async def multicall(
        self, calls: Sequence[Call], _block: Hash | None = None
    ) -> list[CallResult]:
        found = [self._known.get((call.target, call.data[:4])) for call in calls]
        return [CallResult(each is not None, each or b"") for each in found]


def string(text: str) -> bytes:
    return word(32) + word(len(text)) + text.encode().ljust(32, b"\0")


def first_comptroller() -> dict[tuple[Address, str], bytes]:
    """Return what a comptroller like Compound's own answers, its cTokens counting in seconds."""
    known = {
        (COMPTROLLER, "isComptroller()"): word(1),
        (COMPTROLLER, "oracle()"): word(ORACLE),
        (COMPTROLLER, "getAllMarkets()"): word(32) + word(2) + word(CETH) + word(CUSDC),
        (COMPTROLLER, "closeFactorMantissa()"): word(WAD // 2),
        (COMPTROLLER, "liquidationIncentiveMantissa()"): word(108 * WAD // 100),
        (COMPTROLLER, "markets(address)"): word(1) + word(75 * WAD // 100) + word(1),
        (CUSDC, "underlying()"): word(USDC),
    }
    for ctoken, asset, decimals in ((CETH, WETH, 18), (CUSDC, USDC, 6)):
        known |= {
            (ctoken, "symbol()"): string("cX"),
            (ctoken, "decimals()"): word(8),
            (ctoken, "borrowIndex()"): word(WAD),
            (ctoken, "totalBorrows()"): word(3),
            (ctoken, "reserveFactorMantissa()"): word(WAD // 10),
            (ctoken, "accrualBlockTimestamp()"): word(900),
            (ctoken, "protocolSeizeShareMantissa()"): word(28 * WAD // 1_000),
            (asset, "symbol()"): string("X"),
            (asset, "decimals()"): word(decimals),
        }
    return known


async def test_a_first_comptroller_is_read_by_what_it_has() -> None:
    reader = Answering(first_comptroller())
    with pytest.raises(ConfigError, match=r"holds the native coin.*wrapped_native"):
        await find(reader, COMPTROLLER, None, HEAD)  # type: ignore[arg-type]
    found = await find(reader, COMPTROLLER, WETH, HEAD)  # type: ignore[arg-type]
    assert replace(found, codes={}) == FOUND
    assert set(found.codes) == {COMPTROLLER, CETH, CUSDC}
    ledger = await load_terms(reader, "old", found, HEAD)  # type: ignore[arg-type]
    assert (ledger.by_seconds, ledger.has_thresholds) == (True, False)
    for ctoken in ledger.ctokens:
        assert ledger.terms_of(CORE, ctoken) == Terms(Wad(75 * WAD // 100), Wad(108 * WAD // 100))
        assert (ctoken.accrued_at, ctoken.seize_share) == (900, 28 * WAD // 1_000)


class MintingNothing(Answering):
    """A first cToken for the native coin adds interest when it is asked for what it does not know."""

    async def multicall(
        self, calls: Sequence[Call], _block: Hash | None = None
    ) -> list[CallResult]:
        before, found = self._known, list[CallResult]()
        for call in calls:
            (answer,) = await super().multicall([call])
            if call.target == CETH and not answer.ok:
                moment = {(CETH, selector("accrualBlockTimestamp()")): word(HEAD.timestamp)}
                index = {(CETH, selector("borrowIndex()")): word(2 * WAD)}
                answer = CallResult(True, b"")
                self._known = {**self._known, **moment, **index}
            found.append(answer)
        self._known = before
        return found


async def test_interest_that_the_reads_themselves_add_is_not_read() -> None:
    known = first_comptroller()
    del known[CETH, "protocolSeizeShareMantissa()"]
    ledger = await load_terms(MintingNothing(known), "old", FOUND, HEAD)  # type: ignore[arg-type]
    ceth = ledger.ctokens[0]
    assert (ceth.index, ceth.accrued_at, ceth.seize_share) == (WAD, 900, 0)


def test_a_denied_token_is_denied_as_a_claim_too() -> None:
    usdc, weth = Token(USDC, "USDC", 6), Token(CETH, "cETH", 8, WETH)
    assert Lists().refusal("compound-v2", weth, usdc) == ""
    denied = "token cETH is not allowed here"
    assert Lists(denied_tokens=frozenset({WETH})).refusal("compound-v2", weth, usdc) == denied
    assert Lists(denied_tokens=frozenset({CETH})).refusal("compound-v2", weth, usdc) == denied
    assert Lists(allowed_tokens=frozenset({USDC})).refusal("compound-v2", weth, usdc) == denied
    both = Lists(allowed_tokens=frozenset({USDC, WETH}))
    assert both.refusal("compound-v2", weth, usdc) == ""


async def test_a_third_word_of_a_market_is_a_threshold_where_it_is_no_flag() -> None:
    known = first_comptroller()
    words = word(1) + word(75 * WAD // 100) + word(8 * WAD // 10)
    known[COMPTROLLER, "markets(address)"] = words
    known[COMPTROLLER, "minLiquidatableCollateral()"] = word(100 * WAD)
    reader = Answering(known)
    ledger = await load_terms(reader, "isolated", FOUND, HEAD)  # type: ignore[arg-type]
    assert (ledger.has_thresholds, ledger.minimum_collateral) == (True, 100 * WAD)
    assert ledger.terms_of(CORE, ledger.ctokens[0]).threshold == 8 * WAD // 10


def test_collateral_under_the_minimum_and_vai_are_refused() -> None:
    market, ledger, prices = owing()
    protocol: LendingProtocol = market
    assert isinstance(protocol, Redeeming)
    at = NextBlock(8, 1_012, Wei(0))
    position = market.position(ALICE, prices, at)
    assert position is not None
    assert (position.collateral_value, position.debt_value) == (100 * 10**36, 60 * 10**36)
    (terms,), _ = market.pairs(position, prices, at)
    assert terms.maximum == 30 * 10**6
    assert terms.seize(terms.maximum).called == CUSDC
    ledger.minimum_collateral = 100 * WAD
    (skip,) = market.pairs(position, prices, at)[1]
    assert (skip.reason, "is not above the least" in skip.detail) == (Reason.DUST, True)
    ledger.minimum_collateral = 0
    ledger.minters[ALICE] = Unread()
    (skip,) = market.pairs(position, prices, at)[1]
    assert (skip.reason, "VAI" in skip.detail) == (Reason.DENIED, True)


def owing() -> tuple[CompoundV2, Ledger, Prices]:
    """Return a market in which Alice may be liquidated for 60 USDC against 0.05 WETH."""
    market = CompoundV2("old", FOUND)
    ledger = market._ledger = made()
    for ctoken in ledger.ctokens:
        ctoken.cash, ctoken.supply, ctoken.reserves, ctoken.rate = 2 * 10**24, 10**16, 0, 0
        ledger.set_terms(ctoken, CORE, Terms(Wad(WAD // 2), Wad(11 * WAD // 10)))
    ledger.ctokens[1].cash = 2 * 10**12
    ledger.set_debt(ALICE, ledger.ctokens[1], (60 * 10**6, WAD))
    ledger.set_balance(ALICE, ledger.ctokens[0], 10**10 // 40)
    ledger.entered[ALICE] = 3
    return market, ledger, Prices("old", 10**36, {WETH: 2_000 * 10**36, USDC: 10**36})


def test_two_ctokens_of_one_underlying_are_called_apart() -> None:
    """A group's calls go to one borrowed cToken, so that what they share has to tell it."""
    market, ledger, prices = owing()
    other = Address(bytes([20]) * 20)
    usdc = ledger.ctokens[1].underlying
    ledger.list_ctoken(CToken(2, Token(other, "cUSDC2", 8), usdc, False, WAD, 0, 5))
    ledger.set_terms(ledger.ctokens[2], CORE, Terms(Wad(WAD // 2), Wad(11 * WAD // 10)))
    late = ledger.ctokens[2]
    late.cash, late.supply, late.reserves, late.rate = 2 * 10**12, 10**16, 0, 0
    ledger.set_debt(ALICE, late, (60 * 10**6, WAD))
    ledger.entered[ALICE] = 7
    at = NextBlock(8, 1_012, Wei(0))
    position = market.position(ALICE, prices, at)
    assert position is not None
    found, _ = market.pairs(position, prices, at)
    assert {each.debt.address for each in found} == {USDC}
    keys = {group_key(quoted(position, each)): market.execution(each).target for each in found}
    assert sorted(keys.values()) == [CUSDC, other]


def test_a_debt_that_was_repaid_is_not_taken_for_its_twin() -> None:
    """Two debts in one token are told apart when a call of the same block closed the first."""
    market, ledger, prices = owing()
    usdc = ledger.ctokens[1].underlying
    twin = Token(Address(bytes([20]) * 20), "cUSDC2", 8)
    ledger.list_ctoken(CToken(2, twin, usdc, False, WAD, 0, 5))
    late = ledger.ctokens[2]
    late.cash, late.supply, late.reserves, late.rate = 2 * 10**12, 10**16, 0, 0
    ledger.set_debt(ALICE, late, (70 * 10**6, WAD))
    ledger.entered[ALICE] = 7
    held = parts(ledger, ALICE, prices, 8)
    assert held is not None
    for first, second in ((0, 70), (60, 0), (25, 70), (60, 30), (0, 0)):
        debts = {CUSDC: first * 10**6, twin.address: second * 10**6}
        left = [
            part.accrued(part.balance, debts[part.token.address]) if part.debts[1] else part
            for part in held
        ]
        blank = Position("old", "compound-v2", ALICE, (), (), 0, 0, Wad(0))
        found = behind(held, with_parts(blank, left))
        assert {p.token.address: p.debts[1] for p in found if p.token.address in debts} == debts
    assert market.market == "old"


def quoted(position: Position, terms: CompoundTerms) -> Quote:
    step = Step(terms, terms.maximum, terms.seize(terms.maximum))
    opportunity = Opportunity(position, (terms,), Cause.PRICE)
    return replace(make_quote(position.borrower), opportunity=opportunity, steps=(step,))


@pytest.mark.parametrize("by_seconds", [False, True])
def test_no_repay_is_over_the_close_factor_of_an_earlier_block(by_seconds: bool) -> None:
    """What counts seconds may be asked before the second it was sized for."""
    market, ledger, prices = owing()
    ledger.by_seconds = by_seconds
    for ctoken in ledger.ctokens:
        ctoken.rate, ctoken.accrued_at, ctoken.borrows = (
            WAD // 10**4,
            1_000 if by_seconds else 5,
            10**9,
        )
    at = NextBlock(8, 1_012, Wei(0))
    position = market.position(ALICE, prices, at)
    assert position is not None
    (terms,), _ = market.pairs(position, prices, at)
    owed = ledger.ctokens[1]
    soonest = owed.accrued(1_001 if by_seconds else 8).index
    assert terms.maximum <= owed.owed(ALICE, soonest) * ledger.close_factor // WAD
    assert terms.maximum >= owed.owed(ALICE, owed.index) * ledger.close_factor // WAD


def running(codes: Mapping[Address, bytes], code: str = "") -> CompoundV2:
    market = CompoundV2("old", replace(FOUND, codes=codes), code=code)
    market._ledger = made()
    return market


def test_code_is_remembered_from_a_snapshot_that_is_of_no_other_use() -> None:
    first = {COMPTROLLER: b"c", CETH: b"e", CUSDC: b"u"}
    page = next(iter(running(first).snapshot()()))
    market = running({**first, COMPTROLLER: b"other"})
    market._judge_code()
    assert market.stopped == ""
    for nothing in (b"", b"{}", b"[]", page.replace(COMPTROLLER.hex().encode(), b"00" * 20)):
        market.remember(nothing)
        market._judge_code()
        assert market.stopped == ""
    market.remember(page)
    market._judge_code()
    assert "was replaced" in market.stopped
    assert isinstance(market, Remembering)


def test_reviewed_code_goes_on_as_known_code_does_when_a_ctoken_is_listed() -> None:
    reviewed = {COMPTROLLER: b"c", CETH: b"e", CUSDC: b"u"}
    market = running(reviewed, fingerprint(reviewed))
    market._judge_code()
    listed: dict[Address, bytes] = {**reviewed, ALICE: b"u"}
    for codes, stopped, doubt in (
        (listed, "", ""),
        ({**reviewed, CETH: b"other"}, "", "was replaced"),
        ({**listed, COMPTROLLER: b"other"}, "was replaced", ""),
    ):
        market._deployment, market._ledger = replace(FOUND, codes=codes), made()
        market._judge_code()
        assert (stopped in market.stopped) if stopped else not market.stopped
        assert doubt in market._ledger.ctokens[0].doubt
    market = running(listed, fingerprint(reviewed))
    market._judge_code()
    assert "is not the code that was reviewed" in market.stopped


@pytest.mark.parametrize(
    "name", ["comptrollerImplementation()", "comptrollerLens()", "vaiControllerImplementation()"]
)
async def test_what_a_contract_delegates_to_is_in_its_print(name: str) -> None:
    class Coded(Answering):
        changed = b""

        async def code(self, address: Address, _block: Hash | None = None) -> bytes:
            return address + (self.changed if address == ALICE else b"")

    reader = Coded({(VAI, name): word(ALICE)})
    before = await codes_of(reader, [VAI], HEAD)  # type: ignore[arg-type]
    reader.changed = b"\1"
    after = await codes_of(reader, [VAI], HEAD)  # type: ignore[arg-type]
    assert set(before) == set(after) == {VAI}
    assert before != after


def test_a_new_contract_is_known_when_it_runs_known_code() -> None:
    known = {COMPTROLLER: b"c", CETH: b"old", CUSDC: b"token"}
    assert doubts(known, known) == {}
    assert doubts(known, {**known, ALICE: b"token"}) == {}
    found = doubts(known, {**known, CETH: b"new", ALICE: b"strange"})
    assert set(found) == {CETH, ALICE}
    assert "was replaced" in found[CETH]
    assert "is new" in found[ALICE]
    assert fingerprint(known) == fingerprint(dict(reversed(known.items()))) != fingerprint({})
