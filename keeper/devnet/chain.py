"""Call, send and mine on the local node, one deterministic block after the other."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keeper.devnet.calls import calldata, contract_address, decoded
from keeper.devnet.rpc import Rpc
from keeper.errors import KeeperError, RpcError

BLOCK_SECONDS = 12
GWEI = 10**9
MAX_FEE = 200 * GWEI
CALL_GAS = 3_000_000
DEPLOY_GAS = 14_000_000
_ALLOWANCE = 10**22


class RevertedError(KeeperError):
    """Report a transaction that was mined and failed; `data` holds the revert bytes."""

    def __init__(self, what: str, message: str, data: bytes | None) -> None:
        super().__init__(f"{what} reverted: {message}" + (f" 0x{data.hex()}" if data else ""))
        self.data = data


@dataclass(frozen=True, slots=True)
class Transaction:
    """Describe a transaction to send. `max_fee` (wei per gas) also decides its place in a block."""

    sender: bytes
    to: bytes | None
    data: bytes
    value: int = 0
    gas: int = CALL_GAS
    max_fee: int = MAX_FEE
    tip: int = 0


@dataclass(frozen=True, slots=True)
class Mined:
    """Hold what a mined transaction left; `logs` are the node's JSON objects."""

    hash: bytes
    block: int
    index: int
    ok: bool
    gas_used: int
    logs: tuple[dict[str, Any], ...]


class Chain:
    """Wrap one node. Blocks are made by `mine` or by each send, unless automine is on."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self._automine = False
        self._queue: list[tuple[Transaction, bytes, bool]] | None = None
        self._funded: set[bytes] = set()

    def call(
        self,
        to: bytes,
        signature: str,
        args: Sequence[Any] = (),
        returns: Sequence[str] = ("uint256",),
        *,
        block: str = "latest",
        sender: bytes | None = None,
    ) -> Any:
        """Return the decoded answer of a view call. Raises RpcError when it reverts."""
        request = {"to": _hex(to), "data": _hex(calldata(signature, args))}
        if sender is not None:
            request["from"] = _hex(sender)
        data = bytes.fromhex(self.rpc("eth_call", request, block)[2:])
        return decoded(returns, data) if returns else None

    def call_many(
        self, calls: Sequence[tuple[bytes, str, Sequence[Any]]], returns: Sequence[str], block: str
    ) -> list[Any]:
        """Return the decoded answers of several view calls with one round trip."""
        requests = [{"to": _hex(to), "data": _hex(calldata(sig, args))} for to, sig, args in calls]
        answers = self.rpc.batch([("eth_call", (request, block)) for request in requests])
        return [decoded(returns, bytes.fromhex(answer[2:])) for answer in answers]

    def send(
        self,
        sender: bytes,
        to: bytes,
        signature: str,
        args: Sequence[Any] = (),
        *,
        value: int = 0,
        gas: int = CALL_GAS,
        max_fee: int = MAX_FEE,
        tip: int = 0,
        check: bool = True,
    ) -> Mined:
        """Send a call, make its block and return what it left.

        Any sender works, its key is not needed. Raises RevertedError unless `check` is off.
        Inside `one_block` use `put`.
        """
        data = calldata(signature, args)
        return self.send_all([Transaction(sender, to, data, value, gas, max_fee, tip)], check)[0]

    def put(self, transaction: Transaction, check: bool = True) -> None:
        """Submit a transaction to the pool; inside `one_block` it joins that block."""
        tx_hash = self._submit([transaction])[0]
        if self._queue is not None:
            self._queue.append((transaction, tx_hash, check))

    def send_all(self, transactions: Sequence[Transaction], check: bool = True) -> list[Mined]:
        """Send several transactions, make as many blocks as they need, return what they left."""
        if self._queue is not None:
            raise KeeperError("inside one_block transactions are put, not sent")
        return self._settle(transactions, self._submit(transactions), check)

    def deploy(self, sender: bytes, code: bytes) -> bytes:
        """Create a contract and return its address."""
        return self.deploy_all(sender, [code])[0]

    def deploy_all(self, sender: bytes, codes: Sequence[bytes]) -> list[bytes]:
        """Create several contracts and return their addresses."""
        first = self.nonce(sender)
        self.send_all([Transaction(sender, None, code, gas=DEPLOY_GAS) for code in codes])
        return [contract_address(sender, first + n) for n in range(len(codes))]

    def nonce(self, sender: bytes) -> int:
        """Return the next nonce, pool included."""
        return int(self.rpc("eth_getTransactionCount", _hex(sender), "pending"), 16)

    def automine(self, on: bool) -> None:
        """Make a block for every transaction at once, or only when `mine` or a send asks."""
        self.rpc("evm_setAutomine", on)
        self._automine = on

    def mine(self, blocks: int = 1, seconds: int = BLOCK_SECONDS) -> int:
        """Make blocks `seconds` apart and return the new height."""
        for _ in range(blocks):
            if seconds != BLOCK_SECONDS:
                self.rpc("evm_setNextBlockTimestamp", self.timestamp() + seconds)
            self.rpc("evm_mine")
        return self.block_number()

    def block_number(self) -> int:
        """Return the height."""
        return int(self.rpc("eth_blockNumber"), 16)

    def timestamp(self) -> int:
        """Return the latest block's timestamp in seconds."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def base_fee(self) -> int:
        """Return the latest block's base fee in wei."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)

    @contextmanager
    def one_block(self, mined: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold every `put` of the body for one block, mined and checked at the end.

        `mined` is called in between: what it waits for, nothing is asked of the node meanwhile.
        """
        if self._queue is not None:
            raise KeeperError("one_block does not nest")
        automine, self._queue = self._automine, []
        if automine:
            self.automine(False)
        try:
            yield
            queue = self._queue
            self._queue = None
            self.rpc("evm_mine")
            mined()
            for transaction, tx_hash, check in queue:
                self._settle([transaction], [tx_hash], check)
        finally:
            self._queue = None
            if automine:
                self.automine(True)

    def forget(self) -> None:
        """Drop what is remembered of the chain, after it was set back."""
        self._funded.clear()

    def _submit(self, transactions: Sequence[Transaction]) -> list[bytes]:
        senders = list(dict.fromkeys(t.sender for t in transactions))
        self._fund([s for s in senders if s not in self._funded])
        nonces = {sender: self.nonce(sender) for sender in senders}
        calls = []
        for item in transactions:
            calls.append(("eth_sendTransaction", (_request(item, nonces[item.sender]),)))
            nonces[item.sender] += 1
        return [bytes.fromhex(h[2:]) for h in self.rpc.batch(calls)]

    def _settle(
        self, transactions: Sequence[Transaction], hashes: Sequence[bytes], check: bool
    ) -> list[Mined]:
        receipts = self._receipts(hashes)
        waits = 0
        while any(receipt is None for receipt in receipts):
            if self._automine:
                time.sleep(0.002)
            else:
                self.rpc("evm_mine")
            before = receipts.count(None)
            receipts = self._receipts(hashes)
            waits = waits + 1 if receipts.count(None) == before else 0
            if waits > (5_000 if self._automine else 3):
                raise KeeperError(f"{before} transactions are not being mined")
        mined = [_mined(receipt) for receipt in receipts]
        for transaction, result in zip(transactions, mined, strict=True):
            if check and not result.ok:
                raise self._explain(transaction, result)
        return mined

    def _receipts(self, hashes: Sequence[bytes]) -> list[Any]:
        return self.rpc.batch([("eth_getTransactionReceipt", (_hex(h),)) for h in hashes])

    def _explain(self, transaction: Transaction, result: Mined) -> RevertedError:
        what = f"0x{transaction.data[:4].hex()} to {_hex(transaction.to or b'')}"
        request = _request(transaction, None)
        try:
            self.rpc("eth_call", request, hex(result.block - 1))
        except RpcError as error:
            return RevertedError(what, error.message, error.data)
        return RevertedError(what, f"{result.gas_used} of {transaction.gas} gas used", None)

    def _fund(self, senders: Sequence[bytes]) -> None:
        balances = self.rpc.batch([("eth_getBalance", (_hex(s), "latest")) for s in senders])
        for sender, balance in zip(senders, balances, strict=True):
            if int(balance, 16) < 10**21:
                self.rpc("anvil_setBalance", _hex(sender), hex(_ALLOWANCE))
            self._funded.add(sender)


def _request(item: Transaction, nonce: int | None) -> dict[str, str]:
    request = {"from": _hex(item.sender), "data": _hex(item.data), "gas": hex(item.gas)}
    if item.to is not None:
        request["to"] = _hex(item.to)
    if item.value:
        request["value"] = hex(item.value)
    if nonce is not None:
        request["nonce"] = hex(nonce)
        request["maxFeePerGas"] = hex(item.max_fee)
        request["maxPriorityFeePerGas"] = hex(item.tip)
    return request


def _mined(receipt: dict[str, Any]) -> Mined:
    return Mined(
        hash=bytes.fromhex(receipt["transactionHash"][2:]),
        block=int(receipt["blockNumber"], 16),
        index=int(receipt["transactionIndex"], 16),
        ok=receipt["status"] == "0x1",
        gas_used=int(receipt["gasUsed"], 16),
        logs=tuple(receipt["logs"]),
    )


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
