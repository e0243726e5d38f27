"""Only who may lend to the contract is asked for a loan."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

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
    encode_spender_of,
)
from keeper.planning.reasons import explain_reason
from keeper.types import AllowedCall, Call, CallResult, FlashKind, FlashSource, Reason, Skip
from keeper.units import ZERO_ADDRESS, Address
from keeper.venues.balancer_v2 import BalancerV2
from keeper.venues.balancer_v2.venue import VAULT_FLASH
from tests.fake_market import (
    AAVE,
    CONTRACT,
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
    assert [each["event"] for each in logs] == ["lender.not_allowed"] * told.count(False)


async def test_what_the_contract_does_not_answer_is_left_to_the_simulation() -> None:
    contract = Contract()
    contract.say(b"", b"", ok=False)
    found = lenders(contract)
    await found.read()
    assert found.may_lend(LOAN)
    assert found.may_lend(OF_POOL)


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
        answer = bytes(32)

        async def multicall(self, calls: Sequence[Call]) -> list[CallResult]:
            asked.extend(calls)
            return [CallResult(True, self.answer) for _ in calls]

    reader: Any = Owned()
    found = Lenders("test", reader, CONTRACT, {}, {"balancer": vault})
    await found.read()
    assert [each.data for each in asked] == [encode_spender_of(VAULT, VAULT_FLASH)]
    assert not found.may_lend(held)
    reader.answer = VAULT.rjust(32, b"\0")
    await found.read()
    assert found.may_lend(held)


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
