"""Local Uniswap V2 quotes equal the real router's to the wei, on random reserves and amounts."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.types import Call, Hop
from keeper.units import Address
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.pair import MOST, amount_out_down
from tests.exchanges.uniswap_v2 import Traders, deploy_exchange
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
STATES, AMOUNTS = 50, 200
RESERVES_SLOT = "0x8"
AMOUNTS_OUT = bytes.fromhex("d06ca61f")


def hop_of(venue: UniswapV2, *, token0: bool) -> Hop:
    (pair,) = venue.pairs.values()
    ends = (pair.token0, pair.token1)
    return Hop(venue.name, pair.address, *(ends if token0 else ends[::-1]))


def ask(router: Address, hop: Hop, amount: int) -> Call:
    """Return the router's own quote for a swap through one pair."""
    words = (amount, 64, 2, int.from_bytes(hop.token_in), int.from_bytes(hop.token_out))
    return Call(router, AMOUNTS_OUT + b"".join(word.to_bytes(32, "big") for word in words))


@pytest.mark.parametrize("seed", [1, 2])
async def test_quotes_equal_the_routers(net: Devnet, seed: int) -> None:
    """Random reserves are written into the real pair; every amount it can hold is asked for."""
    exchange, rng = deploy_exchange(net), random.Random(seed)
    pair = exchange.open("WETH", "USDC", 10**6)
    reader, compared, nothing = ChainReader(DirectRpc(net)), 0, 0
    for _ in range(STATES):
        reserves = [int(2 ** rng.uniform(1, 111)) for _ in range(2)]
        word = reserves[1] << 112 | reserves[0]
        net.rpc("anvil_setStorageAt", "0x" + pair.hex(), RESERVES_SLOT, f"0x{word:064x}")
        net.mine()
        venue = await exchange.loaded()
        assert next(iter(venue.pairs.values())).reserves == tuple(reserves)
        trials = venue.begin()
        asked: list[tuple[Hop, int]] = []
        for _ in range(AMOUNTS):
            token0 = rng.random() < 0.5
            room = MOST - reserves[0 if token0 else 1]
            amount = min(int(2 ** rng.uniform(0, 111)), room)
            asked.append((hop_of(venue, token0=token0), amount))
        answers = await reader.multicall([ask(exchange.router, *each) for each in asked])
        for (hop, amount), answer in zip(asked, answers, strict=True):
            assert answer.ok, (reserves, amount)
            theirs = int.from_bytes(answer.data[-32:])
            assert trials.quote(hop, amount) == theirs, (reserves, hop, amount)
            compared += 1
            nothing += not theirs
    print(f"seed {seed}: {compared} quotes on {STATES} states equal, {nothing} of them 0")
    assert compared == STATES * AMOUNTS
    assert nothing < compared // 2


async def test_swaps_tried_one_after_another_equal_swaps_made(net: Devnet) -> None:
    exchange = deploy_exchange(net)
    exchange.open("WETH", "USDC", 10**6)
    traders = Traders(exchange, [("WETH", "USDC")], 5)
    venue = await exchange.loaded()
    trials = venue.begin()
    for _ in range(60):
        sold, bought = traders.rng.sample(["WETH", "USDC"], 2)
        had = [net.balance(net.tokens[each].address, traders.account) for each in (sold, bought)]
        traders.swap(sold, bought)
        has = [net.balance(net.tokens[each].address, traders.account) for each in (sold, bought)]
        hop = hop_of(venue, token0=net.tokens[sold].address < net.tokens[bought].address)
        assert trials.apply(hop, had[0] - has[0]) == has[1] - had[1] > 0


@given(
    amount=st.integers(1, MOST),
    reserves=st.tuples(st.integers(1, MOST), st.integers(1, MOST)),
    more=st.integers(1, 10**30),
)
@settings(max_examples=500)
def test_a_pair_never_gives_all_and_more_brings_no_less(
    amount: int, reserves: tuple[int, int], more: int
) -> None:
    out = amount_out_down(amount, *reserves, 3000)
    assert out < reserves[1]
    if reserves[0] + amount > MOST:
        assert out == 0
    elif reserves[0] + amount + more <= MOST:
        assert amount_out_down(amount + more, *reserves, 3000) >= out


@pytest.mark.parametrize(
    ("fee", "kept", "of"), [(3000, 997, 1000), (2500, 9975, 10_000), (0, 1, 1)]
)
def test_a_fee_in_millionths_is_the_fork_s_own_fraction(fee: int, kept: int, of: int) -> None:
    rng = random.Random(fee)
    for _ in range(1000):
        amount, held, given = (int(2 ** rng.uniform(0, 111)) for _ in range(3))
        expected = amount * kept * given // (held * of + amount * kept)
        assert amount_out_down(amount, held, given, fee) == expected


def test_an_empty_pair_gives_nothing() -> None:
    cases: Sequence[tuple[int, int, int]] = [(0, 5, 5), (5, 0, 5), (5, 5, 0), (MOST, 1, 5)]
    assert [amount_out_down(*case, 3000) for case in cases] == [0, 0, 0, 0]
