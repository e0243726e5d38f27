"""Profit on its way to the treasury and gas on its way to the operator, on the real contract."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from structlog.testing import capture_logs

from keeper.app.treasury import LOOK_HEADS, Treasury
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.journal.history import history
from keeper.journal.read import JournalReader
from keeper.types import Included, Plan, Reason
from keeper.units import USD
from tests.line import Play, assert_clean

pytestmark = pytest.mark.chain

SWEEPING = "[treasury]\nsweep_above_usd = 100\n"


@dataclass
class Till:
    """A keeper at work with its operator, and everything that was told."""

    play: Play
    operator: Operator
    home: Path
    seen: list[Any]

    @property
    def net(self) -> Devnet:
        return self.play.net

    @property
    def treasury(self) -> Treasury:
        found = self.play.stage.line.treasury
        assert found is not None
        return found

    def held(self, symbol: str, account: bytes | None = None) -> int:
        holder = self.operator.contract if account is None else account
        return self.net.balance(self.net.tokens[symbol].address, holder)

    async def step(self, act: Callable[[], object] | None = None) -> None:
        """Make a block and let the treasury finish with it."""
        await self.play.stage.step(act or self.net.mine)
        await self.treasury.idle.wait()
        self.seen.extend(self.play.stage.events)
        self.play.count()

    def names(self) -> list[str]:
        return [event.name for event in self.seen]

    def sweeps(self) -> list[tuple[Plan, Included]]:
        """Return the sweeps that were mined, with their receipts."""
        found = [(event.fields.get("plan"), event.fields.get("receipt")) for event in self.seen]
        return [
            (plan, receipt)
            for plan, receipt in found
            if isinstance(plan, Plan) and isinstance(receipt, Included) and plan.sweep is not None
        ]


@asynccontextmanager
async def till(
    net: Devnet, home: Path, extra: str, prepare: Callable[[Operator], object] | None = None
) -> AsyncIterator[Till]:
    operator = deploy_operator(net)
    if prepare is not None:
        prepare(operator)
    path = write_settings(net, operator, home, extra=extra)
    async with staged(net, load([path]).settings, live=True) as stage:
        opened = Till(Play(stage), operator, home, [])
        await opened.treasury.idle.wait()
        yield opened


async def test_two_tokens_are_swept_and_dust_is_left(net: Devnet, tmp_path: Path) -> None:
    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        net.give("WETH", operator.contract, 10**18)
        net.give("DAI", operator.contract, 10**15)  # a tenth of a cent

    async with till(net, tmp_path, SWEEPING, fill) as work:
        before = int(
            net.rpc("eth_getBalance", "0x" + work.operator.wallet.address.hex(), "latest"), 16
        )
        for _ in range(6):
            await work.step()
        treasury = work.operator.treasury
        assert (work.held("USDC"), work.held("WETH"), work.held("DAI")) == (0, 0, 10**15)
        assert work.held("USDC", treasury) == 5_000 * 10**6
        assert work.held("WETH", treasury) == 10**18
        swept = work.sweeps()
        assert {plan.sweep.token.symbol for plan, _ in swept if plan.sweep} == {"USDC", "WETH"}
        assert "treasury.swept_all" in work.names()
        # one at a time, and each no profit and no loss but its gas
        assert len({receipt.block_number for _, receipt in swept}) == 2
        for plan, receipt in swept:
            assert receipt.revenue_usd == 0
            assert receipt.net_usd == -receipt.gas_cost_usd < 0
            assert plan.sweep is not None
            assert receipt.gains == {plan.sweep.token.address: -plan.sweep.amount}
        after = int(
            net.rpc("eth_getBalance", "0x" + work.operator.wallet.address.hex(), "latest"), 16
        )
        gas = sum(receipt.gas_used * receipt.gas_price for _, receipt in swept)
        assert before - after == gas
        # the record says the same
        told = JournalReader(tmp_path / "journal.sqlite")
        spent = told.spent(0)
        assert sum(each.gas for each in spent) == gas
        assert [each.repaid_usd for each in spent] == [0, 0]
        entries = list(history(told.paid(0, 10**12)))
        assert {entry.strategies for entry in entries} == {("sweep",)}
        flows = {flow.symbol: (flow.received, flow.paid) for e in entries for flow in e.flows}
        assert flows == {"USDC": (0, 5_000 * 10**6), "WETH": (0, 10**18)}
        assert told.last_sweep("devnet") > 0
        # not again within the hours, whatever comes in
        net.give("USDC", work.operator.contract, 5_000 * 10**6)
        for _ in range(LOOK_HEADS + 2):
            await work.step()
        assert len(work.sweeps()) == 2
        work.treasury.ask()
        await work.step()
        await work.step()
        assert len(work.sweeps()) == 3
        assert_clean(work.play.tally)


async def test_nothing_is_swept_below_the_amount_or_unasked(net: Devnet, tmp_path: Path) -> None:
    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 99 * 10**6)

    async with till(net, tmp_path, SWEEPING, fill) as work:
        for _ in range(4):
            await work.step()
        assert not work.sweeps()
    async with till(net, tmp_path / "off", "", fill) as work:
        for _ in range(4):
            await work.step()
        assert not work.sweeps()
        assert work.held("USDC") == 99 * 10**6


async def test_what_the_owner_keeps_stays(net: Devnet, tmp_path: Path) -> None:
    def fill(operator: Operator) -> None:
        token = net.tokens["USDC"].address
        net.give("USDC", operator.contract, 5_000 * 10**6)
        arguments = [token, 0, 3_000 * 10**6]
        net.send(
            operator.owner, operator.contract, "set_budget(address,uint256,uint256)", arguments
        )

    async with till(net, tmp_path, SWEEPING, fill) as work:
        for _ in range(4):
            await work.step()
        assert work.held("USDC") == 3_000 * 10**6
        assert work.held("USDC", work.operator.treasury) == 2_000 * 10**6


async def test_a_liquidation_comes_before_a_sweep(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(3, health=1.03, seed=31)

    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        net.set_price("WETH", 2_350_00000000)

    async with till(net, tmp_path, SWEEPING, fill) as work:
        assert work.play.stage.line.executor.pending == 1, "the plan, and no sweep beside it"
        await work.step()
        work.play.assert_taken(who)
        for _ in range(3):
            await work.step()
        ((plan, _),) = work.sweeps()
        assert plan.sweep is not None
        profit = sum(
            receipt.gains.get(plan.sweep.token.address, 0)
            for event in work.seen
            if isinstance(receipt := event.fields.get("receipt"), Included)
            and event.fields["plan"].quotes
        )
        assert plan.sweep.amount == 5_000 * 10**6 + profit
        assert profit * 100 > 5 * USD
        assert work.held("USDC") == 0


def lower(net: Devnet, operator: Operator, ether: float) -> None:
    """Leave the operator so much gas."""
    net.rpc("anvil_setBalance", "0x" + operator.wallet.address.hex(), hex(int(ether * 10**18)))


def ether_of(work: Till) -> int:
    wallet = "0x" + work.operator.wallet.address.hex()
    return int(work.net.rpc("eth_getBalance", wallet, "latest"), 16)


@asynccontextmanager
async def native_debts(
    net: Devnet, home: Path, cap: int, count: int = 1
) -> AsyncIterator[tuple[Till, list[bytes]]]:
    """Yield a keeper low on gas, and borrowers who owe the native coin's token and fell under."""
    who = net.borrowers(
        count, collateral="USDC", debt="WETH", health=1.03, size_usd=(40_000, 40_000), seed=41
    )

    def prepare(operator: Operator) -> None:
        net.send(operator.owner, operator.contract, "set_refill_cap(uint256)", [cap])
        lower(net, operator, 0.2)

    extra = "[treasury]\nrefill_below_ether = 0.3\nrefill_to_ether = 0.35\n"
    async with till(net, home, extra, prepare) as work:
        await work.step(lambda: net.set_price("WETH", net.price("WETH") * 106 // 100))
        assert work.play.under(who) == set(who)
        yield work, who


def liquidated(work: Till) -> list[tuple[Plan, Included]]:
    found = [(event.fields.get("plan"), event.fields.get("receipt")) for event in work.seen]
    return [(plan, got) for plan, got in found if isinstance(got, Included) and plan.quotes]


@pytest.mark.parametrize(("cap", "refilled"), [(10**18, 15 * 10**16), (10**17, 10**17), (0, 0)])
async def test_gas_is_refilled_within_the_owners_cap_and_never_above(
    net: Devnet, tmp_path: Path, cap: int, refilled: int
) -> None:
    async with native_debts(net, tmp_path, cap) as (work, who):
        contract, before = work.operator.contract, ether_of(work)
        await work.step()
        work.play.assert_taken(who)
        ((plan, receipt),) = liquidated(work)
        assert plan.refill == receipt.refill == refilled
        gas = receipt.gas_used * receipt.gas_price
        assert ether_of(work) == before - gas + refilled
        assert work.play.stage.line.executor.balance == ether_of(work)
        # what the operator got is part of what came in, once, and no cost
        kept = work.held("WETH")
        (quote,) = plan.quotes
        assert kept + refilled == quote.proceeds - quote.repaid - quote.premium
        assert receipt.gains[quote.debt.address] == kept
        price = net.price("WETH")
        assert abs(receipt.revenue_usd - (kept + refilled) * price // 10**18) <= 2
        assert receipt.net_usd == receipt.revenue_usd - receipt.gas_cost_usd
        assert_clean(work.play.tally)
        (spent,) = JournalReader(tmp_path / "journal.sqlite").spent(0)
        assert (spent.gas, spent.net_usd) == (gas, receipt.net_usd)
        done = net.call(contract, "refilled(uint256)", [net.chain.timestamp() // 86_400])
        assert int(done if isinstance(done, int) else done[0]) == refilled


async def test_a_full_wallet_asks_for_nothing(net: Devnet, tmp_path: Path) -> None:
    async with native_debts(net, tmp_path, 10**18) as (work, _):
        lower(net, work.operator, 10)
        await work.step()
        ((first, _),) = liquidated(work)
        assert first.refill, "it was low when the plan was made"
        assert work.treasury.refill() == 0


async def test_low_gas_is_told_and_then_stops_plans_before_a_nonce_is_used(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(2, health=1.03, seed=43)
    async with till(net, tmp_path, "") as work:
        assert work.play.stage.keeper.status()["chains"]["devnet"]["wallet_low"] is False
        lower(net, work.operator, 0.09)
        for _ in range(LOOK_HEADS + 1):
            await work.step()
        page = work.play.stage.keeper.status()["chains"]["devnet"]
        assert (page["wallet_low"], page["state"]) == (True, "warn")
        assert work.names().count("wallet.low") == 1
        registry = work.play.stage.keeper.metrics.registry
        wallet = to_checksum_address(work.operator.wallet.address)
        labels = {"chain": "devnet", "wallet": wallet}
        assert registry.get_sample_value("keeper_wallet_low", labels) == 1
        # enough for a transaction is not enough for one that has to be replaced
        lower(net, work.operator, 0.000001)
        await work.play.stage.line.executor.start()
        await work.step(lambda: net.set_price("WETH", 2_350_00000000))
        await work.step()
        assert work.play.reasons(who) == {Reason.CAPITAL}
        assert work.play.stage.line.executor.pending == 0
        assert net.chain.nonce(work.operator.wallet.address) == 0
        assert "plan.submitted" not in work.names()
        lower(net, work.operator, 10)
        await work.step()
        await work.step()
        work.play.assert_taken(who)
        for _ in range(LOOK_HEADS):
            await work.step()
        assert work.play.stage.keeper.status()["chains"]["devnet"]["wallet_low"] is False
        assert work.names().count("wallet.refilled") == 1


CONVERTING = '[treasury]\nsweep_above_usd = 100\nconvert_to = "WETH"\n'


def sell_rule(net: Devnet, operator: Operator, symbol: str, per_day: int, least: int) -> None:
    tokens = (net.tokens[symbol].address, net.tokens["WETH"].address)
    what = "set_conversion(address,address,uint256,uint256)"
    net.send(operator.owner, operator.contract, what, [*tokens, per_day, least])


async def test_small_balances_are_sold_before_they_are_swept(net: Devnet, tmp_path: Path) -> None:
    per_day = 3_000 * 10**6
    least = 2_700 * 10**8 * 10**18 // net.price("WETH")

    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        net.give("DAI", operator.contract, 10**15)  # a tenth of a cent
        for symbol in ("USDC", "DAI"):
            sell_rule(net, operator, symbol, per_day, least)

    async with till(net, tmp_path, CONVERTING, fill) as work:
        for _ in range(6):
            await work.step()
        (sale, receipt), *rest = work.sweeps()
        assert sale.sweep is not None
        assert sale.conversion is not None
        assert sale.sweep.amount == per_day, "as much as the owner lets go in a day"
        got = receipt.gains[sale.conversion.receive.address]
        # the venue's own state said to the wei what the pool gives
        assert got == sale.conversion.expected >= sale.conversion.minimum >= least * 99 // 100
        assert receipt.gains[sale.sweep.token.address] == -per_day
        assert receipt.net_usd == -receipt.gas_cost_usd
        assert receipt.refill == 0
        assert all(plan.conversion is None for plan, _ in rest)
        treasury = work.operator.treasury
        assert work.held("WETH", treasury) == got
        assert work.held("USDC", treasury) == 2_000 * 10**6
        assert work.held("DAI") == 10**15
        told = JournalReader(tmp_path / "journal.sqlite")
        (entry,) = [e for e in history(told.paid(0, 10**12)) if e.strategies == ("convert",)]
        flows = {flow.symbol: (flow.received, flow.paid) for flow in entry.flows}
        assert flows == {"USDC": (0, per_day), "WETH": (got, 0)}
        assert_clean(work.play.tally)


async def test_a_feed_no_pool_agrees_with_stops_sales_and_no_atomic_plan(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(2, collateral="USDC", debt="WETH", health=1.03, seed=43)

    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        sell_rule(net, operator, "USDC", 10**10, 1)
        net.set_price("WETH", net.price("WETH") * 115 // 100, move_pools=False)

    with capture_logs() as logs:
        async with till(net, tmp_path, CONVERTING, fill) as work:
            registry = work.play.stage.keeper.metrics.registry

            def shown() -> tuple[float | None, bool, list[bool]]:
                """Return metric, status page and log of the breaker."""
                labels = {"chain": "devnet", "breaker": "deviation"}
                page = work.play.stage.keeper.status()["chains"]["devnet"]["breakers"]
                told = [each for each in logs if each.get("breaker") == "deviation"]
                return (
                    registry.get_sample_value("keeper_breaker_open", labels),
                    "deviation" in page,
                    [each["event"] == "breaker.opened" for each in told],
                )

            await work.step()
            assert shown() == (1, True, [True])
            # sold in the pools for the very token it repays: the feed does not say what it brings
            work.play.assert_taken(who)
            for _ in range(3):
                await work.step()
            refused = [e.fields["reason"] for e in work.seen if e.name == "treasury.refused"]
            assert len(refused) == 1
            assert refused[0].startswith("deviation: ")
            assert "WETH by 1" in refused[0]
            assert [plan.conversion for plan, _ in work.sweeps() if plan.conversion] == []
            assert work.held("USDC", work.operator.treasury) == 5_000 * 10**6, "moved as it was"
            net.give("USDC", work.operator.contract, 5_000 * 10**6)
            net.arbitrage()
            work.treasury.ask()
            await work.step(lambda: net.mine(LOOK_HEADS))
            await work.step()
            (sale,) = [plan for plan, _ in work.sweeps() if plan.conversion]
            assert sale.sweep is not None
            assert sale.sweep.token.symbol == "USDC"
            assert shown() == (0, False, [True, False])
            assert_clean(work.play.tally)


async def test_a_pool_below_the_oracle_gets_nothing(net: Devnet, tmp_path: Path) -> None:
    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        sell_rule(net, operator, "USDC", 10**10, 1)

    extra = CONVERTING + 'convert_slippage = "0.0001"\n'
    async with till(net, tmp_path, extra, fill) as work:
        for _ in range(4):
            await work.step()
        # the pool's fee alone is more than that
        assert [plan.conversion for plan, _ in work.sweeps()] == [None]
        assert work.held("USDC", work.operator.treasury) == 5_000 * 10**6


async def test_a_sale_refills_a_poor_wallet_without_any_liquidation(
    net: Devnet, tmp_path: Path
) -> None:
    def fill(operator: Operator) -> None:
        net.give("USDC", operator.contract, 5_000 * 10**6)
        sell_rule(net, operator, "USDC", 10**10, 1)
        net.send(operator.owner, operator.contract, "set_refill_cap(uint256)", [10**18])
        lower(net, operator, 0.2)

    extra = '[treasury]\nconvert_to = "WETH"\nrefill_below_ether = 0.3\nrefill_to_ether = 0.4\n'
    async with till(net, tmp_path, extra, fill) as work:
        before = ether_of(work)
        for _ in range(4):
            await work.step()
        ((plan, receipt),) = work.sweeps()
        assert plan.refill == receipt.refill == 4 * 10**17 - before
        gas = receipt.gas_used * receipt.gas_price
        assert ether_of(work) == before + receipt.refill - gas
        assert work.held("USDC") == 0
        assert plan.conversion is not None
        assert work.held("WETH") == plan.conversion.expected - receipt.refill
        assert_clean(work.play.tally)
