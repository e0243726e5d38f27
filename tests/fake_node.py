"""A node in memory with a transaction pool, and the ports an executor stands on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth_hash.auto import keccak

from keeper.errors import RpcError, TransientError
from keeper.types import Dropped, Head, Log, Plan, Reason, Receipt, Signed, Skip
from keeper.units import Address, Hash, to_hex
from tests.plans import CONTRACT, GWEI, USDC, make_head

FIELDS = (
    *("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas"),
    *("to", "value", "data", "accessList", "v", "r", "s"),
)
AS_BYTES = {"to", "data", "accessList"}


@dataclass(slots=True)
class FakeClock:
    """A clock that is set."""

    now: float = 1_800_000_000.0

    def time(self) -> float:
        """Return the set time."""
        return self.now

    def monotonic(self) -> float:
        """Return the set time."""
        return self.now


class FakeNode:
    """Answer what the executor asks; `refuse` may raise for a raw transaction before it is pooled."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.head = make_head()
        self.pool: dict[int, bytes] = {}
        self.mined = 0
        self.balance = 10 * 10**18
        self.receipts: dict[str, dict[str, Any]] = {}
        self.sent: list[bytes] = []
        self.refuse: Callable[[bytes], None] | None = None
        self.answering: Callable[[str, Sequence[Any]], Any] | None = None
        self.revert_data: bytes | None = None
        self.liquidations = 1
        self.code = b""

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Serve one request."""
        self.requests[method] += 1
        if self.answering is not None:
            answer = self.answering(method, params)
            if answer is not None:
                return answer
        return getattr(self, method)(*params)

    def eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        """Pool a transaction unless its nonce is used or taken."""
        body = bytes.fromhex(raw[2:])
        self.sent.append(body)
        if self.refuse is not None:
            self.refuse(body)
        nonce = nonce_of(body)
        if nonce < self.mined:
            raise RpcError("eth_sendRawTransaction", -32000, "nonce too low")
        if self.pool.get(nonce) == body:
            raise RpcError("eth_sendRawTransaction", -32000, "already known")
        if nonce in self.pool and not replaces(body, self.pool[nonce]):
            text = "replacement transaction underpriced"
            raise RpcError("eth_sendRawTransaction", -32000, text)
        self.pool[nonce] = body
        return to_hex(keccak(body))

    def eth_getTransactionReceipt(self, tx: str) -> dict[str, Any] | None:  # noqa: N802
        """Return a mined transaction's receipt."""
        return self.receipts.get(tx)

    def eth_getTransactionByHash(self, tx: str) -> dict[str, Any] | None:  # noqa: N802
        """Return something for a pooled or mined transaction."""
        known = {to_hex(keccak(raw)) for raw in self.pool.values()} | self.receipts.keys()
        return {"hash": tx} if tx in known else None

    def eth_getCode(self, account: str, tag: str) -> str:  # noqa: N802
        """Return the account's code: none, unless it is delegated."""
        return to_hex(self.code)

    def eth_getTransactionCount(self, sender: str, tag: str) -> str:  # noqa: N802
        """Return the mined count, or with the pool's transactions in a row behind it."""
        count = self.mined
        while tag == "pending" and count in self.pool:
            count += 1
        return hex(count)

    def eth_getBalance(self, sender: str, tag: str) -> str:  # noqa: N802
        """Return the balance."""
        return hex(self.balance)

    def eth_getBlockByHash(self, block: str, full: bool) -> dict[str, Any]:  # noqa: N802
        """Return the header of the head; older ones are not kept."""
        return header(self.head)

    def eth_getBlockByNumber(self, block: str, full: bool) -> dict[str, Any]:  # noqa: N802
        """Return the header of the head."""
        return header(self.head)

    def eth_call(self, *params: Any) -> str:
        """Revert as told, or return nothing."""
        if self.revert_data is not None:
            raise RpcError("eth_call", 3, "execution reverted", self.revert_data)
        return "0x"

    def mine(self, *, status: int = 1, gas_used: int = 400_000) -> Head:
        """Mine what stands in a row in the pool."""
        self._step()
        while self.mined in self.pool:
            raw = self.pool.pop(self.mined)
            self.mined += 1
            tx = to_hex(keccak(raw))
            self.receipts[tx] = {
                "transactionHash": tx,
                "status": hex(status),
                "blockNumber": hex(self.head.number),
                "blockHash": to_hex(self.head.hash),
                "gasUsed": hex(gas_used),
                "effectiveGasPrice": hex(2 * GWEI),
                "logs": [log_of(self.head, index) for index in range(self.liquidations)],
            }
        return self.head

    def foreign(self) -> Head:
        """Mine a transaction somebody else signed with the same key."""
        self.pool.pop(self.mined, None)
        self.mined += 1
        self._step()
        return self.head

    def undo(self) -> None:
        """Take every transaction back: another block is where the head was, and no pool has them."""
        self.mined, self.pool, self.receipts = 0, {}, {}
        self.head = make_head(self.head.number, f"instead of {self.head.hash.hex()}")

    def _step(self) -> None:
        """Put an empty block on the head."""
        self.head = replace(make_head(self.head.number + 1), parent=self.head.hash)


def fields_of(raw: bytes) -> dict[str, Any]:
    """Return a raw transaction's fields under their JSON-RPC names, read as EIP-1559 lays them out."""
    kind, body = raw[0], raw[1:]
    ((*fields,), rest) = _item(body)
    assert (kind, rest, len(fields)) == (2, b"", len(FIELDS))
    return {
        name: field if name in AS_BYTES else int.from_bytes(field)
        for name, field in zip(FIELDS, fields, strict=True)
    }


def _item(encoded: bytes) -> tuple[Any, bytes]:
    """Return the first item of an RLP encoding, bytes or a list, and what follows it."""
    first = encoded[0]
    if first < 0x80:
        return encoded[:1], encoded[1:]
    is_list = first >= 0xC0
    size, start = first - (0xC0 if is_list else 0x80), 1
    if size > 55:
        start += size - 55
        size = int.from_bytes(encoded[1:start])
    body, rest = encoded[start : start + size], encoded[start + size :]
    assert len(body) == size
    if not is_list:
        return body, rest
    items = []
    while body:
        item, body = _item(body)
        items.append(item)
    return items, rest


def nonce_of(raw: bytes) -> int:
    """Return a raw transaction's nonce."""
    return int(fields_of(raw)["nonce"])


def replaces(new: bytes, old: bytes) -> bool:
    """Say whether both fees are a tenth higher, as geth's pool asks; a stranger's never is known."""
    if len(old) < 50:
        return False
    before, after = fields_of(old), fields_of(new)
    return all(
        after[fee] * 100 >= before[fee] * 110 and after[fee] > before[fee]
        for fee in ("maxFeePerGas", "maxPriorityFeePerGas")
    )


def log_of(head: Head, index: int) -> dict[str, Any]:
    """Return a log of the contract as a node sends it."""
    return {
        "address": to_hex(CONTRACT),
        "topics": [],
        "data": "0x",
        "blockNumber": hex(head.number),
        "blockHash": to_hex(head.hash),
        "logIndex": hex(index),
        "transactionHash": to_hex(head.hash),
    }


def header(head: Head) -> dict[str, Any]:
    """Return a header as a node sends it."""
    return {
        "number": hex(head.number),
        "hash": to_hex(head.hash),
        "parentHash": to_hex(head.parent),
        "timestamp": hex(head.timestamp),
        "baseFeePerGas": hex(head.base_fee),
        "gasUsed": hex(head.gas_used),
        "gasLimit": hex(head.gas_limit),
        "logsBloom": "0x" + bytes(256).hex(),
    }


def no_answer(raw: bytes) -> None:
    """Lose the answer to a send."""
    raise TransientError("timed out")


@dataclass(frozen=True, slots=True)
class FakeRun:
    """A run in which every item held."""

    items: tuple[int, ...]
    gains: dict[Address, int]
    tip: int = 0
    refill: int = 0


def decode_runs(logs: Sequence[Log], contract: Address) -> list[FakeRun]:
    """Read each log as one liquidation that brought 40.4 USDC."""
    count = sum(log.address == contract for log in logs)
    return [FakeRun(tuple(range(count)), {USDC.address: 40_400_000 * count})]


@dataclass
class FakeJournal:
    """Keep in memory what was recorded, in order."""

    rows: list[tuple[str, Any]] = field(default_factory=list)
    open: dict[bytes, Signed] = field(default_factory=dict)
    ended: dict[bytes, tuple[Signed, Receipt]] = field(default_factory=dict)

    async def planned(self, plan: Plan) -> None:
        """Keep a plan."""
        self.rows.append(("planned", plan.id))

    async def signed(self, signed: Signed) -> None:
        """Keep the bytes of a plan on record."""
        assert ("planned", signed.plan.id) in self.rows
        self.rows.append(("signed", signed.plan.id))
        self.open[signed.hash] = signed

    async def sent(self, signed: Signed, error: str | None) -> None:
        """Keep the hand-over."""
        self.rows.append(("sent", error))

    async def settled(self, *receipts: Receipt) -> None:
        """Keep the end of a plan on record."""
        for receipt in receipts:
            assert ("planned", receipt.plan_id) in self.rows
            self.rows.append(("settled", receipt))
            if receipt.tx_hash is not None:
                signed = self.open.pop(receipt.tx_hash, None) or self.ended[receipt.tx_hash][0]
                self.ended[receipt.tx_hash] = (signed, receipt)

    async def lost(self, plan_id: str, relay: str) -> None:
        """Keep that a plan lost its purpose."""
        self.rows.append(("lost", (plan_id, relay)))

    async def reopened(self, plan_id: str, sender: Address, nonce: int) -> None:
        """Open a plan's transactions again."""
        self.rows.append(("reopened", plan_id))
        for tx_hash, (signed, _) in list(self.ended.items()):
            if (signed.plan.id, signed.sender, signed.nonce) == (plan_id, sender, nonce):
                del self.ended[tx_hash]
                self.open[tx_hash] = signed

    async def finished(self, chain: str, sender: Address, nonce: int) -> None:
        """Forget what is final."""
        self.rows.append(("finished", nonce))
        for tx_hash, (signed, _) in list(self.ended.items()):
            if (signed.sender, signed.nonce) == (sender, nonce):
                del self.ended[tx_hash]

    async def unfinal(self) -> list[tuple[Signed, int | None, Hash]]:
        """Return what ended and is not final."""
        return [
            (
                signed,
                getattr(receipt, "block_number", 0) or None,
                getattr(receipt, "block_hash", Hash(b"")),
            )
            for signed, receipt in self.ended.values()
            if not isinstance(receipt, Dropped)
        ]

    def observe(self, *_: object) -> None:
        """Forget."""

    async def pending(self) -> list[Signed]:
        """Return what is open."""
        return list(self.open.values())


@dataclass(slots=True)
class FakeAdmission:
    """Admit everything, or refuse with one skip."""

    refusal: Callable[[Plan], Skip | None] | None = None
    admitted: list[str] = field(default_factory=list)
    settled: list[Receipt] = field(default_factory=list)

    def admit(self, plan: Plan) -> Skip | None:
        """Return the refusal, if one is set."""
        if self.refusal is not None:
            return self.refusal(plan)
        self.admitted.append(plan.id)
        return None

    def halted(self, plan: Plan) -> bool:
        """Whether the refusal is a breaker's."""
        refusal = None if self.refusal is None else self.refusal(plan)
        return refusal is not None and refusal.reason is Reason.BREAKER

    def reserve(self, plan: Plan) -> None:
        """Keep it as admitted."""
        self.admitted.append(plan.id)

    def settle(self, receipt: Receipt) -> None:
        """Keep the end."""
        self.settled.append(receipt)


@dataclass(slots=True)
class Events:
    """Keep what was told to observers."""

    seen: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        """Keep one event."""
        self.seen.append((name, fields))

    @property
    def names(self) -> list[str]:
        """Return the events' names in order."""
        return [name for name, _ in self.seen]
