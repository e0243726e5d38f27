"""What of profit is offered for sale, and what stops a sale without stopping a sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from eth_hash.auto import keccak
from hypothesis import given, strategies as st

from keeper.app.conversion import Converter, ConvertRules, Situation
from keeper.app.stock import Stock
from keeper.app.till import named_token
from keeper.errors import ConfigError, TransientError
from keeper.fees import DataFee, OpStackFee
from keeper.planning.converting import Rule, best_offer, has_no_rules, read_rule
from keeper.planning.size import transaction_size
from keeper.planning.treasury import Balance, native
from keeper.types import Call, CallResult, Fees, Hop, PoolSwap
from keeper.units import BPS, USD, Bps, Hash, Usd, Wei, mul_div_up, to_hex
from tests.plans import CONTRACT, GWEI, USDC, WETH, address, make_head

ETHER = 10**18
PRICE = Usd(2_000 * USD)
NOW = make_head()
UNKNOWN = CallResult(False, keccak(b"UnknownFunction()")[:4])


class Pool:
    """Gives so many wei of WETH for any amount of USDC."""

    name = "pools"

    def __init__(self, out: int) -> None:
        self.out = out

    def begin(self) -> "Pool":
        return self

    def hops(self, token: bytes) -> list[Hop]:
        return [Hop("pools", address("pool"), USDC.address, WETH.address)]

    def quote(self, hop: Hop, amount: int) -> int:
        return self.out

    def execution(self, hop: Hop) -> PoolSwap:
        return PoolSwap(address("factory"), 500)


def told(*numbers: int) -> CallResult:
    return CallResult(True, b"".join(number.to_bytes(32, "big") for number in numbers))


def situation(data_fee: DataFee | None = None) -> Situation:
    fees = Fees(Wei(3 * GWEI), Wei(GWEI))
    operator = address("operator")
    return Situation(NOW, NOW.next_block(12), fees, PRICE, operator, Wei(0), 9, data_fee)


def stock(amount: int = 5_000 * 10**6) -> Stock:
    held = (
        Balance(native(), 0, 0, PRICE),
        Balance(USDC, amount, 0, Usd(USD)),
        Balance(WETH, 0, 0, PRICE),
    )
    return Stock(held, address("treasury"), Wei(0), Wei(0), Wei(0), 0)


def converter(answer: CallResult, events: list[tuple[str, Any]], gas: int = 150_000) -> Converter:
    async def multicall(calls: Sequence[Call], block: Hash) -> list[CallResult]:
        return [answer for _ in calls]

    async def request(method: str, parameters: Sequence[Any]) -> str:
        return hex(gas)

    def tell(name: str, fields: Mapping[str, object]) -> None:
        events.append((name, fields))

    parts: dict[str, Any] = {
        "reader": SimpleNamespace(multicall=multicall),
        "rpc": SimpleNamespace(request=request),
        "venues": lambda: [Pool(5 * ETHER // 2)],
    }
    rules = ConvertRules("test", CONTRACT, WETH, WETH.address, Bps(100), 20)
    return Converter(rules, **parts, new_id=lambda: "id", tell=tell)


async def test_a_contract_without_rules_is_told_of_once_and_sells_nothing() -> None:
    events: list[tuple[str, Any]] = []
    selling = converter(UNKNOWN, events)
    for _ in range(3):
        assert await selling.plan(stock(), situation()) is None
    assert [name for name, _ in events] == ["treasury.no_rules"]
    assert "contract deploy" in events[0][1]["reason"]


async def test_a_rule_that_was_not_read_is_no_missing_rule() -> None:
    for broken in (CallResult(False, b""), CallResult(True, b""), CallResult(False, b"\1\2\3\4")):
        assert not has_no_rules(broken)
        with pytest.raises(TransientError):
            await converter(broken, []).plan(stock(), situation())
    assert not has_no_rules(replace(UNKNOWN, ok=True))


async def test_a_rule_is_sold_by() -> None:
    found = await converter(told(3_000 * 10**6, ETHER, 0, 0), []).plan(stock(), situation())
    assert found is not None
    assert found.sweep is not None
    assert found.sweep.amount == 3_000 * 10**6


async def test_what_a_rollup_charges_beside_the_gas_counts() -> None:
    rule = told(3_000 * 10**6, ETHER, 0, 0)
    cheap, dear = (OpStackFee(Wei(fee * GWEI), 10**6, Wei(0), 0) for fee in (1, 10**6))
    found = await converter(rule, []).plan(stock(), situation(cheap))
    assert found is not None
    fee = cheap.wei_up(transaction_size(len(found.calldata)), found.gas)
    assert found.data_fee == fee > 0
    assert found.gas_cost == found.gas * found.fees.price(found.next_block.base_fee) + fee
    assert found.net_usd == -mul_div_up(found.gas_cost, PRICE, ETHER)
    assert await converter(rule, []).plan(stock(), situation(dear)) is None


@given(
    amount=st.integers(1, 10**13),
    least=st.integers(1, 10**21),
    per_day=st.integers(1, 10**13),
    sold=st.integers(0, 10**13),
    slippage=st.integers(0, 9_999),
    out=st.integers(0, 10**22),
)
def test_an_offer_holds_the_contracts_rule_and_the_oracles_value(
    amount: int, least: int, per_day: int, sold: int, slippage: int, out: int
) -> None:
    rule = Rule(per_day, least, NOW.timestamp // 86_400, sold)
    venues: Any = [Pool(out)]
    held = Balance(USDC, amount, 0, Usd(USD))
    offer = best_offer(held, WETH, PRICE, rule, venues, Bps(slippage), NOW.timestamp)
    if offer is None:
        return
    assert 0 < offer.amount <= amount
    assert sold + offer.amount <= per_day
    # the same as in the contract (liquidator.vy, convert)
    assert offer.minimum * per_day >= offer.amount * least
    # both in dollars of 8 decimals times both units, and the slippage in basis points
    brought = offer.minimum * PRICE * 10**6 * BPS
    assert brought >= offer.amount * USD * ETHER * (BPS - slippage)
    assert offer.expected == out >= offer.minimum > 0


def test_unpriced_is_not_sold() -> None:
    rule, venues = Rule(10**12, 1, 0, 0), [Pool(ETHER)]
    given_up: Any = venues
    held = Balance(USDC, 10**9, 0, None)
    assert best_offer(held, WETH, PRICE, rule, given_up, Bps(100), NOW.timestamp) is None
    with pytest.raises(TransientError):
        read_rule(CallResult(True, bytes(127)))


def test_the_native_coin_is_no_token_to_sell_or_buy() -> None:
    tokens = [USDC, WETH]
    assert named_token(tokens, "usdc") == USDC
    assert named_token(tokens, to_hex(WETH.address)) == WETH
    for text in ("native", "OTHER"):
        with pytest.raises(ConfigError):
            named_token(tokens, text)
