"""What is worth sweeping, what a sweep may cost, and what limits and screens make of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from keeper.app.desk import Desk
from keeper.app.stock import DAY, Stock
from keeper.app.treasury import LOOK_HEADS, Rules, Treasury
from keeper.config import load
from keeper.engine import Report
from keeper.errors import ConfigError, TransientError
from keeper.execution.recheck import Gone
from keeper.execution.sweeping import SWEPT, looking, swept
from keeper.fees import ArbitrumFee, OpStackFee
from keeper.observers.observation import Event
from keeper.planning.owner_calls import encode_refill_cap, encode_sweep
from keeper.planning.size import transaction_size
from keeper.planning.treasury import (
    LEAST_GAS,
    SWEEP_CALLDATA,
    Balance,
    balance_calls,
    beside_gas_up,
    gas_usd_up,
    is_worth,
    native,
    promising,
    read_balances,
    sweep_plan,
    total_usd_down,
    usd_prices,
)
from keeper.risk import Limits, Risk
from keeper.types import CallResult, Conversion, Fees, Head, Plan, Prices, Reason, Reverted
from keeper.units import USD, ZERO_ADDRESS, Address, Hash, Usd, Wei, to_hex
from tests.fake_node import FakeClock
from tests.plans import CONTRACT, GWEI, USDC, WETH, Plans, address, make_head, make_view
from tests.unopened import unopened

ETHER = 10**18
CAP = encode_refill_cap()
PRICE = Usd(2_000 * USD)
OTHER = replace(USDC, address=address("OTHER"), symbol="OTHER")


def balance(amount: int, kept: int = 0, price: int | None = USD) -> Balance:
    return Balance(USDC, amount, kept, None if price is None else Usd(price))


def plan(amount: int = 500 * 10**6, gas: int = 50_000, beside: int = 0) -> Plan:
    head = make_head()
    fees = Fees(Wei(3 * GWEI), Wei(GWEI))
    return sweep_plan(
        *("id", "test", CONTRACT, head, head.next_block(12), balance(amount)),
        *(gas, fees, PRICE, 9, Wei(beside)),
    )


@pytest.mark.parametrize(
    ("amount", "kept", "price", "value"),
    [(7 * 10**6, 0, USD, 7 * USD), (7, 9, USD, 0), (10**6, 4 * 10**5, USD, 60_000_000),
     (10**6, 0, None, 0)],
)  # fmt: skip
def test_only_what_is_loose_and_priced_has_a_value(
    amount: int, kept: int, price: int | None, value: int
) -> None:
    assert balance(amount, kept, price).value_usd_down == value


@given(st.integers(0, 10**30), st.integers(1, 100), st.integers(1, 500 * GWEI))
def test_nothing_is_sent_for_less_than_so_many_times_its_gas(
    amount: int, multiple: int, gas_price: int
) -> None:
    held = balance(amount)
    for gas in (LEAST_GAS, 80_000):
        cost = gas_usd_up(gas, gas_price, PRICE)
        assert is_worth(held, gas, multiple, gas_price, PRICE) == (
            held.value_usd_down > multiple * cost
        )
    if not promising([held], multiple, gas_price, PRICE):
        assert not is_worth(held, LEAST_GAS, multiple, gas_price, PRICE)


def test_balances_are_read_in_order_and_a_failed_read_is_no_zero() -> None:
    tokens = (native(), USDC)
    calls = balance_calls(CONTRACT, address("multicall"), tokens)
    assert [call.target for call in calls] == [
        *(address("multicall"), CONTRACT),
        *(USDC.address, CONTRACT),
    ]
    words = [CallResult(True, number.to_bytes(32, "big")) for number in (5, 1, 700, 200)]
    prices = {USDC.address: Usd(USD)}
    (ether, dollars), unread = read_balances(tokens, words, prices)
    assert not unread
    assert (ether.loose, ether.price, dollars.loose) == (4, None, 500)
    assert total_usd_down([ether, dollars]) == 500 * USD // 10**6
    for broken in (CallResult(False, b""), CallResult(True, b"\1")):
        assert read_balances(tokens, [*words[:2], broken, words[3]], prices) == ([ether], [USDC])
        with pytest.raises(TransientError, match="native coin"):
            read_balances(tokens, [broken, *words[1:]], prices)


def test_prices_come_from_the_first_market_that_has_one() -> None:
    markets = [
        Prices("a", 10**8, {USDC.address: 10**8}),
        Prices("b", 10**18, {USDC.address: 2 * 10**18, WETH.address: 2_000 * 10**18}),
    ]
    found = usd_prices(markets, (native(), USDC, WETH, OTHER), WETH.address)
    assert found == {ZERO_ADDRESS: PRICE, USDC.address: USD, WETH.address: PRICE}


def test_a_sweep_is_a_plan_that_costs_its_gas() -> None:
    made = plan()
    assert made.calldata == encode_sweep(USDC.address)
    assert made.net_usd == -gas_usd_up(50_000, made.fees.price(made.next_block.base_fee), PRICE) < 0
    assert (made.quotes, made.gross_usd, made.repaid_usd) == ((), 0, 0)
    assert made.gas_limit > made.gas


def test_a_rollup_s_fee_beside_the_gas_is_a_part_of_what_a_sweep_costs() -> None:
    fee = OpStackFee(Wei(GWEI), 10**9, Wei(0), 0, Wei(7))
    base_fee = Wei(GWEI)
    beside = beside_gas_up(fee, SWEEP_CALLDATA, 50_000, base_fee)
    assert len(encode_sweep(USDC.address)) == SWEEP_CALLDATA
    assert beside == fee.wei_up(transaction_size(SWEEP_CALLDATA), 50_000) > 0
    made = plan(beside=beside)
    assert made.data_fee == beside
    assert made.gas_cost - beside == plan().gas_cost
    assert made.worst_cost - beside == plan().worst_cost
    gas_price = made.fees.price(made.next_block.base_fee)
    assert made.net_usd == -gas_usd_up(50_000, gas_price, PRICE, beside) < plan().net_usd
    held = balance(-made.net_usd // 100 + 1)
    assert is_worth(held, 50_000, 1, gas_price, PRICE, beside)
    assert not is_worth(held, 50_000, 2, gas_price, PRICE, beside)
    least = balance(-plan().net_usd // 100 + 1)
    assert promising([least], 1, gas_price, PRICE) == [least]
    assert promising([least], 1, gas_price, PRICE, beside) == []
    assert beside_gas_up(ArbitrumFee(Wei(GWEI), Wei(1)), SWEEP_CALLDATA, 9, base_fee) == 0, (
        "a node's estimate holds it as gas"
    )
    assert beside_gas_up(None, SWEEP_CALLDATA, 9, base_fee) == 0


async def test_a_sweep_on_a_rollup_is_sent_with_its_fee() -> None:
    sent: list[Plan] = []
    fee = OpStackFee(Wei(GWEI), 10**6, Wei(0), 0)
    view = replace(make_view(make_head(101)), data_fee=fee)
    rich = balance(5_000 * 10**6)
    ether = replace(balance(0, 0, PRICE), token=native())
    held = Stock((ether, rich), CONTRACT, Wei(0), Wei(0), Wei(0), 0)

    async def send(plans: list[Plan]) -> tuple[list[Plan], list[Any]]:
        sent.extend(plans)
        return plans, []

    async def estimate(_: Any) -> int:
        return 50_000

    async def take(_: Any) -> Stock:
        return held

    executor = SimpleNamespace(pending=0, changed=0, send=send)
    treasury = make_treasury(SimpleNamespace(head=view.head), executor)
    treasury._take = take  # type: ignore[method-assign, assignment]
    treasury._estimate = estimate  # type: ignore[method-assign, assignment]
    await treasury._sweep(view)
    assert [made.data_fee for made in sent] == [
        beside_gas_up(fee, SWEEP_CALLDATA, 50_000, view.next_block.base_fee)
    ]
    assert sent[0].data_fee > 0
    assert treasury._sweep_id == sent[0].id


async def test_a_stuck_sweep_may_cost_what_it_moves_and_no_more() -> None:
    async def never(made: Plan, head: Head) -> Gone:
        raise AssertionError("a sweep is not simulated as a batch")

    made = plan()
    found = await looking(never, never)(made, make_head(101))
    assert isinstance(found, Plan)
    assert found.net_usd - made.net_usd == 500 * USD
    other = replace(made, sweep=None)
    with pytest.raises(AssertionError):
        await looking(never, never)(other, make_head(101))


@pytest.mark.parametrize("gone", [None, Gone("ReceivedTooLittle")])
async def test_no_more_is_offered_for_a_sale_that_would_fail_by_now(gone: Gone | None) -> None:
    async def never(made: Plan, head: Head) -> Gone:
        raise AssertionError("a sale is not simulated as a batch")

    async def failing(made: Plan, head: Head) -> Gone | None:
        return gone

    made = replace(plan(), conversion=Conversion(WETH, 1, 1))
    found = await looking(never, failing)(made, make_head(101))
    assert found == gone if gone else isinstance(found, Plan)


@pytest.mark.parametrize("moved", [True, False])
def test_what_left_the_contract_is_no_loss(moved: bool) -> None:
    made = plan()
    assert made.sweep is not None
    log = {
        "address": to_hex(CONTRACT),
        "topics": [to_hex(SWEPT), "0x" + "00" * 12 + USDC.address.hex()],
        "data": "0x" + (500 * 10**6).to_bytes(32, "big").hex(),
        "blockNumber": "0x65",
        "blockHash": "0x" + "11" * 32,
        "transactionHash": "0x" + "22" * 32,
        "logIndex": "0x0",
    }
    foreign = log | {"address": to_hex(OTHER.address)}
    receipt = log | {
        "gasUsed": "0xb000",
        "effectiveGasPrice": hex(GWEI),
        "logs": [foreign, log] if moved else [foreign],
    }
    booked = swept(made, made.sweep, receipt, 5, Usd(9))
    assert (booked.revenue_usd, booked.gas_cost_usd, booked.net_usd) == (0, 9, -9)
    assert booked.gains == ({USDC.address: -500 * 10**6} if moved else {})


def test_limits_bound_a_sweeps_gas_and_not_its_profit(tmp_path: Path) -> None:
    bounds = Limits(
        gas_per_transaction=Wei(10**18),
        gas_per_day=Wei(10**18),
        minimum_profit=Usd(5 * USD),
        largest_repay=Usd(USD),
        kill_file=tmp_path / "KILL",
    )
    risk = Risk("test", bounds, FakeClock())
    assert risk.admit(plan()) is None
    risk.pause("test")
    refusal = risk.admit(plan())
    assert refusal is not None
    assert refusal.reason is Reason.BREAKER
    poor = Risk(
        "test", replace(bounds, gas_per_transaction=Wei(1), gas_per_day=Wei(1)), FakeClock()
    )
    refusal = poor.admit(plan())
    assert refusal is not None
    assert "gas_transaction" in refusal.detail


def test_the_cap_is_per_day() -> None:
    stock = Stock((), CONTRACT, Wei(0), Wei(10), Wei(7), 3)
    assert stock.refillable(3 * DAY + 5) == 3
    assert stock.refillable(4 * DAY) == 10
    assert replace(stock, refilled=Wei(11)).refillable(3 * DAY) == 0


async def test_the_desk_passes_a_sweep_on() -> None:
    asked: list[int] = []
    treasury = SimpleNamespace(ask=lambda: asked.append(1))
    lines = {"x": SimpleNamespace(treasury=treasury), "dry": SimpleNamespace(treasury=None)}
    desk = Desk(["x", "dry"], lines, unopened())
    assert "asked the running keeper" in (await desk.command({"command": "sweep"}))["text"]
    assert asked == [1]
    assert "dry" in (await desk.command({"command": "sweep", "chain": "dry"}))["error"]


CHAIN = "[chains.x]\nchain_id = 1\nendpoints = ['ws://a']\n[treasury]\n"


def test_levels_have_sensible_defaults(tmp_path: Path) -> None:
    path = tmp_path / "keeper.toml"
    path.write_text(CHAIN)
    table = load([path], env={}).settings.treasury
    assert (table.sweep_above, table.refill_below, table.refill_to) == (None, None, 0)
    assert table.warn_below(Wei(5)) == 10
    path.write_text(
        CHAIN + "sweep_above_usd = 0.5\nrefill_below_ether = 0.1\nwarn_below_ether = 2\n"
    )
    table = load([path], env={}).settings.treasury
    assert (table.sweep_above, table.refill_below) == (USD // 2, ETHER // 10)
    assert (table.refill_to, table.warn_below(Wei(5))) == (ETHER // 5, 2 * ETHER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sweep_above_usd = 0", "greater than 0"),
        ("refill_to_ether = 1", "of no use without refill_below_ether"),
        ("refill_below_ether = 1\nrefill_to_ether = 0.5", "is not more than refill_below_ether"),
        ("sweep_hour = 3", "did you mean sweep_hours?"),
    ],
)
def test_levels_that_contradict_each_other_are_one_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "keeper.toml"
    path.write_text(CHAIN + text)
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")) as caught:
        load([path], env={})
    assert "\n" not in str(caught.value)


def make_treasury(book: Any, executor: Any, converter: Any = None) -> Treasury:
    rules = Rules(
        contract=CONTRACT,
        multicall=address("multicall"),
        operator=address("operator"),
        priority_fee=Wei(GWEI),
        max_fee=Wei(100 * GWEI),
        block_time=12,
        sweep_above=None,
        sweep_seconds=0,
        gas_multiple=1,
        refill_below=Wei(ETHER),
        refill_to=Wei(3 * ETHER),
        warn_below=Wei(0),
    )
    parts: dict[str, Any] = {"reader": None, "rpc": None, "book": book, "executor": executor}
    return Treasury(
        "test",
        rules,
        **parts,
        clock=FakeClock(),
        new_id=lambda: "id",
        last_sweep=0.0,
        tell=lambda *_: None,
        converter=converter,
    )


def test_no_refill_is_asked_for_before_what_ended_was_looked_at() -> None:
    executor = SimpleNamespace(pending=0, changed=100, payee=address("operator"))
    treasury = make_treasury(SimpleNamespace(head=make_head(101)), executor)
    day = make_head(101).timestamp // DAY
    low = Stock((), address("owner"), Wei(0), Wei(9 * ETHER), Wei(0), day)
    treasury._stock, treasury._payee = (make_head(100), low), (executor.payee, Wei(ETHER // 2))
    assert treasury.refill() == 25 * ETHER // 10
    executor.changed = 101
    assert treasury.refill() == 0, "what was mined may have filled it"
    treasury._stock = (make_head(101), low)
    assert treasury.refill() == 25 * ETHER // 10
    executor.payee = address("other")
    assert treasury.refill() == 0, "how much that one holds was not read"
    executor.payee, executor.pending = address("operator"), 1
    assert treasury.refill() == 0


def executor_of(held: dict[Address, int], payee: Address) -> Any:
    lanes = [SimpleNamespace(address=wallet) for wallet in held]
    poorest = min(held, key=lambda wallet: held[wallet])
    return SimpleNamespace(pending=0, changed=0, poorest=poorest, payee=payee, lanes=lanes)


def reader_of(held: dict[Address, int]) -> Any:
    async def multicall(calls: Any, _: Any) -> list[CallResult]:
        told = []
        for call in calls:
            word = held.get(Address(call.data[-20:]), 9 * ETHER if call.data[:4] == CAP else 0)
            told.append(CallResult(True, word.to_bytes(32, "big")))
        return told

    return SimpleNamespace(multicall=multicall)


async def test_each_wallet_that_is_low_is_told_of_when_it_becomes_so() -> None:
    first, second = address("first"), address("second")
    held = {first: ETHER, second: 2 * ETHER}
    view = make_view(make_head(101))
    executor = executor_of(held, payee=second)
    treasury = make_treasury(SimpleNamespace(head=view.head), executor)
    treasury._rules = replace(treasury._rules, warn_below=Wei(ETHER // 2))
    treasury._reader = reader_of(held)
    told: list[tuple[str, object]] = []
    treasury._tell = lambda event, fields: told.append((event, fields["wallet"]))
    for changes in ({}, {first: 1}, {second: 0}, {}, {first: ETHER}, {second: ETHER}):
        held.update(changes)
        executor.poorest = min(held, key=lambda wallet: held[wallet])
        await treasury._take(view)
        low = [wallet for wallet in held if held[wallet] < ETHER // 2]
        assert [w for w in held if treasury.is_too_low(w, Wei(ETHER))] == low
        assert treasury.is_low is bool(low)
    assert told == [
        ("wallet.low", to_hex(first)),
        ("wallet.low", to_hex(second)),
        ("wallet.refilled", to_hex(first)),
        ("wallet.refilled", to_hex(second)),
    ]


async def test_what_a_refill_comes_to_is_by_the_wallet_it_goes_to() -> None:
    held = {address("empty"): 0, address("low"): ETHER // 2}
    executor = executor_of(held, payee=address("low"))
    view = make_view(make_head(101))
    treasury = make_treasury(SimpleNamespace(head=view.head), executor)
    treasury._reader = reader_of(held)
    await treasury._take(view)
    assert (treasury.balance, treasury.refill()) == (0, 25 * ETHER // 10)
    executor.payee = address("empty")
    assert treasury.refill() == 0
    await treasury._look(Report(view, plans=[Plans().make()]))
    assert treasury.refill() == 3 * ETHER


async def test_a_sale_that_reverted_is_not_tried_again_at_once() -> None:
    sale = plan()
    empty = Stock((), CONTRACT, Wei(0), Wei(0), Wei(0), 0)

    async def stock(*_: Any) -> Stock:
        return replace(empty, balances=(replace(balance(0, 0, PRICE), token=native()),))

    async def found(*_: Any) -> Plan:
        return sale

    async def send(plans: list[Plan]) -> tuple[list[Plan], list[Any]]:
        return plans, []

    executor = SimpleNamespace(pending=0, changed=0, send=send, poorest=None)
    converter: Any = SimpleNamespace(plan=found, refills=True)
    view = make_view(make_head(101))
    treasury = make_treasury(SimpleNamespace(head=view.head), executor, converter)
    treasury._take = stock  # type: ignore[method-assign, assignment]
    treasury.refill = lambda: Wei(1)  # type: ignore[method-assign]
    assert treasury._may_convert(view.head)
    assert await treasury._convert(view)
    for other, waits in (("another", False), (sale.id, True)):
        receipt = Reverted(other, Hash(bytes(32)), 102, 90_000, Wei(GWEI), "ReceivedTooLittle")
        treasury.observe(Event("test", "plan.reverted", {"plan": sale, "receipt": receipt}))
        assert treasury._may_convert(make_head(103)) is not waits
    assert treasury._may_convert(make_head(102 + LOOK_HEADS))


async def test_a_sweep_that_reverted_is_not_sent_again_at_once() -> None:
    made = plan()
    rich = Stock((balance(5_000 * 10**6),), CONTRACT, Wei(0), Wei(0), Wei(0), 0)
    executor = SimpleNamespace(pending=0, changed=0)
    treasury = make_treasury(SimpleNamespace(head=make_head(101)), executor)
    treasury._stock = (make_head(101), rich)
    treasury.ask()
    treasury._sweep_id = made.id
    for other, waits in (("another", False), (made.id, True)):
        receipt = Reverted(other, Hash(bytes(32)), 102, 90_000, Wei(GWEI), "")
        treasury.observe(Event("test", "plan.reverted", {"plan": made, "receipt": receipt}))
        assert treasury._is_due(make_head(103)) is not waits
    assert treasury._is_due(make_head(102 + LOOK_HEADS))


def test_dust_at_risk_keeps_nothing_from_the_treasury() -> None:
    executor = SimpleNamespace(pending=0)
    view = make_view(make_head(101), (address("dust"),))
    treasury = make_treasury(SimpleNamespace(head=view.head), executor)
    assert view.at_risk
    assert treasury._is_quiet(Report(view))
    made = Plans().make(address("dust"))
    assert not treasury._is_quiet(Report(view, plans=[made]))
    assert not treasury._is_quiet(Report(view, sent=[made]))
    assert not treasury._is_quiet(Report(make_view(make_head(100))))
    executor.pending = 1
    assert not treasury._is_quiet(Report(view))
