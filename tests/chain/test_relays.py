"""Private transactions on the real contracts: whatever relays do, liquidated once or given up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from keeper import log
from keeper.chain.endpoint import connect
from keeper.chain.parse import quantity
from keeper.cli.progress import CurrentStderr
from keeper.config import Settings
from keeper.devnet import Devnet
from keeper.execution.executor import Executor
from keeper.execution.pursuit import Policy
from keeper.execution.relays.flow import PrivateFlow
from keeper.journal.read import JournalReader
from keeper.relays import open_relays
from keeper.types import Included, Plan, Receipt
from keeper.units import Wei, to_hex
from tests.desk import GWEI, Desk, desk_on
from tests.line import assert_clean, playing
from tests.relay_stand_in import RelayStandIn

pytestmark = pytest.mark.chain

POLICY = Policy(replace_after=3, final_depth=4, max_fee=Wei(500 * GWEI))
AFTER = 3
"""Blocks after which a transaction goes public here."""
KEY = "11" * 32


class Street:
    """A desk, some relays, and blocks that builders make of what relays hold."""

    def __init__(self, desk: Desk, stack: AsyncExitStack) -> None:
        self.desk = desk
        self.stack = stack
        self.relays: dict[str, RelayStandIn] = {}

    async def relay(self, name: str = "builder") -> RelayStandIn:
        """Open another relay."""
        relay = RelayStandIn(self.desk.rpc)
        self.relays[name] = await self.stack.enter_async_context(relay)
        return relay

    async def executor(self, kind: str = "bundle", public_after: int = AFTER) -> Executor:
        """Return an executor before all relays; a second one is a restart."""
        flow = await self.flow(kind, public_after)
        return await self.desk.executor(POLICY, flow)

    async def flow(self, kind: str, public_after: int) -> PrivateFlow | None:
        """Open the relays as configured."""
        chain = {
            "chain_id": self.desk.net.chain_id,
            "endpoints": ["ws://x"],
            "public_after": public_after,
            "relays": {
                name: {"kind": kind, "url": relay.url, "identity": KEY, "blocks": 2}
                for name, relay in self.relays.items()
            },
        }
        settings = Settings.model_validate({"chains": {"devnet": chain}})
        return open_relays("devnet", settings.chains["devnet"], self.stack)

    async def block(self, executor: Executor) -> list[Receipt]:
        """Let every builder try, mine, and follow."""
        number = (await self.desk.head()).number + 1
        for relay in self.relays.values():
            await relay.build(number)
        ended = await executor.follow(await self.desk.mine())
        await asyncio.sleep(0.05)  # what is re-sent is not waited for
        return ended

    async def until_settled(self, executor: Executor, most: int = 8) -> list[Receipt]:
        """Make blocks until nothing is pending."""
        ended: list[Receipt] = []
        for _ in range(most):
            ended.extend(await self.block(executor))
            if not executor.pending:
                break
        return ended

    async def count(self, tag: str = "latest") -> int:
        """Return the wallet's nonce."""
        account = to_hex(self.desk.operator.wallet.address)
        return quantity(await self.desk.rpc.request("eth_getTransactionCount", [account, tag]))

    async def held(self) -> int:
        """Return the contract's USDC."""
        desk = self.desk
        return await asyncio.to_thread(desk.net.balance, desk.usdc.address, desk.operator.contract)

    async def plan(self) -> Plan:
        """Return a proven plan with much time."""
        return await self.desk.proven(self.desk.borrowers, late=3_600)

    async def assert_liquidated_once(self, executor: Executor) -> Included:
        """Send, make blocks, and assert that exactly one transaction did it."""
        nonce, before = await self.count(), await self.held()
        sent, skips = await executor.send([await self.plan()])
        assert (len(sent), skips) == (1, [])
        assert await self.count("pending") == nonce, "nobody but the relays has it"
        (receipt,) = await self.until_settled(executor)
        assert isinstance(receipt, Included)
        assert [item.ok for item in receipt.items] == [True, True]
        await self.block(executor)
        assert await self.count("pending") == nonce + 1
        assert await self.held() - before == receipt.gains[self.desk.usdc.address] > 0
        record = JournalReader(self.desk.path / "journal.db").explain(to_hex(receipt.tx_hash))
        assert record is not None
        assert record.verdict.startswith("liquidated 2 of 2 in block")
        assert not await self.desk.journal.pending()
        return receipt


@pytest.fixture
async def street(net: Devnet, tmp_path: Path) -> AsyncIterator[Street]:
    """Two borrowers under water and an operator who sends past the public pool."""
    async with desk_on(net, tmp_path) as desk, AsyncExitStack() as stack:
        yield Street(desk, stack)


@pytest.mark.parametrize("kind", ["bundle", "private-transaction", "private-raw-transaction"])
async def test_a_relay_includes_what_it_holds(street: Street, kind: str) -> None:
    await street.relay()
    executor = await street.executor(kind)
    await street.assert_liquidated_once(executor)
    assert "plan.published" not in street.desk.events.names
    assert executor.relays["builder"].won == 1


async def test_one_that_never_includes_leads_to_a_public_one(street: Street) -> None:
    relay = await street.relay()
    relay.ignoring = True
    executor = await street.executor()
    receipt = await street.assert_liquidated_once(executor)
    assert street.desk.events.names.count("plan.published") == 1
    record = JournalReader(street.desk.path / "journal.db").explain(to_hex(receipt.tx_hash))
    assert record is not None
    states = sorted(each.state for each in record.plans[0].transactions)
    assert states == ["included", "replaced"]
    assert executor.relays["builder"].lost == 1


async def test_after_publication_builder_and_pool_race_for_one_nonce(street: Street) -> None:
    relay = await street.relay()
    relay.ignoring = True
    executor = await street.executor("private-raw-transaction")
    nonce, before = await street.count(), await street.held()
    await executor.send([await street.plan()])
    while "plan.published" not in street.desk.events.names:
        assert await street.block(executor) == []
    relay.ignoring = False
    await street.desk.rpc.request("anvil_dropAllTransactions", [])
    (receipt,) = await street.until_settled(executor)
    assert isinstance(receipt, Included)
    published = next(f for name, f in street.desk.events.seen if name == "plan.published")
    assert receipt.tx_hash == published["after"], "the builder's was first"
    await street.until_settled(executor, 3)
    assert await street.count("pending") == nonce + 1
    assert await street.held() - before == receipt.gains[street.desk.usdc.address]


async def test_a_relay_that_is_down_is_waited_for_no_longer_than_the_deadline(
    street: Street,
) -> None:
    relay = await street.relay()
    executor = await street.executor()
    await relay.__aexit__()
    await street.assert_liquidated_once(executor)
    assert executor.relays["builder"].unclear > 0


@pytest.mark.parametrize("fault", ["limiting", "gone", "refusing"])
async def test_a_relay_that_refuses_leads_to_a_public_one(street: Street, fault: str) -> None:
    relay = await street.relay()
    setattr(relay, fault, "no")
    executor = await street.executor()
    await street.assert_liquidated_once(executor)
    assert executor.relays["builder"].refused > 0
    assert executor.relays["builder"].lost == 0, "it never held it"


@pytest.mark.parametrize("honest", [True, False])
async def test_of_two_one_lies(street: Street, honest: bool) -> None:
    liar, other = await street.relay("liar"), await street.relay("other")
    liar.naming, liar.ignoring = "0x" + "77" * 32, True
    other.ignoring = not honest
    executor = await street.executor("private-transaction")
    await street.assert_liquidated_once(executor)
    assert executor.relays["liar"].unclear > 0
    assert ("plan.published" in street.desk.events.names) is not honest


async def test_a_restart_publishes_nothing_early(street: Street) -> None:
    relay = await street.relay()
    relay.ignoring = True
    executor = await street.executor()
    nonce = await street.count()
    await executor.send([await street.plan()])
    await street.block(executor)
    restarted = await street.executor()
    assert restarted.pending == 1
    await street.block(restarted)
    assert await street.count("pending") == nonce
    relay.ignoring = False
    (receipt,) = await street.until_settled(restarted)
    assert isinstance(receipt, Included)
    assert "plan.published" not in street.desk.events.names
    assert await street.count("pending") == nonce + 1


async def test_what_a_rival_took_costs_no_transaction(street: Street) -> None:
    relay = await street.relay()
    relay.ignoring = True
    executor = await street.executor(public_after=0)
    nonce = await street.count()
    plan = await street.plan()
    price = street.desk.net.price("WETH")
    await executor.send([plan])
    await asyncio.to_thread(street.desk.net.set_price, "WETH", 2 * price)
    for _ in range(4):
        assert await street.block(executor) == []
    assert "plan.abandoned" in street.desk.events.names
    assert await street.count("pending") == nonce
    relay.ignoring = False
    await asyncio.to_thread(street.desk.net.set_price, "WETH", price)
    again = await street.desk.proven(street.desk.borrowers, "again", late=3_600)
    assert not (await executor.send([again]))[0], "the first may still be mined: never twice"
    assert await street.block(executor) == []


RELAY = "[chains.devnet.relays.builder]\nkind = 'bundle'\nurl = '{}s3cret'\nidentity = 'file:{}'\n"


@pytest.mark.parametrize("includes", [True, False])
async def test_the_whole_line_sends_past_the_public_pool(
    net: Devnet, tmp_path: Path, includes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "console", CurrentStderr())
    key = tmp_path / "relay.key"
    key.write_text(KEY, encoding="utf-8")
    async with connect(net.rpc_url, "devnet") as rpc, RelayStandIn(rpc) as relay:
        async with playing(net, tmp_path, extra=RELAY.format(relay.url, key)) as play:
            opening = partial(net.borrowers, 20, health=(1.01, 1.04), seed=3)
            crowd = await play.stage.step(opening)
            await play.stage.step(partial(net.set_price, "WETH", net.price("WETH") * 9 // 10))
            async with asyncio.timeout(5):
                while relay.held < 3:  # noqa: ASYNC110 - those for later blocks follow
                    await asyncio.sleep(0.01)
            head = await asyncio.to_thread(net.chain.block_number)
            if includes:
                assert await relay.build(head + 1) == 1
            await play.stage.mine(2 if includes else 4)
            play.assert_taken(crowd)
            assert_clean(play.count())
            whole = play.stage.keeper.status()
            (status,) = whole["chains"]["devnet"]["relays"]
            counts = [status[name] for name in ("taken", "included", "vain")]
            assert counts == [1, int(includes), int(not includes)]
            exported = play.stage.keeper.metrics.registry.get_sample_value(
                "keeper_relay_transactions_total",
                {"chain": "devnet", "relay": "builder", "outcome": "included"},
            )
            assert exported == int(includes)
        printed = "".join(capsys.readouterr()) + str(whole)
        assert "plan.published" in printed or includes
        for secret in ("s3cret", KEY):
            assert secret not in printed
