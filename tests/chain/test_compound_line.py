"""Venus on the whole line: discovered, judged, batched, redeemed, sold, and refused in words."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keeper.chain.reader import ChainReader
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.devnet.venus import WAD, Venus, deploy_venus
from keeper.journal.liquidations import read_liquidations
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
        loan = lent * (999 - 2 * number * 5 // max(count, 1)) // 1_000
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
        await play.stage.line.reconciler.close()
    rows = read_liquidations(tmp_path / "journal.sqlite", 0, 2**40)
    assert {row.borrower: row.reason for row in rows} == {to_hex(who): "ours" for who in crowd}
    assert all(int(row.seized_usd or 0) > int(row.repaid_usd or 0) > 0 for row in rows)
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


@pytest.mark.parametrize("through", [True, False])
async def test_native_debts_are_repaid_as_value(net: Devnet, tmp_path: Path, through: bool) -> None:
    """By Venus' liquidator contract, and where there is none by the vTokens themselves."""
    venus = deploy_venus(net.chain, net.market, lambda _: None, through_liquidator=through)
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


async def test_an_error_that_does_not_revert_costs_its_item_alone(
    net: Devnet, tmp_path: Path
) -> None:
    """A borrower who is supplied for in the same block is refused by an error code."""
    venus = deploy_venus(net.chain, net.market, lambda _: None, through_liquidator=False)
    crowd = opened(net, venus, 3)
    vtoken, rival = venus.vtokens["USDC"], Cast.RIVAL
    net.give("USDC", rival, 10**12)
    net.send(rival, net.tokens["USDC"].address, "approve(address,uint256)", [vtoken, 10**12])
    async with playing(net, tmp_path, venus) as play:
        await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
        net.put(rival, vtoken, "mintBehalf(address,uint256)", [crowd[0], 10**10])
        await play.stage.mine(2)
        items = [
            item
            for event in play.stage.events
            if isinstance(receipt := event.fields.get("receipt"), Included)
            for item in receipt.items
        ]
        assert {item.borrower: item.reason for item in items if not item.ok} == {
            crowd[0]: "it or its group failed on the chain"
        }
        play.assert_taken(crowd[1:])
        assert play.tally.reverted == 0
        assert await play.audit() == []
