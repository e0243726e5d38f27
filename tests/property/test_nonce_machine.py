"""Two nonce lines against a hostile pool and chain: nothing sticks, nothing is paid or booked twice.

`python -m tests.property.test_nonce_machine [STEPS] [SEED]` plays at least that many steps.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from eth_account import Account
from eth_hash.auto import keccak
from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test as play,
)

from keeper.errors import TransientError
from keeper.execution.executor import Executor
from keeper.execution.pursuit import Policy
from keeper.execution.recheck import Gone, most_per_gas_down
from keeper.execution.signer import KeySigner
from keeper.types import Cancelled, Dropped, Head, Included, Plan, Reverted
from keeper.units import Address, Wei, to_hex
from tests.fake_node import (
    Events,
    FakeAdmission,
    FakeClock,
    FakeJournal,
    FakeNode,
    decode_runs,
    fields_of,
    log_of,
    nonce_of,
    replaces,
)
from tests.plans import CONTRACT, GWEI, OPERATOR_KEY, Plans, address, make_head

CAP = Wei(60 * GWEI)
POLICY = Policy(replace_after=2, final_depth=4, max_fee=CAP)
STRANGER = b"stranger"
T = TypeVar("T")
STEPS = Counter[str]()


class ForkingNode(FakeNode):
    """A node whose blocks can be taken back; the base fee decides what gets in."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[Head, list[bytes]]] = []
        self.deadlines: dict[bytes, int] = {}
        self.forks = 0
        self.collisions = 0

    def eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        """Pool a transaction, and count replacements of ours that break the rule."""
        body = bytes.fromhex(raw[2:])
        held = self.pool.get(nonce_of(body))
        lives = held not in {None, body, STRANGER}
        if held is not None and lives and not replaces(body, held):
            self.collisions += 1
        return super().eth_sendRawTransaction(raw)

    def block(self, base_fee: int) -> Head:
        """Mine in the order of nonces what pays the base fee."""
        number = self.head.number + 1
        block = make_head(number, f"fork {self.forks}")
        self.head = replace(block, parent=self.head.hash, base_fee=Wei(base_fee))
        taken: list[bytes] = []
        while (raw := self.pool.get(self.mined)) is not None and pays(raw, base_fee):
            del self.pool[self.mined]
            self.mined += 1
            taken.append(raw)
            if raw != STRANGER:
                self.write_receipt(raw)
        self.blocks.append((self.head, taken))
        return self.head

    def write_receipt(self, raw: bytes) -> None:
        """Keep the receipt of a transaction of the head; past its deadline it failed."""
        tx, data = to_hex(keccak(raw)), bytes(fields_of(raw)["data"])
        late = 0 < self.deadlines.get(data, 0) < self.head.timestamp
        runs = bool(data) and not late
        self.receipts[tx] = {
            "transactionHash": tx,
            "status": hex(int(not late)),
            "blockNumber": hex(self.head.number),
            "blockHash": to_hex(self.head.hash),
            "gasUsed": hex(400_000 if data else 21_000),
            "effectiveGasPrice": hex(self.head.base_fee),
            "logs": [log_of(self.head, 0)] if runs else [],
        }

    def reorg(self, depth: int, returns: bool, base_fee: int) -> Head:
        """Take blocks back and mine one more than they were; their transactions may be lost."""
        undone, self.blocks = self.blocks[-depth:], self.blocks[:-depth]
        self.forks += 1
        for _, taken in reversed(undone):
            for raw in reversed(taken):
                self.mined -= 1
                self.receipts.pop(to_hex(keccak(raw)), None)
                if returns:
                    self.pool[self.mined] = raw
                else:
                    self.pool.pop(self.mined, None)
        self.head = self.blocks[-1][0] if self.blocks else make_head()
        for _ in undone:
            self.block(base_fee)
        return self.block(base_fee)

    def eth_getBlockByHash(self, block: str, full: bool) -> Any:  # noqa: N802
        """Return the header of any canonical block."""
        known = {to_hex(head.hash): head for head, _ in self.blocks}
        current, self.head = self.head, known.get(block, self.head)
        try:
            return super().eth_getBlockByHash(block, full) if block in known else None
        finally:
            self.head = current


def pays(raw: bytes, base_fee: int) -> bool:
    """Whether a transaction may enter a block."""
    return raw == STRANGER or bool(fields_of(raw)["maxFeePerGas"] >= base_fee)


@cache
def sender_of(raw: str) -> str:
    """Return who signed a raw transaction."""
    return str(Account.recover_transaction(raw)).lower()


class Accounts:
    """The accounts of one chain, each a node of its own: their blocks have the same heads."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.nodes = {to_hex(each): ForkingNode() for each in addresses}
        self.all = list(self.nodes.values())

    @property
    def head(self) -> Head:
        """Return the last head."""
        return self.all[0].head

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Ask the node of the account, or whichever knows the transaction."""
        match method:
            case "eth_sendRawTransaction":
                return await self.nodes[sender_of(params[0])].request(method, params)
            case "eth_getTransactionCount" | "eth_getBalance":
                return await self.nodes[params[0]].request(method, params)
            case "eth_getTransactionReceipt" | "eth_getTransactionByHash":
                found = [await node.request(method, params) for node in self.all]
                return next((each for each in found if each is not None), None)
            case _:
                return await self.all[0].request(method, params)

    def block(self, base_fee: int) -> Head:
        """Mine for every account."""
        (head,) = {node.block(base_fee) for node in self.all}
        return head

    def reorg(self, depth: int, returns: bool, base_fee: int) -> Head:
        """Take blocks back for every account."""
        (head,) = {node.reorg(depth, returns, base_fee) for node in self.all}
        return head

    def taken(self, depth: int = 0) -> list[bytes]:
        """Return what the last blocks hold, all of them for no depth."""
        return [raw for node in self.all for _, taken in node.blocks[-depth:] for raw in taken]


class NonceMachine(RuleBasedStateMachine):
    """Plans, blocks, losses, thefts, reorgs and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.signers = [KeySigner(OPERATOR_KEY), KeySigner(keccak(b"another lane"))]
        self.node = Accounts([signer.address for signer in self.signers])
        self.journal, self.admission = FakeJournal(), FakeAdmission()
        self.events, self.plans = Events(), Plans()
        self.by_data: dict[bytes, Plan] = {}
        self.gone: set[str] = set()
        self.blind = False
        self.stolen = 0
        self.executor = self.wait_for(self.opened())

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        return self.loop.run_until_complete(work)

    async def opened(self) -> Executor:
        """Start an executor over the journal."""
        made = Executor(
            "test",
            31337,
            self.node,
            self.signers,
            self.journal,
            self.admission,
            decode_runs,
            lambda data: data.hex(),
            lambda _: True,
            FakeClock(),
            self.events,
            live=True,
            policy=POLICY,
            look=self.look,
        )
        await made.start()
        return made

    async def look(self, plan: Plan, head: Head) -> Plan | Gone | None:
        """Simulate as the test has it."""
        if self.blind:
            raise TransientError("not simulated")
        return Gone("taken") if plan.id in self.gone else plan

    def follow(self, head: Head) -> None:
        """Let the executor see a head."""
        self.wait_for(self.executor.follow(head))

    @rule(
        borrower=st.integers(0, 5),
        seconds=st.integers(12, 200),
        fault=st.sampled_from(["", "", "", "lost before", "lost after"]),
    )
    def send(self, borrower: int, seconds: int, fault: str) -> None:
        """Send a plan for one of a few borrowers, unless a transaction on its way has it."""
        head = self.node.head
        plan = self.plans.make(
            address(f"b{borrower}"), head=head, deadline=head.timestamp + seconds
        )
        self.by_data[plan.calldata] = plan
        for node in self.node.all:
            node.deadlines[plan.calldata] = plan.bid.deadline
        serve = self.node.request

        async def lose(method: str, params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                if fault == "lost after":
                    await serve(method, params)
                raise TransientError("timed out")
            return await serve(method, params)

        if fault:
            self.node.request = lose  # type: ignore[method-assign]
        sent, skips = self.wait_for(self.executor.send([plan]))
        self.node.request = serve  # type: ignore[method-assign]
        assert len(sent) + len(skips) == 1
        STEPS["sent" if sent else "skipped"] += 1

    @rule(base_fee=st.sampled_from([1, 1, 2, 5, 20, 100]))
    def block(self, base_fee: int) -> None:
        """Mine at a base fee."""
        self.follow(self.node.block(base_fee * GWEI))
        STEPS["block"] += 1

    @precondition(lambda self: any(node.pool for node in self.node.all))
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """Lose one transaction from the pool."""
        node = data.draw(st.sampled_from([each for each in self.node.all if each.pool]))
        del node.pool[data.draw(st.sampled_from(sorted(node.pool)))]
        STEPS["evicted"] += 1

    @precondition(lambda self: self.stolen < 3)
    @rule(lane=st.integers(0, 1))
    def steal(self, lane: int) -> None:
        """Use the next nonce elsewhere with the same key."""
        node = self.node.all[lane]
        node.pool[node.mined] = STRANGER
        self.stolen += 1
        self.follow(self.node.block(GWEI))
        STEPS["stolen"] += 1

    @rule(lane=st.integers(0, 1))
    def intrude(self, lane: int) -> None:
        """Pool a stranger behind what is there; it may vanish, or be mined."""
        node = self.node.all[lane]
        if STRANGER in node.pool.values():
            return
        free = node.mined
        while free in node.pool:
            free += 1
        node.pool[free] = STRANGER
        STEPS["intruded"] += 1

    @precondition(lambda self: self.node.all[0].blocks)
    @rule(depth=st.integers(1, 3), returns=st.booleans())
    def reorg(self, depth: int, returns: bool) -> None:
        """Take blocks back, within the final depth."""
        if STRANGER in self.node.taken(depth):
            return
        depth = min(depth, len(self.node.all[0].blocks))
        self.follow(self.node.reorg(depth, returns, GWEI))
        STEPS["reorg"] += 1

    @rule()
    def restart(self) -> None:
        """Die, and start over the journal."""
        self.executor = self.wait_for(self.opened())
        STEPS["restart"] += 1

    @rule()
    def compete(self) -> None:
        """Let another take what was sent so far."""
        self.gone = {plan.id for plan in self.by_data.values()}
        STEPS["gone"] += 1

    @rule(blind=st.booleans())
    def hide(self, blind: bool) -> None:
        """Have the node simulate, or not."""
        self.blind = blind
        STEPS["blind"] += 1

    @invariant()
    def fees_stay_within_what_it_brings(self) -> None:
        """Check every transaction ever offered."""
        for raw in {raw for node in self.node.all for raw in node.sent[-4:]}:
            fields = fields_of(raw)
            assert fields["maxFeePerGas"] <= CAP
            if bytes(fields["to"]) == CONTRACT:
                plan = self.by_data[bytes(fields["data"])]
                ceiling = max(most_per_gas_down(plan, CAP), plan.bid.max_fee)
                assert fields["maxFeePerGas"] <= ceiling
            assert fields["value"] == 0

    @invariant()
    def ours_never_collide(self) -> None:
        """Check that no replacement broke the pool's rule."""
        assert all(node.collisions == 0 for node in self.node.all)

    @invariant()
    def nobody_is_liquidated_twice_by_one_plan(self) -> None:
        """Check that each plan runs once at most on the chain as it stands."""
        ran = Counter(bytes(fields_of(raw)["data"]) for raw in self.node.taken() if raw != STRANGER)
        assert all(count == 1 for data, count in ran.items() if data)

    def teardown(self) -> None:
        """Let everything end: all settled, no gap, and the books are the chain's."""
        self.blind = False
        for number in range(12):
            for _ in range(10):
                self.follow(self.node.block(GWEI))
            if not (self.executor.pending or self.journal.open):
                break
            # a nonce that was given back is used by the next plan of its lane
            for lane in range(2):
                last = self.plans.make(address(f"last {number} {lane}"), head=self.node.head)
                self.by_data[last.calldata] = last
                self.wait_for(self.executor.send([last]))
        assert self.executor.pending == 0, "a nonce sticks"
        assert not self.journal.open
        assert not any(node.pool for node in self.node.all), "a gap holds the pool"
        paid = {to_hex(keccak(raw)) for raw in self.node.taken() if raw != STRANGER}
        booked: dict[str, str] = {}
        for receipt in self.admission.settled:
            match receipt:
                case Included() | Reverted() | Cancelled(gas_used=1 | 21_000):
                    booked[receipt.plan_id] = to_hex(receipt.tx_hash)
                case Dropped() if receipt.tx_hash and "reorg" in receipt.reason:
                    assert booked.pop(receipt.plan_id) == to_hex(receipt.tx_hash), "undone once"
                case _:
                    pass
        assert set(booked.values()) == paid, "booked is what was mined"
        self.loop.close()


def test_the_nonce_line_survives_everything() -> None:
    play(
        seed(1)(NonceMachine),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert {"sent", "block", "reorg", "stolen", "intruded", "restart"} <= STEPS.keys()


def main() -> None:
    """Play in rounds until enough steps are done; print what was done, and the seed."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    STEPS.clear()
    turn = first
    while STEPS.total() < wanted:
        machine = type(f"Seed{turn}", (NonceMachine,), {})
        play(
            seed(turn)(machine),
            settings=settings(
                max_examples=50,
                stateful_step_count=60,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        turn += 1
    told = ", ".join(f"{count} {name}" for name, count in STEPS.most_common())
    print(f"{STEPS.total()} steps held (seeds {first} to {turn - 1}): {told}")


if __name__ == "__main__":
    main()
