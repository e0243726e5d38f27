"""Balancer's real vault and the contract's own tokens pay for liquidations, each while it is cheapest."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Cast, Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.doctor.permissions import missing
from keeper.planning.funding import cost_of
from keeper.planning.grouping import cover_up
from keeper.planning.owner_calls import encode_set_budget
from keeper.types import FlashKind, Included, Plan, Quote
from keeper.units import Address, mul_div_up
from tests.exchanges.balancer_v2 import EXIT, Exchange, deploy_exchange
from tests.exchanges.selling import send
from tests.line import Play, assert_clean
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain
USD = 10**6
SET_FLASH_FEE = "setFlashLoanFeePercentage(uint256)"


def opened(net: Devnet, operator: Operator, home: Path) -> tuple[Exchange, Path]:
    """Return an exchange with one dear pool of dollars, which nothing is sold to, and settings for it."""
    exchange = deploy_exchange(net)
    pool = exchange.open({"USDC": 50, "DAI": 50}, 10**17, 10**7)
    exchange.permit(collector_of(exchange), bytes.fromhex("6b6b9f69"))
    text = f"""
[chains.devnet.venues.balancer]
venue = "balancer-v2"
vault = "{to_checksum_address(exchange.vault)}"
pools = ["{to_checksum_address(pool.address)}"]
"""
    return exchange, write_settings(net, operator, home, extra=text)


def collector_of(exchange: Exchange) -> bytes:
    answer = exchange.net.call(exchange.vault, "getProtocolFeesCollector()", [], ["address"])
    return bytes.fromhex(answer[2:])


@dataclass(slots=True)
class Falling:
    """A running keeper whose borrowers fall one crowd after another."""

    play: Play
    operator: Operator
    exchange: Exchange

    async def crash(self, crowd: list[bytes]) -> list[Quote]:
        """Let prices fall by three percent; return what was lent for the crowd, all of it mined.

        Each plan brings what was planned, to the wei, or more by what nobody came to owe meanwhile.
        """
        stage, net = self.play.stage, self.play.net
        stage.events.clear()
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 97 // 100))
        await stage.mine()
        assert not self.play.under(crowd)
        quotes = []
        for event in [each for each in stage.events if each.name == "plan.included"]:
            plan, receipt = event.fields["plan"], event.fields["receipt"]
            assert isinstance(plan, Plan)
            assert isinstance(receipt, Included)
            planned = sum(quote.proceeds - quote.repaid - quote.premium for quote in plan.quotes)
            usdc = plan.quotes[0].debt.address
            off = receipt.gains[usdc] - planned
            gas = sum(quote.gas for quote in plan.quotes)
            lent = [quote.flash.kind.value for quote in plan.quotes]
            print(f"{lent}: planned {planned}, off by {off}; {gas} gas planned, {receipt.gas_used}")
            assert 0 <= off <= len(plan.quotes), "premiums are rounded up one by one"
            assert all(item.ok for item in receipt.items)
            quotes += [quote for quote in plan.quotes if quote.key[1] in crowd]
        assert {quote.key[1] for quote in quotes} == set(crowd)
        return quotes

    async def set_fee(self, fee: int) -> None:
        """Change what the vault asks for flash loans, in a block of its own."""
        collector, net = collector_of(self.exchange), self.play.net
        await self.play.stage.step(lambda: net.send(Cast.DEPLOYER, collector, SET_FLASH_FEE, [fee]))

    def empty(self) -> None:
        """Take everything out of the vault's pool."""
        net, (pool,) = self.play.net, self.exchange.pools
        held = net.call(pool.address, "balanceOf(address)", [Cast.DEPLOYER])
        tokens = [net.tokens[symbol].address for symbol in pool.symbols]
        request = (tokens, [0, 0], encode(["uint256", "uint256"], [1, held]), False)
        args = [pool.number, Cast.DEPLOYER, Cast.DEPLOYER, request]
        net.send(Cast.DEPLOYER, self.exchange.vault, EXIT, args, gas=3_000_000)

    async def keep(self, dollars: int) -> None:
        """Let the owner keep so many dollars on the contract, in a block of its own."""
        kept = encode_set_budget(Address(self.play.net.tokens["USDC"].address), 0, dollars * USD)
        await self.play.stage.step(lambda: send(self.play.net, self.operator, kept))

    def is_cheaper_than_aave(self, quotes: list[Quote]) -> bool:
        """Tell whether a loan of all of it from the pool would have cost more."""
        total = sum(cover_up(quote.steps[0]) for quote in quotes)
        (aave,) = self.play.stage.line.book.markets["aave"].protocol.flash_sources(
            quotes[0].debt.address
        )
        assert aave.available >= total
        return cost_of(quotes[0].flash, total, 0.0001) < cost_of(aave, total, 0.0001)


def kinds(quotes: list[Quote]) -> set[FlashKind]:
    return {quote.flash.kind for quote in quotes}


async def test_the_cheapest_lender_pays_crash_by_crash(net: Devnet, tmp_path: Path) -> None:
    operator = deploy_operator(net, lanes=2)
    exchange, path = opened(net, operator, tmp_path)
    usdc, contract = net.tokens["USDC"].address, operator.contract
    crowds = [
        net.borrowers(2, health=(low, low + 0.004), seed=3, size_usd=(30_000, 31_000))
        for low in (1.01, 1.045, 1.08, 1.115, 1.15)
    ]
    net.give("USDC", contract, 10**12)
    net.give("USDC", operator.wallet.address, 10**12)
    send(net, operator, encode_set_budget(Address(usdc), 0, USD))
    # The keeper loads below the head, and the exchange has to stand there already.
    net.mine(20)
    settings = load([path]).settings
    lacking = await missing(DirectRpc(net), settings.chains["devnet"], contract, ())
    uses = ("swaps", "flash loans")
    assert [each.what for each in lacking] == [f"allow {use} on venue balancer" for use in uses]
    send(net, operator, lacking[1].data)
    async with staged(net, settings, live=True) as stage:
        falling = Falling(Play(stage), operator, exchange)
        # a dollar of it is kept, the rest may be swept, and what the operator has is not the contract's
        assert stage.reports[-1].view.inventory == {usdc: USD}
        free = await falling.crash(crowds[0])
        assert kinds(free) == {FlashKind.BALANCER}
        assert sum(quote.premium for quote in free) == 0
        assert falling.is_cheaper_than_aave(free)

        await falling.keep(100_000)
        own = await falling.crash(crowds[1])
        assert kinds(own) == {FlashKind.INVENTORY}
        assert falling.is_cheaper_than_aave(own)

        # enough for one of two, and the vault is dear: the other one borrows elsewhere
        limit = max(cover_up(quote.steps[0]) for quote in own) * 105 // 100 // USD
        await falling.keep(limit)
        await falling.set_fee(5 * 10**15)
        mixed = await falling.crash(crowds[2])
        assert len(kinds(mixed)) == 2
        assert FlashKind.BALANCER not in kinds(mixed)
        (used,) = (cover_up(q.steps[0]) for q in mixed if q.flash.kind is FlashKind.INVENTORY)
        assert used <= limit * USD

        fee = 56_789_012_345_678
        await falling.keep(0)
        await falling.set_fee(fee)
        fine = await falling.crash(crowds[3])
        assert kinds(fine) == {FlashKind.BALANCER}
        assert falling.is_cheaper_than_aave(fine)
        for quote in fine:
            assert quote.premium == mul_div_up(cover_up(quote.steps[0]), fee, 10**18)
        assert await falling.play.audit() == []

        await stage.step(falling.empty)
        short = await falling.crash(crowds[4])
        assert FlashKind.BALANCER not in kinds(short)
        assert net.balance(usdc, contract) > 10**12
        assert net.balance(usdc, operator.wallet.address) == 10**12
        assert_clean(falling.play.count())
