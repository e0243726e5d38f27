"""Venus on the whole line: discovered, judged, batched, redeemed, sold, and refused in words."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.devnet.venus import WAD, Venus, deploy_venus
from keeper.planning.grouping import share_gas
from keeper.protocols.compound_v2 import CompoundV2
from keeper.types import AllowedCall, Included, Plan, Reason
from keeper.units import Address, to_hex
from tests.line import Play, assert_clean
from tests.uniswap import DirectRpc


@pytest.fixture
def net(devnet: Devnet) -> Iterator[Devnet]:
    """The chain, set back to where it was when the test ends."""
    before = devnet.snapshot()
    yield devnet
    devnet.revert(before)


@pytest.fixture
def venus(net: Devnet) -> Venus:
    """The core pool, liquidated through Venus' own contract."""
    return deploy_venus(net.chain, net.market, lambda _: None)


def opened(
    net: Devnet,
    venus: Venus,
    count: int,
    held: str = "WETH",
    owed: str = "USDC",
    usd: int = 20_000,
    first: int = 0,
) -> list[bytes]:
    """Open borrowers 1 to 3 % above their liquidation threshold."""
    who = [(0xC0DE0000 + first + number).to_bytes(20, "big") for number in range(count)]
    collateral, debt = net.tokens[held], net.tokens[owed]
    amount = usd * 10**8 * 10**collateral.decimals // net.price(held)
    lent = usd * 10**8 * 10**debt.decimals // net.price(owed) * 80 // 100
    transactions = []
    for number, each in enumerate(who):
        if held != venus.native:
            net.give(held, each, amount)
        else:
            net.rpc("anvil_setBalance", "0x" + each.hex(), hex(amount + 10 * WAD))
        transactions += venus.supply(each, held, amount)
        loan = lent * (1_000 - 2 * number * 5 // max(count, 1)) // 1_000
        transactions.append(venus.borrow(each, owed, loan if held == "WETH" else loan * 9 // 10))
    net.chain.send_all(transactions)
    return who


@asynccontextmanager
async def playing(net: Devnet, home: Path, venus: Venus) -> AsyncIterator[Play]:
    """Run a keeper that follows the Aave market and Venus beside it."""
    operator = deploy_operator(net)
    await allow(net, operator, venus)
    extra = f"""
[chains.devnet.markets.venus]
protocol = "compound-v2"
comptroller = "{to_hex(venus.comptroller)}"
wrapped_native = "{to_hex(net.tokens["WETH"].address)}"

[chains.devnet.venues.wrapped]
venue = "wrapped-native"
wrapped = "{to_hex(net.tokens["WETH"].address)}"
"""
    path = write_settings(net, operator, home, extra=extra)
    async with staged(net, load([path]).settings, live=True) as stage:
        yield Play(stage)


async def allow(net: Devnet, operator: Operator, venus: Venus) -> None:
    """Let the contract liquidate and redeem, as the adapter says it has to."""
    reader = ChainReader(DirectRpc(net))
    wrapped = Address(net.tokens[venus.native].address)
    config = CompoundV2.Config(comptroller=Address(venus.comptroller), wrapped_native=wrapped)
    market = await CompoundV2.discover(reader, "venus", config, await reader.head())
    for each in market.permissions():
        assert isinstance(each, AllowedCall)
        arguments = [each.target, each.selector, each.spender]
        net.send(operator.owner, operator.contract, "allow(address,bytes4,address)", arguments)


@pytest.mark.parametrize("count", [1, 20, 50])
async def test_a_storm_is_taken_at_the_estimate(
    net: Devnet, venus: Venus, tmp_path: Path, count: int
) -> None:
    crowd = opened(net, venus, count)
    dust = opened(net, venus, 1, usd=20, first=900)
    async with playing(net, tmp_path, venus) as play:
        await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
        await play.stage.mine(2)
        used, modelled = gas(play)
        play.assert_taken(crowd)
        assert play.reasons(dust) == {Reason.UNPROFITABLE}
        assert_clean(play.tally)
        assert await play.audit() == []
    print(f"{count} through the liquidator contract: {used} gas, {modelled} by the model")
    assert abs(modelled - used) * 10 < used


def gas(play: Play) -> tuple[int, int]:
    """Return what the plans included so far used, and what they were to use."""
    used = modelled = 0
    for event in play.stage.events:
        if event.name == "plan.included":
            plan, receipt = event.fields["plan"], event.fields["receipt"]
            assert isinstance(plan, Plan)
            assert isinstance(receipt, Included)
            used += receipt.gas_used
            modelled += sum(share_gas([list(plan.quotes)]))
    return used, modelled


async def test_vtokens_are_called_where_venus_has_no_liquidator(
    net: Devnet, tmp_path: Path
) -> None:
    """Native coin is repaid as value, and errors that do not revert cost one item alone."""
    venus = deploy_venus(net.chain, net.market, lambda _: None, through_liquidator=False)
    owing = opened(net, venus, 2, held="USDC", owed="WETH")
    crowd = opened(net, venus, 2, first=50)
    async with playing(net, tmp_path, venus) as play:
        await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
        await play.stage.mine(2)
        play.assert_taken(crowd)
        await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 130 // 100))
        await play.stage.mine(2)
        play.assert_taken([*crowd, *owing])
        assert_clean(play.tally)
        assert await play.audit() == []
