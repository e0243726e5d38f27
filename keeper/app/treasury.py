"""Send profit to the treasury when nothing else is to be done, and look after the operator's gas."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from keeper.app.conversion import Converter, Situation
from keeper.app.stock import Stock, read_ether, take_stock
from keeper.book.book import Book
from keeper.engine import Report
from keeper.errors import InvariantError, RpcError, TransientError
from keeper.execution.executor import Executor
from keeper.execution.gas import fees as choose_fees
from keeper.observers.observation import Event
from keeper.planning.owner_calls import encode_sweep
from keeper.planning.treasury import (
    LEAST_GAS,
    SWEEP_CALLDATA,
    Balance,
    beside_gas_up,
    is_worth,
    native,
    promising,
    sweep_plan,
    total_usd_down,
    usd_prices,
)
from keeper.ports import Clock, Reader, Rpc
from keeper.types import Fees, Head, Plan, Reverted, Skip, View
from keeper.units import WAD, ZERO_ADDRESS, Address, Usd, Wei, to_hex

log = structlog.get_logger(__name__)

LOOK_HEADS = 25
"""Heads between two looks at the balances while no receipt changes them."""
PATIENCE_BLOCKS = 20
"""Block times after which a sweep that is not mined is taken back."""
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator fixes; amounts that are None switch a thing off."""

    contract: Address
    multicall: Address
    operator: Address
    priority_fee: Wei
    max_fee: Wei
    block_time: int
    sweep_above: Usd | None
    sweep_seconds: int
    gas_multiple: int
    refill_below: Wei | None
    refill_to: Wei
    warn_below: Wei


class Treasury:
    """Follow the reports of one live chain; nothing here delays a liquidation or ends the chain.

    A sweep is sent right after a head on which nothing was worth liquidating, with nothing in flight, one token
    at a time, so that it is mined before there is anything else to send. What a `converter` can sell
    is sold before, and also when the wallet a refill goes to wants gas that the sale brings. `idle` is set when
    it is done with the last report.

    Events: wallet.low, wallet.refilled, treasury.swept_all, treasury.refused, treasury.unread.
    """

    def __init__(
        self,
        chain: str,
        rules: Rules,
        reader: Reader,
        rpc: Rpc,
        book: Book,
        executor: Executor,
        clock: Clock,
        new_id: Callable[[], str],
        last_sweep: float,
        tell: Callable[[str, Mapping[str, object]], None],
        converter: Converter | None = None,
    ) -> None:
        self._chain = chain
        self._rules = rules
        self._reader = reader
        self._rpc = rpc
        self._book = book
        self._executor = executor
        self._clock = clock
        self._new_id = new_id
        self._last_sweep = last_sweep
        self._tell = tell
        self._converter = converter
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()
        self._report: Report | None = None
        self._looked = 0
        self._tried = 0
        self._converted = -LOOK_HEADS
        self._sale = self._sweep_id = ""
        self._stock: tuple[Head, Stock] | None = None
        self._payee = rules.operator, Wei(0)
        self._sweeping = False
        self._asked = False
        self._unread = self._mute = ""
        self._low: frozenset[Address] = frozenset()

    @property
    def balance(self) -> Wei | None:
        """Return the operator's gas as last read; None before that."""
        return None if self._stock is None else self._stock[1].operator

    @property
    def is_low(self) -> bool:
        """Whether some wallet's gas was under the level to warn of when last read."""
        return bool(self._low)

    def is_too_low(self, wallet: Address, balance: Wei) -> bool:
        """Whether a wallet's gas is under the level to warn of, by a balance or as last read."""
        return balance < self._rules.warn_below or wallet in self._low

    def observe(self, subject: Report | Event) -> None:
        """Take a report; what a transaction changed is looked at anew, what failed not at once."""
        if isinstance(subject, Report):
            self._report = subject
            self.idle.clear()
            self._wake.set()
            return
        match subject.fields.get("receipt"):
            case Reverted() as receipt if receipt.plan_id == self._sale:
                self._converted = receipt.block_number
            case Reverted() as receipt if receipt.plan_id == self._sweep_id:
                self._tried = receipt.block_number

    def ask(self) -> None:
        """Sweep as soon as nothing else is to be done, whatever the hour and the total."""
        self._asked = True

    def refill(self) -> Wei:
        """Return what a plan made now may ask for: up to the level, within the owner's cap of the day.

        Nothing while a transaction is in flight, or when one ended since the last look: it may have
        brought a refill itself. Nothing either when it would go to a wallet that was not looked at.
        """
        below = self._rules.refill_below
        if below is None or self._stock is None or self._executor.pending:
            return Wei(0)
        (head, stock), (payee, held) = self._stock, self._payee
        if head.number < self._executor.changed or payee != self._payable() or held >= below:
            return Wei(0)
        seen = self._book.head or head
        left = stock.refillable(seen.timestamp + self._rules.block_time)
        return Wei(min(self._rules.refill_to - held, left))

    def _payable(self) -> Address:
        """Return the wallet a refill would go to now."""
        return self._executor.payee or self._rules.operator

    async def run(self) -> None:
        """Look after every report until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._report is None:
                continue
            try:
                await self._look(self._report)
            except InvariantError:
                raise
            except TransientError as error:
                if str(error) != self._unread:
                    self._unread = str(error)
                    self._tell("treasury.unread", {"error": str(error)})
            except Exception as error:
                log.exception("treasury.failed", chain=self._chain, error=str(error))
            else:
                self._unread = ""
            if not self._wake.is_set():
                self.idle.set()

    async def _look(self, report: Report) -> None:
        head = report.view.head
        if (
            self._stock is None
            or self._asked
            or self._looked < self._executor.changed
            or self._payee[0] != self._payable()
            or head.number - self._looked >= LOOK_HEADS
        ):
            await self._take(report.view)
        if not self._is_quiet(report):
            return
        if self._may_convert(head) and await self._convert(report.view):
            return
        if self._is_due(head):
            await self._sweep(report.view)

    async def _take(self, view: View) -> Stock:
        rules, head = self._rules, view.head
        operator = self._executor.poorest or rules.operator
        tokens = tuple(view.tokens.values())
        prices = usd_prices(view.prices.values(), (native(), *tokens), view.native.address)
        stock = await take_stock(
            self._reader,
            rules.contract,
            rules.multicall,
            operator,
            tokens,
            prices,
            head.timestamp,
            head.hash,
        )
        mute = ", ".join(f"{token.symbol} ({to_hex(token.address)})" for token in stock.unread)
        if mute != self._mute:
            self._mute = mute
            if mute:
                self._tell("treasury.unread", {"error": f"no balance was told by {mute}"})
        payee = self._payable()
        wallets = dict.fromkeys((payee, *(lane.address for lane in self._executor.lanes)))
        others = [wallet for wallet in wallets if wallet != operator]
        held = {operator: stock.operator}
        if others:
            held |= await read_ether(self._reader, rules.multicall, others, head.hash)
        self._stock, self._looked, self._payee = (head, stock), head.number, (payee, held[payee])
        self._warn(held)
        return stock

    def _warn(self, held: Mapping[Address, Wei]) -> None:
        """Tell of each wallet that is low now and was not, or was and is not any more."""
        warn_below = self._rules.warn_below
        low = frozenset(wallet for wallet, ether in held.items() if ether < warn_below)
        for wallet, ether in held.items():
            if (wallet in low) is (wallet in self._low):
                continue
            fields = {"wallet": to_hex(wallet), "ether": round(ether / WAD, 6)}
            if wallet in low:
                self._tell("wallet.low", fields | {"warn_below_ether": warn_below / WAD})
            else:
                self._tell("wallet.refilled", fields)
        self._low = low

    def _is_due(self, head: Head) -> bool:
        if self._stock is None or head.number - self._tried < LOOK_HEADS:
            return False
        if self._asked or self._sweeping:
            return True
        above = self._rules.sweep_above
        return (
            above is not None
            and self._clock.time() - self._last_sweep >= self._rules.sweep_seconds
            and total_usd_down(self._stock[1].balances) >= above
        )

    def _is_quiet(self, report: Report) -> bool:
        """Whether nothing was worth liquidating, nothing is on its way, and there is no newer head.

        Positions too small to pay for their gas are at risk for years.
        """
        busy = report.plans or report.sent or self._executor.pending
        return not busy and self._book.head == report.view.head

    def _may_convert(self, head: Head) -> bool:
        """Whether to sell now: before a sweep, or for gas, and not when nothing was worth it lately."""
        if self._converter is None or head.number - self._converted < LOOK_HEADS:
            return False
        return self._is_due(head) or (self._converter.refills and self.refill() > 0)

    async def _convert(self, view: View) -> bool:
        """Sell the most valuable balance that is worth it; say whether there was one."""
        rules, converter = self._rules, self._converter
        fees = choose_fees(view.next_block.base_fee, rules.priority_fee, rules.max_fee)
        stock = await self._take(view)
        price = next(each.price for each in stock.balances if each.token.address == ZERO_ADDRESS)
        plan = None
        if converter is not None and fees is not None and price is not None:
            now = Situation(
                view.head,
                view.next_block,
                fees,
                price,
                self._executor.poorest or rules.operator,
                self.refill(),
                view.head.timestamp + PATIENCE_BLOCKS * rules.block_time,
                view.data_fee,
            )
            plan = await converter.plan(stock, now)
        if plan is None:
            self._converted = view.head.number
            return False
        if self._executor.pending or self._book.head != view.head:
            return True  # something came up meanwhile: the next quiet head will do
        self._sale = plan.id
        _, skips = await self._executor.send([plan])
        if skips:
            self._converted = view.head.number
            self._refused(plan, skips[0])
        return True

    def _refused(self, plan: Plan, skip: Skip) -> None:
        token = "" if plan.sweep is None else plan.sweep.token.symbol
        self._tell("treasury.refused", {"token": token, "reason": skip.detail})

    async def _sweep(self, view: View) -> None:
        """Send the most valuable token that is worth it; when none is left, the sweep is done."""
        rules = self._rules
        fees = choose_fees(view.next_block.base_fee, rules.priority_fee, rules.max_fee)
        stock = await self._take(view)
        price = next(each.price for each in stock.balances if each.token.address == ZERO_ADDRESS)
        if fees is None or price is None:
            self._tried = view.head.number
            return
        gas_price = fees.price(view.next_block.base_fee)
        worth = rules.gas_multiple, gas_price, price
        for balance in promising(stock.balances, *worth, _beside(view, LEAST_GAS)):
            gas = await self._estimate(balance)
            if gas and is_worth(balance, gas, *worth, _beside(view, gas)):
                await self._send(view, balance, gas, fees, price)
                return
        if self._sweeping:
            self._tell("treasury.swept_all", {"left_usd": _dollars(stock)})
            self._last_sweep = self._clock.time()
        else:
            self._tried = view.head.number
        self._sweeping = self._asked = False

    async def _estimate(self, balance: Balance) -> int:
        """Return the gas of a sweep, 0 when it would fail: a token may be paused or refuse us."""
        rules = self._rules
        request = {
            "from": to_hex(rules.operator),
            "to": to_hex(rules.contract),
            "data": to_hex(encode_sweep(balance.token.address)),
        }
        try:
            # one call whose failure is not silent, as a batch's would be
            return int(await self._rpc.request("eth_estimateGas", [request, "latest"]), 16)
        except RpcError as error:
            fields = {"token": balance.token.symbol, "reason": error.message}
            self._tell("treasury.refused", fields)
            return 0

    async def _send(self, view: View, balance: Balance, gas: int, fees: Fees, price: Usd) -> None:
        rules = self._rules
        if self._executor.pending or self._book.head != view.head:
            return  # something came up meanwhile: the next quiet head will do
        plan = sweep_plan(
            self._new_id(),
            self._chain,
            rules.contract,
            view.head,
            view.next_block,
            balance,
            gas,
            fees,
            price,
            view.head.timestamp + PATIENCE_BLOCKS * rules.block_time,
            _beside(view, gas),
        )
        self._sweep_id = plan.id
        sent, skips = await self._executor.send([plan])
        self._sweeping = bool(sent)
        if skips:
            self._tried = view.head.number
            self._refused(plan, skips[0])


def _beside(view: View, gas: int) -> Wei:
    """Return what a rollup takes beside the gas of a sweep."""
    return beside_gas_up(view.data_fee, SWEEP_CALLDATA, gas, view.next_block.base_fee)


def _dollars(stock: Stock) -> float:
    return round(total_usd_down(stock.balances) / 10**8, 2)
