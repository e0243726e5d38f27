"""Only who may lend to the contract is asked for a loan."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
import structlog
from eth_hash.auto import keccak

from keeper.app.lenders import Lenders
from keeper.app.looking import HEADS
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.planning.owner_calls import (
    AAVE_FLASH,
    FLASH_LOANS,
    LIQUIDATION_CALL,
    VAULT_REDEEM,
    encode_spender_of,
)
from keeper.planning.reasons import explain_reason
from keeper.types import (
    AllowedCall,
    Call,
    CallResult,
    Execution,
    FlashKind,
    FlashSource,
    Hop,
    NativeUnwrap,
    Permission,
    PoolCall,
    PoolSwap,
    Reason,
    Skip,
    TrustedFactory,
    VaultRedeem,
)
from keeper.units import ZERO_ADDRESS, Address, Hash
from keeper.venues.balancer_v2 import BalancerV2
from keeper.venues.balancer_v2.venue import VAULT_FLASH, VAULT_SWAP
from tests.fake_market import (
    AAVE,
    CONTRACT,
    FACTORY,
    MARKET,
    USDC,
    WETH,
    FakeTerms,
    choice,
    pool,
    venue,
    view,
)
from tests.unit.test_planning_quotes import RULES, only, planner, refused

LOAN = FlashSource(FlashKind.AAVE, AAVE, USDC.address, 10**12, 500)
POOL = venue(pool(1, WETH, USDC, 500, 10**6))
VAULT, SOLD = Address(b"\xe1" * 20), Address(b"\xe2" * 20)
(OF_POOL,) = POOL.flash_sources(USDC.address)
(OUT,) = POOL.hops(WETH.address)
NOT_ALLOWED = keccak(b"NotAllowed()")[:4]
ALLOWED, REFUSED = AAVE.rjust(32, b"\0"), ZERO_ADDRESS.rjust(32, b"\0")
(TRUST,) = POOL.permissions()


@dataclass
class Contract:
    """Answers what it may: who is approved for the pool's loans, and the factory's code hash."""

    answers: list[CallResult] = field(default_factory=list)
    asked: int = 0

    async def multicall(self, calls: Sequence[Call], block: object = None) -> list[CallResult]:
        """Answer the two questions."""
        assert [call.target for call in calls] == [CONTRACT] * 2
        self.asked += 1
        if not self.answers:
            raise TransientError("no answer")
        return self.answers

    def say(self, loan: bytes, trusted: bytes, *, ok: bool = True) -> None:
        """Answer so from now on."""
        self.answers = [CallResult(ok, loan), CallResult(ok, trusted)]


def lenders(contract: Contract) -> Lenders:
    """Return what stands between a contract and a market and an exchange that lend."""
    allowed = [AllowedCall(AAVE, each, AAVE) for each in (LIQUIDATION_CALL, AAVE_FLASH)]
    market: Any = SimpleNamespace(permissions=lambda: allowed)
    reader: Any = contract
    return Lenders("test", reader, CONTRACT, {MARKET: market}, {"uniswap": POOL})


@pytest.mark.parametrize(
    ("loan", "trusted", "told"),
    [
        (ALLOWED, TRUST.code_hash, (True, True)),
        (REFUSED, TRUST.code_hash, (False, True)),
        (ALLOWED, bytes(32), (True, False)),
        (REFUSED, bytes(32), (False, False)),
    ],
)
async def test_who_the_owner_did_not_allow_lends_nothing(
    loan: bytes, trusted: bytes, told: tuple[bool, bool]
) -> None:
    contract = Contract()
    found = lenders(contract)
    contract.say(loan, trusted)
    with structlog.testing.capture_logs() as logs:
        await found.read()
        await found.read()
    assert (found.may_lend(LOAN), found.may_lend(OF_POOL)) == told
    elsewhere = replace(OF_POOL, source=Address(b"\x0e" * 20))
    assert found.may_lend(elsewhere)
    events = ["lender.not_allowed"] * (not told[0]) + ["venue.not_allowed"] * (not told[1])
    assert sorted(each["event"] for each in logs) == events
    assert found.may_sell(OUT) == told[1]


async def test_what_the_contract_does_not_answer_is_left_to_the_simulation() -> None:
    contract = Contract()
    contract.say(b"", b"", ok=False)
    found = lenders(contract)
    await found.read()
    assert found.may_lend(LOAN)
    assert found.may_lend(OF_POOL)
    assert found.may_sell(OUT)


async def test_an_owner_who_allows_it_later_is_noticed_beside_the_line() -> None:
    contract = Contract()
    contract.say(REFUSED, TRUST.code_hash)
    found = lenders(contract)
    await found.read()
    assert not found.may_lend(LOAN)

    async def heads() -> None:
        for _ in range(HEADS):
            found.observe(Report(view()))
        assert found._looking._task is not None
        await found._looking._task

    contract.answers = []
    await heads()
    assert not found.may_lend(LOAN), "a look that got no answer changes nothing"
    contract.say(ALLOWED, TRUST.code_hash)
    with structlog.testing.capture_logs() as logs:
        await heads()
    assert found.may_lend(LOAN)
    assert contract.asked == 3
    assert [each["event"] for each in logs] == ["lender.allowed"]
    contract.say(REFUSED, TRUST.code_hash)
    refused = Skip(MARKET, "p", AAVE, Reason.SIMULATION_FAILED, explain_reason(NOT_ALLOWED))
    found.observe(Report(view(), skips=[refused]))
    await asyncio.sleep(0)
    await found.close()
    assert not found.may_lend(LOAN), "what a simulation meets is looked at then and there"


async def test_a_vault_that_the_owner_allows_swaps_alone_lends_nothing() -> None:
    tokens = [USDC.address, WETH.address]
    vault = BalancerV2("balancer", VAULT, [SOLD], tokens, CONTRACT)
    held = FlashSource(FlashKind.BALANCER, VAULT, USDC.address, 10**9, 0)
    assert VAULT_FLASH in FLASH_LOANS
    asked: list[Call] = []

    class Owned:
        answers = (VAULT.rjust(32, b"\0"), bytes(32))

        async def multicall(self, calls: Sequence[Call]) -> list[CallResult]:
            asked.extend(calls)
            return [CallResult(True, each) for each in self.answers]

    reader: Any = Owned()
    found = Lenders("test", reader, CONTRACT, {}, {"balancer": vault})
    await found.read()
    assert [each.data for each in asked] == [
        encode_spender_of(VAULT, each) for each in (VAULT_SWAP, VAULT_FLASH)
    ]
    assert not found.may_lend(held)
    reader.answers = (VAULT.rjust(32, b"\0"),) * 2
    await found.read()
    assert found.may_lend(held)


class Named:
    """A venue whose hop is made in a way of its own, with what that needs of the owner."""

    def __init__(self, name: str, execution: Execution, *permissions: Permission) -> None:
        self.hop = Hop(name, SOLD, WETH.address, USDC.address)
        self.executed = execution
        self.needed = permissions

    def permissions(self) -> Sequence[Permission]:
        """Return what was given."""
        return self.needed

    def execution(self, hop: Hop) -> Execution:
        """Return what was given."""
        assert hop is self.hop
        return self.executed


async def test_a_hop_is_barred_by_the_call_it_is_made_by_and_no_other() -> None:
    swap, other = bytes(4), b"\1" * 4
    other_factory = Address(b"\x0f" * 20)
    named = [
        Named("router", PoolCall(SOLD, swap + bytes(64), b""), AllowedCall(SOLD, swap, SOLD)),
        Named("beside", PoolCall(SOLD, other, b""), AllowedCall(SOLD, other, SOLD)),
        Named("vault", VaultRedeem(), AllowedCall(WETH.address, VAULT_REDEEM, WETH.address)),
        Named("v3", PoolSwap(FACTORY, 500), TrustedFactory(FACTORY, TRUST.code_hash)),
        Named(
            "v3-too", PoolSwap(other_factory, 500), TrustedFactory(other_factory, Hash(bytes(32)))
        ),
        Named("wrap", NativeUnwrap()),
    ]
    venues: Any = {each.hop.venue: each for each in named}
    found = Lenders("test", cast("Any", None), CONTRACT, {}, venues)
    questions = found.questions()
    assert len(questions) == len(named) - 1
    for barred, question in zip(venues, questions, strict=False):
        answer = CallResult(True, b"\xff" * 32 if barred == "v3-too" else bytes(32))
        found.take({question: answer})
        assert {name for name, each in venues.items() if not found.may_sell(each.hop)} == {barred}
    found.take({})
    assert all(found.may_sell(each.hop) for each in named)


async def test_who_lends_out_of_a_barred_factory_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contract = Contract()
    contract.say(REFUSED, TRUST.code_hash)
    found = lenders(contract)
    await found.read()
    monkeypatch.setattr(POOL, "flash_sources", Mock(side_effect=POOL.flash_sources))
    for held in range(5):
        assert found.may_lend(replace(OF_POOL, available=held)), (
            "what it has changes with every head"
        )
        assert not found.may_lend(LOAN)
    assert cast("Mock", POOL.flash_sources).call_count == 1


def test_a_sale_goes_through_another_venue_when_the_best_is_barred() -> None:
    best, second = pool(1, WETH, USDC, 500, 50_000_000), pool(2, WETH, USDC, 3_000, 50_000_000)
    wanted = choice(1, FakeTerms(WETH, USDC, 10_000 * 10**6))
    free = only(planner(best, second)[0].quote(view(), [wanted]))
    assert best.address in {hop.pool for hop in free.hops}
    rules = replace(RULES, sells=lambda hop: hop.pool != best.address)
    barred = only(planner(best, second, rules=rules)[0].quote(view(), [wanted]))
    assert {hop.pool for hop in barred.hops} == {second.address}
    nowhere = replace(RULES, sells=lambda _: False)
    skip = refused(planner(best, second, rules=nowhere)[0].quote(view(), [wanted]))
    assert skip.reason is Reason.NO_ROUTE
    assert "is not allowed by the contract's owner" in skip.detail


def test_a_plan_borrows_from_the_next_lender_when_the_cheapest_is_barred() -> None:
    pools = (pool(1, WETH, USDC, 500, 50_000_000), pool(2, WETH, USDC, 3_000, 50_000_000))
    wanted = choice(1, FakeTerms(WETH, USDC, 10_000 * 10**6))
    free = only(planner(*pools)[0].quote(view(), [wanted]))
    assert free.flash.kind is FlashKind.AAVE
    rules = replace(RULES, lends=lambda source: source.kind is not FlashKind.AAVE)
    barred = only(planner(*pools, rules=rules)[0].quote(view(), [wanted]))
    assert barred.flash.kind is FlashKind.UNISWAP_V3
    assert barred.flash.source not in {hop.pool for hop in barred.hops}
    nobody = replace(RULES, lends=lambda _: False)
    skip = refused(planner(*pools, rules=nobody)[0].quote(view(), [wanted]))
    assert skip.reason is Reason.CAPITAL
