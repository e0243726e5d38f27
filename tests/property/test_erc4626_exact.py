"""Local redemptions equal the real vaults' to the wei, on random assets, supplies and shares."""

import random
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings, strategies as st

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.types import Call, Hop
from keeper.units import Address
from keeper.venues.erc4626.rates import RAY, Held, grown_down, power_ray, redeem_down
from keeper.venues.erc4626.vault import PREVIEW_REDEEM
from tests.exchanges.erc4626 import KINDS, SUPPLY_SLOT, Exchange
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
STATES, AMOUNTS = 17, 200


@pytest.mark.parametrize("kind", KINDS)
async def test_redemptions_equal_the_vaults(net: Devnet, kind: str) -> None:
    """Random assets and supplies are given to the real vault; every share it has may be asked for."""
    exchange, rng = Exchange(net), random.Random(kind)
    vault = exchange.open(kind, "USDC")
    reader, compared, nothing = ChainReader(DirectRpc(net)), 0, 0
    for _ in range(STATES):
        supply = int(2 ** rng.uniform(1, 110))
        net.rpc("anvil_setStorageAt", "0x" + vault.hex(), hex(SUPPLY_SLOT), f"0x{supply:064x}")
        held = net.balance(net.tokens["USDC"].address, vault)
        more = int(2 ** rng.uniform(1, 100))
        if more > held:
            net.give("USDC", vault, more - held)
        net.mine()
        venue = await exchange.loaded()
        hop = Hop("vaults", vault, vault, Address(net.tokens["USDC"].address))
        shares = [max(int(supply * 2 ** -rng.uniform(0, 100)), 1) for _ in range(AMOUNTS)]
        calls = [Call(vault, PREVIEW_REDEEM + each.to_bytes(32)) for each in shares]
        trials = venue.begin()
        for each, told in zip(shares, await reader.multicall(calls), strict=True):
            theirs = int.from_bytes(told.data)
            assert told.ok
            # The vault says more than it holds only while nearly nobody has shares in it.
            state = venue.vaults[vault].state
            assert isinstance(state, Held)
            expected = theirs if theirs <= state.assets else 0
            assert trials.quote(hop, each) == expected, (supply, each)
            compared += 1
            nothing += not theirs
    print(f"{kind}: {compared} redemptions equal on {STATES} states, {nothing} of them 0")
    assert compared == STATES * AMOUNTS
    assert nothing < compared // 2


@given(rate=st.integers(RAY, RAY + 10**20), seconds=st.integers(0, 10**8))
@settings(max_examples=200)
def test_a_savings_rate_grows_as_a_power(rate: int, seconds: int) -> None:
    with localcontext(prec=80):
        true = (Decimal(rate) / RAY) ** seconds * RAY
    # Each of some fifty products is rounded to half a unit, and later ones carry it on.
    assert abs(power_ray(rate, seconds) - true) <= 60 * true / RAY * max(seconds, 1)
    assert grown_down(3 * RAY, rate, 0) == 3 * RAY
    assert grown_down(RAY, rate, seconds) == power_ray(rate, seconds)


@given(
    assets=st.integers(0, 10**30),
    supply=st.integers(1, 10**30),
    extra=st.sampled_from([0, 1, 10**6]),
    shares=st.integers(0, 10**30),
)
@settings(max_examples=300)
def test_no_redemption_pays_more_than_its_share(
    assets: int, supply: int, extra: int, shares: int
) -> None:
    out = redeem_down(Held(assets, supply, extra), shares)
    assert 0 <= out <= assets
    if shares > supply:
        assert out == 0
    elif not extra:
        assert out * supply <= shares * assets
