"""Whether a sent plan still pays: at today's prices, base fee and for what is left of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.app.line import make_look
from keeper.errors import RpcError, TransientError
from keeper.execution.recheck import Gone, Recheck, most_per_gas_down
from keeper.execution.refreshing import at_prices
from keeper.execution.simulate import Simulation, Simulator
from keeper.fees import Inclusion
from keeper.planning.settle import Settled
from keeper.types import Head, Holding, NextBlock, Plan, Prices
from keeper.units import USD, ZERO_ADDRESS, Usd, Wei, to_hex
from tests.plans import GWEI, MARKET, USDC, WETH, Plans, address, make_head, make_view

ONE, TWO = address("one"), address("two")


class Simulated(Simulator):
    """Succeed with nothing returned; keep which block was simulated."""

    def __init__(self) -> None:
        self.at: list[NextBlock] = []

    async def simulate(self, plans: Any, head: Head, at: NextBlock) -> Any:
        """Return one success per plan."""
        self.at.append(at)
        return [type("Result", (), {"ok": True, "gas_used": 400_000, "returndata": b""})()]


def prices(weth: int, usdc: int = USD) -> Prices:
    """Return the market's prices."""
    return Prices(MARKET, USD, {USDC.address: usdc, WETH.address: weth * USD})


def test_gas_costs_what_the_native_coin_is_worth_now() -> None:
    plan = Plans().make(ONE)
    view = replace(make_view(make_head()), prices={MARKET: prices(3_000)})
    fresh = at_prices(plan, view)
    (before,), (quote,) = plan.quotes, fresh.quotes
    assert quote.gas_cost == before.gas_cost * 3 // 2
    assert quote.net == before.net - before.gas_cost // 2
    assert quote.minimum_profit == before.minimum_profit
    assert quote.gross_usd == before.gross_usd
    assert fresh.net_usd < plan.net_usd
    assert fresh.prices[ZERO_ADDRESS] == 3_000 * USD
    assert fresh.calldata == plan.calldata
    assert most_per_gas_down(fresh, Wei(10**18)) < most_per_gas_down(plan, Wei(10**18))


def test_a_debt_token_that_fell_brings_less_and_has_to_bring_more_of_it() -> None:
    plan = Plans().make(ONE)
    view = replace(make_view(make_head()), prices={MARKET: prices(2_000, USD // 2)})
    fresh = at_prices(plan, view)
    (before,), (quote,) = plan.quotes, fresh.quotes
    assert quote.gross_usd == before.gross_usd // 2
    assert quote.minimum_profit == before.minimum_profit * 2
    assert quote.gas_cost == before.gas_cost * 2
    assert fresh.net_usd < plan.net_usd // 2


def test_without_a_price_nothing_is_offered() -> None:
    plan = Plans().make(ONE)
    view = replace(make_view(make_head()), prices={MARKET: Prices(MARKET, USD, {})})
    for seen in (None, view):
        with pytest.raises(TransientError, match="price"):
            at_prices(plan, seen)
    with pytest.raises(TransientError, match="prices"):
        at_prices(replace(plan, prices={}), make_view(make_head()))
    sweep = replace(plan, quotes=(), sweep=Holding(USDC, 1))
    assert at_prices(sweep, None) is sweep


async def test_it_is_judged_in_the_chains_next_block_at_its_prices() -> None:
    simulator, judged = Simulated(), []

    def settle(plan: Plan, gas: int, decoded: bytes) -> Settled:
        judged.append(plan)
        return Settled(plan)

    recheck = Recheck(
        simulator,
        lambda data: data,
        settle,
        lambda data: "",
        2,
        Inclusion.OP_STACK,
        lambda plan: replace(plan, net_usd=Usd(7)),
    )
    head = replace(make_head(), gas_used=30_000_000, base_fee=Wei(100 * GWEI))
    found = await recheck(Plans().make(ONE), head)
    assert isinstance(found, Plan)
    assert found.net_usd == 7
    assert judged == [found]
    (at,) = simulator.at
    assert at == head.next_block(2, Inclusion.OP_STACK)
    assert at.base_fee != head.next_base_fee()


async def test_of_a_plan_that_lost_a_part_the_rest_is_judged() -> None:
    plan = Plans().make(ONE, TWO)
    part = replace(plan, quotes=plan.quotes[:1])
    one, two = (quote.opportunity.key for quote in plan.quotes)
    for left, expected in ((part, part), (None, None)):
        settled = Settled(None, {two: "gone"}, part=left)
        recheck = Recheck(
            Simulated(), lambda data: data, lambda *_, to=settled: to, lambda data: "", 12
        )
        assert await recheck(plan, make_head()) is expected
    every = Settled(None, {one: "gone", two: "gone"})
    recheck = Recheck(Simulated(), lambda data: data, lambda *_: every, lambda data: "", 12)
    assert await recheck(plan, make_head()) == Gone("gone")


async def test_a_sale_is_asked_only_whether_it_would_fail() -> None:
    class Failing(Simulated):
        async def simulate(self, plans: Any, head: Head, at: NextBlock) -> Any:
            return [Simulation(False, 0, b"", error=b"\1\2\3\4")]

    def told(*_: Any) -> Any:
        raise AssertionError("a sale answers nothing")

    plan = Plans().make(ONE)
    for simulator, answer in ((Simulated(), None), (Failing(), Gone("01020304"))):
        recheck: Recheck[Any] = Recheck(simulator, told, told, bytes.hex, 12)
        assert await recheck.failing(plan, make_head()) == answer


async def test_a_recheck_does_not_need_the_money_of_a_higher_base_fee() -> None:
    asked: list[Any] = []

    async def request(method: str, params: Any) -> Any:
        asked.append(params[0]["blockStateCalls"][0])
        raise RpcError(method, 3, "execution reverted", b"\1\2\3\4")

    async def never(*_: Any) -> Any:
        raise AssertionError

    parts: dict[str, Any] = {
        "rpc": SimpleNamespace(request=request),
        "planner": SimpleNamespace(settle=never),
        "signer": SimpleNamespace(address=address("operator")),
        "chain": SimpleNamespace(block_time=12, inclusion_model=Inclusion.AUCTION),
    }
    look = make_look(**parts, refresh=lambda plan: plan)
    assert look is not None
    plan = replace(Plans().make(ONE), sender=address("lane"))
    with pytest.raises(RpcError):
        await look(plan, make_head(101))
    (state,) = asked
    assert int(state["stateOverrides"][to_hex(plan.sender)]["balance"], 16) > 10**20
