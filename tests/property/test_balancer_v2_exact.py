"""Local Balancer quotes equal the real pool's to the wei, on random weights, balances and amounts."""

import random
from decimal import Decimal, localcontext

import pytest
from eth_abi.abi import encode
from hypothesis import example, given, settings, strategies as st

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.types import Call
from keeper.units import Address
from keeper.venues.balancer_v2.powers import ONE, Powers, pow_up, power
from keeper.venues.balancer_v2.reads import query
from tests.exchanges.balancer_v2 import deploy_exchange
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
ON_SWAP = bytes.fromhex("9d2c110c")
_REQUEST = "(uint8,address,address,uint256,bytes32,uint256,address,address,bytes)"
_MOST = 2**112 - 1
WEIGHTS = (
    {"WETH": 50, "USDC": 50},
    {"WETH": 80, "USDC": 20},
    {"WBTC": 99, "DAI": 1},
    {"WETH": 33, "WBTC": 33, "USDC": 34},
    {"WETH": 60, "DAI": 15, "USDC": 15, "WBTC": 10},
)
QUOTES, PORTION = 3_000, 200


@pytest.mark.parametrize("weights", WEIGHTS, ids="-".join)
async def test_quotes_equal_the_pools(net: Devnet, weights: dict[str, int]) -> None:
    """The pool itself is asked what it would give for balances the vault never had."""
    exchange, rng = deploy_exchange(net), random.Random(str(weights))
    opened = exchange.open(weights, rng.randrange(10**12, 10**17), 10**6)
    (pool,) = (await exchange.loaded()).pools.values()
    assert pool.powers is Powers.LOGARITHM
    reader, refused, nothing = ChainReader(DirectRpc(net)), 0, 0
    for _ in range(QUOTES // PORTION):
        asked = []
        for _ in range(PORTION):
            sold, bought = rng.sample(range(len(pool.tokens)), 2)
            cash = [int(2 ** rng.uniform(30, 110)) for _ in pool.tokens]
            most = min(cash[sold] * 2 // 5, _MOST - cash[sold])
            amount = max(int(most * 2 ** -rng.uniform(0, 40)), 1)
            asked.append((tuple(cash), sold, bought, amount))
        calls = [Call(opened.address, on_swap(pool.tokens, opened.number, *each)) for each in asked]
        for each, answer in zip(asked, await reader.multicall(calls), strict=True):
            theirs = int.from_bytes(answer.data) if answer.ok else 0
            assert pool.sell(*each) == theirs, each
            refused += not answer.ok
            nothing += not theirs
    print(f"weights {weights}: {QUOTES} quotes equal, {refused} refused, {nothing} of them 0")
    assert 0 < refused < QUOTES // 2
    assert nothing < QUOTES // 4


def on_swap(
    tokens: tuple[Address, ...],
    number: bytes,
    cash: tuple[int, ...],
    sold: int,
    bought: int,
    amount: int,
) -> bytes:
    """Return the vault's question to a pool: what an exact input brings."""
    nobody = bytes(20)
    request = (0, tokens[sold], tokens[bought], amount, number, 0, nobody, nobody, b"")
    return ON_SWAP + encode([_REQUEST, "uint256", "uint256"], [request, cash[sold], cash[bought]])


async def test_the_vaults_own_queries_say_the_same(net: Devnet) -> None:
    exchange, rng = deploy_exchange(net), random.Random(9)
    for weights in WEIGHTS:
        exchange.open(weights, 10**15, 10**6)
    venue, reader, asked = await exchange.loaded(), ChainReader(DirectRpc(net)), []
    for _ in range(400):
        pool = rng.choice(list(venue.pools.values()))
        sold, bought = rng.sample(range(len(pool.tokens)), 2)
        amount = int(pool.state.cash[sold] * 10 ** rng.uniform(-7, -0.5))
        asked.append((pool, sold, bought, amount))
    answers = await reader.multicall([Call(exchange.vault, query(*each)) for each in asked])
    told = 0
    for (pool, sold, bought, amount), answer in zip(asked, answers, strict=True):
        theirs = 0
        if answer.ok:
            at = 64 + 32 * bought
            theirs = -int.from_bytes(answer.data[at : at + 32], signed=True)
        assert pool.sell(pool.state.cash, sold, bought, amount) == theirs
        told += bool(theirs)
    print(f"{len(asked)} queries equal, {told} filled")
    assert told > 350


@given(base=st.integers(10**15, ONE), exponent=st.integers(10**16, 99 * ONE))
@settings(max_examples=300)
@example(base=ONE - 1, exponent=ONE)
@example(base=9 * 10**17, exponent=ONE)
@example(base=9 * 10**17 + 1, exponent=7)
def test_a_power_rounded_up_is_not_below_the_true_one(base: int, exponent: int) -> None:
    with localcontext() as context:
        context.prec = 60
        true = (Decimal(base) / ONE) ** (Decimal(exponent) / ONE) * ONE
    for powers in Powers:
        try:
            rounded = pow_up(base, exponent, powers)
        except ArithmeticError:
            assert true < 2
            continue
        assert true <= rounded <= true * (1 + Decimal("2.1e-14")) + 3


@pytest.mark.parametrize("exponent", [1, 2, 4])
def test_later_pools_multiply_where_they_can(exponent: int) -> None:
    base = 987_654_321_012_345_678
    with localcontext() as context:
        context.prec = 60
        true = (Decimal(base) / ONE) ** exponent * ONE
    short = pow_up(base, exponent * ONE, Powers.SHORTCUTS)
    assert true <= short <= true + 4
    assert pow_up(base, exponent * ONE, Powers.LOGARITHM) > short


def test_the_ends_of_a_power() -> None:
    assert power(0, 5) == 0
    assert power(5, 0) == ONE
    for base, exponent in ((2**255, ONE), (ONE, 2**254), (10, 99 * ONE), (9 * ONE, 90 * ONE)):
        with pytest.raises(ArithmeticError):
            power(base, exponent)
