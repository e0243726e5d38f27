"""The executor on the real contracts: proven, sent, followed, explained, restarted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keeper.chain.endpoint import Endpoint, connect
from keeper.chain.parse import head as parse_head
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator
from keeper.execution.executor import Executor
from keeper.execution.prove import Prover
from keeper.execution.signer import KeySigner
from keeper.execution.simulate import Simulator, Way
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.planning.batch import Batch, Fund, FundKind, Group, Item, Swap
from keeper.planning.decoding import decode_receipt_logs, decode_run
from keeper.planning.encoding import encode_run
from keeper.planning.reasons import explain_reason
from keeper.planning.settle import settle_plan
from keeper.risk import Limits, Risk
from keeper.types import (
    Bid,
    Cause,
    CollateralLeg,
    DebtLeg,
    FlashKind,
    FlashSource,
    Head,
    Hop,
    Included,
    Opportunity,
    Plan,
    Position,
    Prices,
    Quote,
    Reason,
    Reverted,
    Seizure,
    Step,
    Token,
    View,
)
from keeper.units import USD, Address, Bps, Usd, Wad, Wei, mul_div_up, to_hex
from tests.fake_node import Events, FakeClock
from tests.plans import PairTerms

pytestmark = pytest.mark.chain

GWEI = 10**9
REPAY = 2_000 * 10**6
FEE = 500


@dataclass
class Desk:
    """An operator with a contract, a journal and two borrowers under water."""

    net: Devnet
    operator: Operator
    rpc: Endpoint
    journal: SqliteJournal
    path: Path
    events: Events
    clock: FakeClock
    borrowers: list[Address]
    usdc: Token
    weth: Token

    async def head(self) -> Head:
        """Return the chain's head."""
        return parse_head(await self.rpc.request("eth_getBlockByNumber", ["latest", False]))

    async def mine(self, seconds: int = 12) -> Head:
        """Make a block and return it."""
        await asyncio.to_thread(self.net.mine, 1, seconds)
        return await self.head()

    async def executor(self) -> Executor:
        """Return a live executor; a second one is a restart."""
        limits = Limits(Wei(10**18), Wei(10**18), Usd(USD), Usd(10**6 * USD), self.path / "KILL")
        risk = Risk("devnet", limits, self.clock)
        started = Executor(
            "devnet",
            self.net.chain_id,
            self.rpc,
            KeySigner(self.operator.wallet.key),
            self.journal,
            risk,
            decode_receipt_logs,
            explain_reason,
            lambda _: True,
            self.clock,
            self.events,
            live=True,
        )
        await started.start()
        return started

    def prover(self) -> Prover[Any]:
        """Return a prover that never packs again."""
        simulator = Simulator(self.rpc, Address(self.operator.wallet.address))
        return Prover(simulator, decode_run, settle_plan, lambda *_: None, explain_reason)

    def view(self, head: Head) -> View:
        """Return a view with the market's prices."""
        values = {
            Address(self.net.tokens[name].address): price
            for name, price in self.net.prices().items()
        }
        return View(
            chain="devnet",
            head=head,
            next_block=head.next_block(12),
            at_risk=(),
            prices={"aave": Prices("aave", USD, values, head.hash)},
            tokens={},
            native=self.weth,
        )

    def quote(self, borrower: Address, gas_price: int) -> Quote:
        """Return a quote whose proceeds are a guess; the simulation knows."""
        gas_cost = mul_div_up(500_000 * gas_price, self.net.price("WETH"), 10**18 * 100)
        terms = PairTerms(self.weth, self.usdc, REPAY)
        position = Position(
            "aave",
            "aave-v3",
            borrower,
            (CollateralLeg(self.weth, 10**18, 0, Bps(8_000), Bps(10_500)),),
            (DebtLeg(self.usdc, 2 * REPAY, 0),),
            0,
            0,
            Wad(97 * 10**16),
        )
        proceeds = REPAY * 103 // 100
        premium = REPAY * 5 // 10_000
        net = proceeds - REPAY - premium - gas_cost
        return Quote(
            opportunity=Opportunity(position, (terms,), Cause.PRICE, "by-hand"),
            steps=(Step(terms, REPAY, Seizure(REPAY, 10**18, 0)),),
            route=(Hop("uniswap-v3", Address(bytes(20)), self.weth.address, self.usdc.address),),
            flash=FlashSource(
                FlashKind.AAVE, Address(self.net.market.pool), self.usdc.address, 10**15, 500
            ),
            debt=self.usdc,
            gas=500_000,
            proceeds=proceeds,
            repaid=REPAY,
            premium=premium,
            gas_cost=gas_cost,
            net=net,
            net_usd=Usd(net * 100),
            minimum_profit=0,
            gross_usd=Usd((proceeds - REPAY) * 100),
        )

    def plan(
        self, head: Head, borrowers: list[Address], name: str = "plan", late: int = 600
    ) -> Plan:
        """Return a hand-made plan that liquidates some borrowers with one sale."""
        group = Group(
            pool=Address(self.net.market.pool),
            collateral=self.weth.address,
            debt=self.usdc.address,
            items=tuple(Item(borrower, REPAY) for borrower in borrowers),
            actions=(
                Swap(Address(self.net.uniswap.factory), FEE, self.weth.address, self.usdc.address),
            ),
            item_gas=700_000,
            group_gas=400_000 + 800_000 * len(borrowers),
        )
        lent = REPAY * len(borrowers)
        batch = Batch(
            deadline=head.timestamp + late,
            tokens=(self.usdc.address, self.weth.address),
            groups=(group,),
            funds=(Fund(FundKind.AAVE, self.usdc.address, lent, Address(self.net.market.pool)),),
        )
        at = head.next_block(12)
        quotes = tuple(self.quote(borrower, at.base_fee + GWEI) for borrower in borrowers)
        return Plan(
            id=name,
            chain="devnet",
            head=head,
            next_block=at,
            quotes=quotes,
            bid=Bid(Wei(GWEI), Wei(5 * GWEI), head.timestamp + late),
            contract=self.operator.contract,
            calldata=encode_run(batch),
            gas_limit=1_000_000 + 900_000 * len(borrowers),
            gas=500_000 * len(borrowers),
            gas_cost=Wei(500_000 * len(borrowers) * (at.base_fee + GWEI)),
            gross_usd=Usd(0),
            net_usd=Usd(0),
            repaid_usd=Usd(lent * 100),
        )

    async def proven(self, borrowers: list[Address], name: str = "plan", late: int = 600) -> Plan:
        """Return a plan that passed its simulation at the head."""
        head = await self.head()
        view = await asyncio.to_thread(self.view, head)
        plans, skips = await self.prover().prove([self.plan(head, borrowers, name, late)], view)
        assert not skips
        return plans[0]


@pytest.fixture
async def desk(net: Devnet, tmp_path: Path) -> AsyncIterator[Desk]:
    """Two borrowers at health 0.97 and an operator who may liquidate them."""

    def build() -> tuple[Operator, list[bytes]]:
        operator = deploy_operator(net)
        return operator, net.borrowers(2, health=0.97, size_usd=(20_000, 20_000), seed=5)

    operator, borrowers = await asyncio.to_thread(build)
    clock, events = FakeClock(), Events()
    journal = SqliteJournal(tmp_path / "journal.db", clock, 30, lambda _: None)
    journal.open()
    tokens = {
        name: Token(Address(net.tokens[name].address), name, decimals)
        for name, decimals in (("USDC", 6), ("WETH", 18))
    }
    async with connect(net.rpc_url, "devnet") as rpc:
        yield Desk(
            net,
            operator,
            rpc,
            journal,
            tmp_path,
            events,
            clock,
            [Address(borrower) for borrower in borrowers],
            tokens["USDC"],
            tokens["WETH"],
        )
    journal.close()


async def test_two_borrowers_are_liquidated_for_what_was_simulated(desk: Desk) -> None:
    before = await asyncio.to_thread(desk.net.balance, desk.usdc.address, desk.operator.contract)
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers)
    sent, skips = await executor.send([plan])
    assert sent == [plan]
    assert not skips
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)
    after = await asyncio.to_thread(desk.net.balance, desk.usdc.address, desk.operator.contract)
    assert receipt.gains[desk.usdc.address] == after - before > 0
    assert [item.ok for item in receipt.items] == [True, True]
    assert sum(item.gain for item in receipt.items) == after - before
    assert receipt.gas_used == plan.gas, "the block is the one that was simulated"
    error = desk.events.seen[-1][1]["estimate_error_bps"]
    assert isinstance(error, int)
    assert abs(error) <= 1

    record = JournalReader(desk.path / "journal.db").explain(to_hex(receipt.tx_hash))
    assert record is not None
    assert record.verdict.startswith("liquidated 2 of 2 in block")
    one = JournalReader(desk.path / "journal.db").explain(to_hex(desk.borrowers[0]))
    assert one is not None
    assert one.verdict.startswith("liquidated in block")


async def test_every_way_to_simulate_agrees(desk: Desk) -> None:
    head = await desk.head()
    plan = desk.plan(head, desk.borrowers)
    results = []
    for way in Way:
        simulator = Simulator(desk.rpc, Address(desk.operator.wallet.address))
        simulator._way = way
        (result,) = await simulator.simulate([plan], head, head.next_block(12))
        assert simulator.way is way, "the node does all three"
        assert result.ok
        results.append(decode_run(result.returndata))
    assert results[0] == results[1]
    assert [item.ok for item in results[2].items] == [True, True]


async def test_plans_of_one_head_see_each_other(desk: Desk) -> None:
    head = await desk.head()
    plan = desk.plan(head, desk.borrowers)
    simulator = Simulator(desk.rpc, Address(desk.operator.wallet.address))
    first, second = await simulator.simulate([plan, plan], head, head.next_block(12))
    gains = [decode_run(result.returndata).gains[0] for result in (first, second)]
    assert gains[1] < gains[0], "the second sells into the pool the first left"


async def test_a_failing_simulation_names_its_reason(desk: Desk) -> None:
    head = await desk.head()
    view = await asyncio.to_thread(desk.view, head)
    late = desk.plan(head, desk.borrowers, late=-60)
    plans, skips = await desk.prover().prove([late], view)
    assert not plans
    assert {skip.reason for skip in skips} == {Reason.SIMULATION_FAILED}
    assert "Expired" in skips[0].detail


async def test_a_nonce_used_elsewhere_is_refused_and_the_line_healed(desk: Desk) -> None:
    executor = await desk.executor()
    wallet = desk.operator.wallet.address
    await asyncio.to_thread(desk.net.send, wallet, wallet, "nothing()")
    plan = await desk.proven(desk.borrowers)
    sent, skips = await executor.send([plan])
    assert not sent
    assert {skip.reason for skip in skips} == {Reason.IN_FLIGHT}
    assert "nonce" in skips[0].detail
    sent, _ = await executor.send([replace(plan, id="again")])
    assert len(sent) == 1
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)


async def test_a_revert_on_the_chain_is_explained(desk: Desk) -> None:
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers, late=20)
    await executor.send([plan])
    (receipt,) = await executor.follow(await desk.mine(seconds=60))
    assert isinstance(receipt, Reverted)
    assert "Expired" in receipt.reason
    assert receipt.gas_cost_usd > 0
    assert executor.pending == 0


async def test_a_stuck_transaction_survives_a_restart(desk: Desk) -> None:
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers[:1])
    await executor.send([plan])
    assert await executor.follow(await desk.head()) == []
    desk.journal.close()

    reopened = SqliteJournal(desk.path / "journal.db", desk.clock, 30, lambda _: None)
    reopened.open()
    desk.journal = reopened
    restarted = await desk.executor()
    assert restarted.in_flight() == {("aave", desk.borrowers[0])}
    other = await desk.proven(desk.borrowers[1:], "other")
    sent, _ = await restarted.send([other])
    assert len(sent) == 1
    receipts = await restarted.follow(await desk.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Included]
    assert not await reopened.pending()


async def test_an_evicted_transaction_is_handed_over_again(desk: Desk) -> None:
    executor = await desk.executor()
    await executor.send([await desk.proven(desk.borrowers)])
    await desk.rpc.request("anvil_dropAllTransactions", [])
    for _ in range(3):
        assert await executor.follow(await desk.mine()) == []
    assert "plan.rebroadcast" in desk.events.names
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)
