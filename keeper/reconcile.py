"""Every liquidation on the chain, ours or not: who had it, at what price, and what we had decided.

Logs are noticed as they are folded; who sent them and what was paid comes from receipts, asked beside
the line and only for blocks that hold a liquidation.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from keeper.chain import bloom, raw_logs
from keeper.chain.jsonrpc import LimitedError
from keeper.chain.parse import blob, quantity
from keeper.chain.patience import Patience
from keeper.engine import Report
from keeper.errors import KeeperError, TransientError
from keeper.journal.liquidations import OURS, LiquidationRow
from keeper.metrics import CATCHING_UP, LATE, NOT_RUNNING, OTHER, STOPPED, UNSEEN
from keeper.ports import Clock, Follower, LendingProtocol, Placing, Rpc, Telling
from keeper.types import Head, Log, Prices, Token, Watch
from keeper.units import Address, Hash, to_hex

log = structlog.get_logger(__name__)

_REMEMBERED = 256
"""Blocks undone lately, which no receipt on its way is to bring back."""
READS = 4
"""Receipts asked for at once: whoever decides needs the endpoint more."""
FRESH_HEADS = 5
"""Heads without a decision after which the last one is no reason any more."""
VERIFIED_BLOCKS = 64
"""Blocks on record that are looked up at a start and after a deep reorg, as long as some were undone."""
Key = tuple[str, Address]


@dataclass(frozen=True, slots=True)
class Noticed:
    """A liquidation as its log tells it, when we saw the block, and why its market was stopped, if so.

    `place` is the position's market: which of those that a protocol has in one where it has many.
    """

    head: Head
    seen: float
    market: str
    place: str
    log: Log
    borrower: Address
    debt: Address
    collateral: Address
    repaid: int
    seized: int
    liquidator: Address
    stopped: str = ""

    @property
    def key(self) -> Key:
        """Identify the position on its chain."""
        return self.place, self.borrower


class Keep(Protocol):
    """Keeps what was reconciled, and takes it back."""

    async def add(self, rows: Sequence[LiquidationRow]) -> list[LiquidationRow]:
        """Record liquidations and return those that are new; one on record keeps what was known then."""
        ...

    async def orphan(self, chain: str, block: Hash) -> None:
        """Record that a reorg undid a block."""
        ...

    async def recent(self, chain: str, blocks: int) -> list[tuple[int, Hash]]:
        """Return number and hash of the last blocks with liquidations on record."""
        ...


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was decided at a head, by position; no head before the first decision."""

    head: int | None
    reasons: Mapping[Key, tuple[str, str]]

    def on(self, noticed: Noticed, now: int) -> tuple[str, str]:
        """Return why a liquidation in a later block was not ours, and what to say of it."""
        block = noticed.head.number
        if self.head is None:
            return NOT_RUNNING, f"{now - block} heads before the first decision since the start"
        known, passed = self.reasons.get(noticed.key), block - self.head - 1
        if passed <= 0 or (known is not None and passed <= FRESH_HEADS):
            return known or ((STOPPED, noticed.stopped) if noticed.stopped else (UNSEEN, ""))
        if noticed.stopped:
            return STOPPED, noticed.stopped
        last = "" if known is None else f", which was {known[0]}"
        return CATCHING_UP, f"{passed} heads passed since the last decision{last}"


class Noting:
    """A follower that shows its blocks to a reconciler as it folds them."""

    def __init__(self, follower: Follower, reconciler: "Reconciler") -> None:
        self._follower = follower
        self._reconciler = reconciler

    @property
    def head(self) -> Head | None:
        """Return the last folded head, None before bootstrap."""
        return self._follower.head

    def watch(self) -> Watch:
        """Return everything to watch now, and what tells of liquidations in markets that are stopped."""
        return self._reconciler.widened(self._follower.watch())

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Fold a block, then look for liquidations in it."""
        self._follower.fold(head, logs)
        self._reconciler.folded(head, logs)

    def undo(self) -> None:
        """Take the last folded block back, and its liquidations."""
        head = self._follower.head
        self._follower.undo()
        if head is not None:
            self._reconciler.undone(head)


class Reconciler:
    """Judge each liquidation by what was decided at the head before it."""

    def __init__(
        self,
        chain: str,
        markets: Mapping[str, LendingProtocol],
        contract: Address | None,
        rivals: Mapping[Address, str],
        rpc: Rpc,
        keep: Keep,
        clock: Clock,
        missed: Callable[[str, str, str], None],
        stopped: Callable[[], Mapping[str, str]] = dict,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chain = chain
        self._telling = [
            (name, each) for name, each in markets.items() if isinstance(each, Telling)
        ]
        self._protocols = {name: each.protocol for name, each in markets.items()}
        self._tokens = {name: each.tokens for name, each in markets.items()}
        self._contract = contract
        self._rivals = rivals
        self._rpc = rpc
        self._keep = keep
        self._clock = clock
        self._missed = missed
        self._stopped = stopped
        self._sleep = sleep
        self._closing = asyncio.Event()
        self._noticed: list[Noticed] = []
        self._verdicts = Verdicts(None, {})
        self._reading = asyncio.Semaphore(READS)
        self._work: set[asyncio.Task[None]] = set()
        self._undone: deque[Hash] = deque(maxlen=_REMEMBERED)

    def widened(self, watch: Watch) -> Watch:
        """Return a watch with what tells of liquidations in stopped markets: they go on there."""
        stopped = self._stopped()
        for market, protocol in self._telling if stopped else ():
            if f"market/{market}" in stopped:
                watch = bloom.union(watch, protocol.liquidation_logs())
        return watch

    def folded(self, head: Head, logs: Sequence[Log]) -> None:
        """Notice the liquidations of a block."""
        stopped = self._stopped() if logs else {}
        if head.hash in self._undone:
            self._undone.remove(head.hash)  # the chain came back to it
        topics = [protocol.liquidation_logs().topics for _, protocol in self._telling]
        for each in raw_logs.having(logs, frozenset().union(*topics)):
            for market, protocol in self._telling:
                try:
                    told = protocol.liquidation(each)
                    if told is None:
                        continue
                    place = protocol.place_told(each) if isinstance(protocol, Placing) else market
                except Exception as error:
                    # A record is no reason to stop a chain; the ledger has judged the log already.
                    log.exception("liquidation.undecodable", chain=self._chain, error=str(error))
                    continue
                seen = self._clock.time()
                why = stopped.get(f"market/{market}", "")
                self._noticed.append(Noticed(head, seen, market, place, each, *told, why))

    def undone(self, head: Head) -> None:
        """Take back what a block held."""
        self._noticed = [each for each in self._noticed if each.head.hash != head.hash]
        self._undone.append(head.hash)
        self._start(self._orphan(head))

    def observe(self, subject: object) -> None:
        """Judge what was noticed since the last report, then learn what is decided now."""
        if not isinstance(subject, Report):
            return
        # A later block may be folded before this head's report: that is its reason.
        now = subject.view.head.number
        noticed = [each for each in self._noticed if each.head.number <= now]
        self._noticed = [each for each in self._noticed if each.head.number > now]
        if noticed:
            told = [(each, self._verdicts.on(each, now)) for each in noticed]
            self._start(self._settle(told, subject.view.prices))
        verdicts = {
            (skip.market, skip.borrower): (str(skip.reason), skip.detail)
            for skip in reversed(subject.skips)
        }
        for plan in subject.sent:
            verdicts |= {quote.opportunity.key: (LATE, plan.id) for quote in plan.quotes}
        # What is still out has a skip that says so; it names no plan.
        reasons = {
            key: (LATE if reason == "in_flight" else reason, detail)
            for key, (reason, detail) in verdicts.items()
        }
        self._verdicts = Verdicts(now, reasons)

    def verify(self) -> None:
        """Begin to compare the last blocks on record with the chain; a reorg may have undone some."""
        self._start(self._verify())

    async def close(self) -> None:
        """Wait for what is being recorded; receipts that are not there yet are asked for once more."""
        self._closing.set()
        while self._work:
            await asyncio.gather(*self._work)
        self._closing.clear()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _orphan(self, head: Head) -> None:
        try:
            await self._keep.orphan(self._chain, head.hash)
        except KeeperError as error:
            log.exception("liquidations.not_recorded", chain=self._chain, error=str(error))

    async def _verify(self) -> None:
        try:
            while await self._verify_last():
                pass
        except KeeperError as error:
            log.warning("liquidations.not_verified", chain=self._chain, error=str(error))

    async def _verify_last(self) -> bool:
        """Compare the last blocks on record with the chain; say whether any of them was undone."""
        were_undone = False
        for number, block in await self._keep.recent(self._chain, VERIFIED_BLOCKS):
            found = await self._ask("eth_getBlockByNumber", [hex(number), False])
            if found is not None and blob(found["hash"]) != block:
                await self._keep.orphan(self._chain, block)
                were_undone = True
        return were_undone

    async def _ask(self, method: str, params: Sequence[object]) -> Mapping[str, Any] | None:
        async with self._reading:
            found: Mapping[str, Any] | None = await self._rpc.request(method, params)
            return found

    async def _settle(
        self, told: Sequence[tuple[Noticed, tuple[str, str]]], prices: Mapping[str, Prices]
    ) -> None:
        """Record what was noticed, of each transaction as soon as its receipt is there."""
        patience = Patience(monotonic=self._clock.monotonic, sleep=self._pause)
        by_transaction: dict[Hash, list[tuple[Noticed, tuple[str, str]]]] = {}
        for each, why in told:
            by_transaction.setdefault(each.log.tx_hash, []).append((each, why))
        await asyncio.gather(
            *(self._record(tx, those, prices, patience) for tx, those in by_transaction.items())
        )

    async def _record(
        self,
        tx: Hash,
        told: Sequence[tuple[Noticed, tuple[str, str]]],
        prices: Mapping[str, Prices],
        patience: Patience,
    ) -> None:
        about = {"chain": self._chain, "tx": to_hex(tx)}
        try:
            receipt = await self._receipt(tx, {each.head.hash for each, _ in told}, patience)
        except TransientError as error:
            log.warning("liquidation.no_receipt", **about, error=str(error))
            return
        if receipt is None:
            return
        rows = []
        for each, why in told:
            try:
                # A reorg may have put the transaction into another block meanwhile.
                if blob(receipt["blockHash"]) == each.head.hash not in self._undone:
                    rows.append(self._judge(each, receipt, why, prices.get(each.market)))
            except Exception as error:
                # What one node leaves out of one receipt is no reason to lose the others.
                log.exception("liquidation.not_recorded", **about, error=repr(error))
        try:
            new = await self._keep.add(rows) if rows else []
        except KeeperError as error:
            log.exception("liquidations.not_recorded", **about, error=str(error))
            return
        for row in new:
            if not row.is_ours:
                self._missed(row.protocol, row.reason, row.winner)

    async def _receipt(
        self, tx: Hash, blocks: AbstractSet[Hash], patience: Patience
    ) -> Mapping[str, Any] | None:
        """Return a receipt, None when its block was undone meanwhile; raise the last fault."""
        while not blocks <= set(self._undone):
            was_closing = self._closing.is_set()
            try:
                found = await self._ask("eth_getTransactionReceipt", [to_hex(tx)])
            except LimitedError as error:
                fault: TransientError = error
            except KeeperError as error:
                fault = TransientError(str(error))
            else:
                if found is not None:
                    patience.renew()
                    return found
                fault = TransientError("the node does not know the receipt yet")
            if was_closing:
                raise fault
            await patience.bear(fault)
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until this is closed."""
        waits = [
            asyncio.ensure_future(self._sleep(seconds)),
            asyncio.ensure_future(self._closing.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _judge(
        self,
        noticed: Noticed,
        receipt: Mapping[str, Any],
        why: tuple[str, str],
        prices: Prices | None,
    ) -> LiquidationRow:
        """Return a row: `reason` is ours, or why the liquidation was not."""
        sender, to = Address(blob(receipt["from"])), Address(blob(receipt["to"] or "0x"))
        gas_used = quantity(receipt["gasUsed"])
        gas_price = quantity(receipt["effectiveGasPrice"])
        liquidator = noticed.liquidator
        is_ours = self._contract is not None and self._contract in {to, liquidator}
        reason, detail = (OURS, "") if is_ours else why
        known = (self._rivals[each] for each in (liquidator, to, sender) if each in self._rivals)
        tokens, head = self._tokens[noticed.market](), noticed.head
        return LiquidationRow(
            chain=self._chain,
            block_hash=to_hex(head.hash),
            log_index=noticed.log.index,
            block_number=head.number,
            block_time=head.timestamp,
            seen=noticed.seen,
            hash=to_hex(noticed.log.tx_hash),
            transaction_index=quantity(receipt["transactionIndex"]),
            market=noticed.place,
            protocol=self._protocols[noticed.market],
            borrower=to_hex(noticed.borrower),
            debt=to_hex(noticed.debt),
            collateral=to_hex(noticed.collateral),
            repaid=str(noticed.repaid),
            seized=str(noticed.seized),
            repaid_usd=_usd(prices, tokens.get(noticed.debt), noticed.repaid),
            seized_usd=_usd(prices, tokens.get(noticed.collateral), noticed.seized),
            liquidator=to_hex(liquidator),
            sender=to_hex(sender),
            called=to_hex(to),
            winner=OURS if is_ours else next(known, OTHER),
            gas_used=gas_used,
            gas_price=str(gas_price),
            tip=str(max(gas_price - head.base_fee, 0) * gas_used),
            reason=reason,
            detail=detail,
        )


def _usd(prices: Prices | None, token: Token | None, amount: int) -> str | None:
    """Return an amount's worth rounded down, None without a price."""
    price = None if prices is None or token is None else prices.get(token.address)
    if prices is None or token is None or price is None:
        return None
    return str(prices.usd(amount * price // 10**token.decimals))
