"""An operator's desk on the real contracts: plans made by hand, an executor, a journal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeper.chain.endpoint import Endpoint, connect
from keeper.chain.parse import head as parse_head
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator
from keeper.execution.executor import Executor
from keeper.execution.prove import Prover
from keeper.execution.pursuit import Policy
from keeper.execution.recheck import Look, Recheck
from keeper.execution.relays.flow import PrivateFlow
from keeper.execution.signer import KeySigner
from keeper.execution.simulate import Simulator
from keeper.journal.sqlite import SqliteJournal
from keeper.planning.batch import Batch, Fund, FundKind, Group, Item, Swap
from keeper.planning.decoding import decode_receipt_logs, decode_run
from keeper.planning.encoding import encode_run, untipped
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
    Opportunity,
    Plan,
    Portion,
    Position,
    Prices,
    Quote,
    Seizure,
    Step,
    Token,
    View,
)
from keeper.units import USD, Address, Bps, Usd, Wad, Wei, mul_div_up
from tests.fake_node import Events, FakeClock
from tests.plans import PairTerms

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

    async def mine(self, seconds: int = 12, base_fee: int | None = None) -> Head:
        """Make a block, if wanted with a base fee, and return it."""
        if base_fee is not None:
            await self.rpc.request("anvil_setNextBlockBaseFeePerGas", [hex(base_fee)])
        await asyncio.to_thread(self.net.mine, 1, seconds)
        return await self.head()

    async def executor(
        self,
        policy: Policy = Policy(),  # noqa: B008  # frozen
        flow: PrivateFlow | None = None,
    ) -> Executor:
        """Return a live executor; a second one is a restart."""
        limits = Limits(Wei(10**18), Wei(10**18), Usd(USD), Usd(10**6 * USD), self.path / "KILL")
        risk = Risk("devnet", limits, self.clock)
        started = Executor(
            "devnet",
            self.net.chain_id,
            self.rpc,
            [KeySigner(wallet.key) for wallet in self.operator.wallets],
            self.journal,
            risk,
            decode_receipt_logs,
            explain_reason,
            lambda _: True,
            self.clock,
            self.events,
            live=True,
            policy=policy,
            look=self.look(),
            flow=flow,
            untipped=untipped,
        )
        await started.start()
        return started

    def look(self) -> Look:
        """Return what simulates a sent plan again."""
        simulator = Simulator(self.rpc, Address(self.operator.wallet.address))
        return Recheck(simulator, decode_run, settle_plan, explain_reason, 12)

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
            routes=(
                Portion(
                    (Hop("uniswap-v3", Address(bytes(20)), self.weth.address, self.usdc.address),)
                ),
            ),
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


@asynccontextmanager
async def desk_on(net: Devnet, folder: Path, lanes: int = 1) -> AsyncIterator[Desk]:
    """Set up two borrowers at health 0.97 and an operator who may liquidate them."""

    def build() -> tuple[Operator, list[bytes]]:
        operator = deploy_operator(net, lanes=lanes)
        return operator, net.borrowers(2, health=0.97, size_usd=(20_000, 20_000), seed=5)

    operator, borrowers = await asyncio.to_thread(build)
    clock, events = FakeClock(), Events()
    journal = SqliteJournal(folder / "journal.db", clock, 30, lambda _: None)
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
            folder,
            events,
            clock,
            [Address(borrower) for borrower in borrowers],
            tokens["USDC"],
            tokens["WETH"],
        )
    journal.close()
