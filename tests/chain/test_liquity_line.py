"""Troves of the real mUSD, from a price to a receipt, through the batch contract and without capital."""

from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.devnet.musd import Musd, deploy_musd
from keeper.types import Reason
from keeper.units import USD, WAD
from tests.line import assert_clean
from tests.musd import open_pool, owner, playing_musd

pytestmark = pytest.mark.chain

PRICE = 2_500 * WAD
WHALE = owner(0)


@pytest.fixture
def musd(net: Devnet) -> Musd:
    """MUSD with a large trove, a pool that buys the coin for mUSD, and deposits for some debts."""
    system = deploy_musd(net.chain, PRICE)
    net.rpc("anvil_setBalance", "0x" + WHALE.hex(), hex(10**23))
    system.set_price(PRICE)
    net.chain.send_all([system.opening(WHALE, 4_000 * WAD, 3_000_000 * WAD)])
    open_pool(net, system, WHALE, PRICE, 1_000_000)
    system.deposit(WHALE, 60_000 * WAD)
    return system


def crowd(musd: Musd, count: int, debt: int, percent: int, first: int) -> list[bytes]:
    """Open troves of so much mUSD at a ratio in percent."""
    owners = [owner(first + number) for number in range(count)]
    coins = (debt * 1001 // 1000 + 200) * WAD * percent * WAD // (100 * PRICE) + 1
    musd.set_price(PRICE)
    musd.chain.send_all([musd.opening(each, coins, debt * WAD) for each in owners])
    return owners


def open_of(net: Devnet, musd: Musd, owners: list[bytes]) -> list[bytes]:
    calls = [(musd.manager, "getTroveStatus(address)", [each]) for each in owners]
    status = net.chain.call_many(calls, ["uint8"], "latest")
    return [each for each, open_ in zip(owners, status, strict=True) if open_ == 1]


@pytest.mark.parametrize("count", [1, 20, 50])
async def test_troves_under_their_ratio_are_liquidated_and_pay(
    net: Devnet, musd: Musd, tmp_path: Path, count: int
) -> None:
    taken = crowd(musd, count, 12_000, 113, 100)
    tiny = crowd(musd, 2, 2_000, 113, 800)
    safe = crowd(musd, 3, 4_000, 140, 900)
    async with playing_musd(net, musd, tmp_path, minimum_profit_usd=230) as play:
        await play.stage.step(lambda: musd.set_price(PRICE * 96 // 100))
        await play.stage.mine(3)
        play.assert_taken(taken)
        assert_clean(play.tally)
        assert play.reasons(tiny) == {Reason.UNPROFITABLE}
        assert open_of(net, musd, [*taken, *tiny, *safe]) == [*tiny, *safe]
        assert await play.audit() == []
        # The reserve of 200 and half a percent of 13,000 dollars each, less gas.
        assert 240 * USD * count < play.tally.net_usd < 280 * USD * count


async def test_nobody_is_judged_at_a_stale_price(net: Devnet, musd: Musd, tmp_path: Path) -> None:
    (who,) = crowd(musd, 1, 4_000, 113, 100)
    async with playing_musd(net, musd, tmp_path) as play:
        await play.stage.step(lambda: net.mine(seconds=61))
        assert play.reasons([who]) == {Reason.NO_PRICE}
        assert play.tally.transactions == 0
