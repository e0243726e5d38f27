"""Where a replay's plans end: settled locally, on what the tape holds of the block after their head.

Nothing is simulated or sent. A plan counts as first in the next block: its amounts are planning's own
integers, which are what the contracts do on the head's state. An item fails there when the position
is healthy at the second the block was really made, or when somebody who paid no less for the gas
liquidated it in that block. Gas is what the chain says when that block holds this very liquidation by
this contract, and planning's estimate otherwise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from keeper.book.book import Book
from keeper.engine import Key
from keeper.execution.pricing import gain_usd_down, native_usd_up, plan_prices
from keeper.planning.fitting import sum_loans
from keeper.ports import Admission, account_of
from keeper.tape.once import Once
from keeper.tape.records import Liquidation
from keeper.types import (
    Dropped,
    Head,
    Included,
    ItemOutcome,
    NextBlock,
    Plan,
    Quote,
    Receipt,
    Reverted,
    Skip,
    View,
)
from keeper.units import WAD, Address, Hash, Usd, Wei

HEALTHY = "healthy at the second the block was made"
RIVAL = "a rival who paid no less was first in the block"


@dataclass(slots=True)
class Waiting:
    """A plan, the block after its head once that came, and the items healthy at its second."""

    plan: Plan
    block: Head | None = None
    healthy: frozenset[int] = frozenset()
    is_undone: bool = False


@dataclass(slots=True)
class Taking:
    """A position taken: in which block, for how much, and whether a rival wanted it in that block."""

    block: int
    net_usd: Usd
    contested: bool


@dataclass(slots=True)
class LocalSettlement:
    """Admit plans, settle them in the next block, and hold back what was taken.

    A position taken stays held back until the chain's own liquidations repaid as much of it: on the
    tape it goes on as if nobody had touched it.
    """

    contract: Address
    book: Book
    risk: Admission
    waiting: list[Waiting] = field(default_factory=list)
    taken: dict[Key, list[Taking]] = field(default_factory=dict)
    by_record: int = 0
    _masks: dict[Key, Counter[Address]] = field(default_factory=dict)
    _history: list[Liquidation] = field(default_factory=list)
    _once: Once = field(default_factory=Once)

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans with the prices receipts are valued by; nothing is simulated."""
        return [replace(plan, prices=plan_prices(plan, view)) for plan in plans], []

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Return all plans: limits are asked when they are sent."""
        return list(plans), []

    async def send(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Take the plans that limits and breakers admit, and say why not the others."""
        sent, skips = [], []
        for plan in plans:
            refusal = self.risk.admit(plan)
            if refusal is None:
                self.waiting.append(Waiting(plan))
                sent.append(plan)
            else:
                skips += [_as_of(refusal, quote) for quote in plan.quotes]
        return sent, skips

    def in_flight(self) -> frozenset[Key]:
        """Return the positions of plans that are not settled yet."""
        return frozenset(
            quote.opportunity.key for each in self.waiting for quote in each.plan.quotes
        )

    def cooling(self, head: Head) -> frozenset[Key]:
        """Return the positions taken here that the chain's own liquidations have not closed yet."""
        del head
        return frozenset(self._masks)

    def coming(self, head: Head) -> None:
        """Learn of the block after the book's head, before it is folded: who is healthy by then."""
        next_block = NextBlock(head.number, head.timestamp, head.base_fee)
        # what stands at its number or above is of a branch that is no more
        self._history = [each for each in self._history if each.block_number < head.number]
        for each in self.waiting:
            if each.block is not None:
                continue
            if each.plan.head.hash != head.parent:
                each.is_undone = True
                continue
            each.block = head
            each.healthy = frozenset(
                index
                for index, quote in enumerate(each.plan.quotes)
                if self._is_healthy(quote, next_block)
            )

    def learn(self, liquidations: Sequence[Liquidation]) -> None:
        """Learn who was liquidated in the last block; what is closed so is held back no more."""
        self._history += liquidations
        for each in self._once.new(liquidations):
            self._close(each)

    async def follow(self, head: Head) -> list[Receipt]:
        """Return how plans ended by this head."""
        receipts: list[Receipt] = []
        left = []
        for each in self.waiting:
            if each.is_undone:
                receipts.append(Dropped(each.plan.id, None, "its head was reorganised out"))
            elif each.block is None:
                left.append(each)
            else:
                receipts.append(self._settled(each, each.block))
        self.waiting = left
        for receipt in receipts:
            self.risk.settle(receipt)
        self._history = [each for each in self._history if each.block_number >= head.number]
        return receipts

    def _is_healthy(self, quote: Quote, at: NextBlock) -> bool:
        position = quote.opportunity.position
        market = self.book.markets[position.home]
        now = market.protocol.position(account_of(market.protocol, position), market.prices, at)
        return now is None or now.health >= WAD

    def _settled(self, waiting: Waiting, block: Head) -> Receipt:
        plan = waiting.plan
        if plan.bid.max_fee < block.base_fee:
            return Dropped(plan.id, None, "the base fee was above its maximum")
        price = plan.fees.price(block.base_fee)
        seen = [each for each in self._history if each.block_number == block.number]
        lost = dict.fromkeys(self._lost(plan, seen, price), RIVAL)
        failed = {**dict.fromkeys(waiting.healthy, HEALTHY), **lost}
        tx_hash = Hash(blake2b(plan.head.hash + plan.calldata, digest_size=32).digest())
        held = [index for index in range(len(plan.quotes)) if index not in failed]
        gas_used = self._gas_used(plan, held, seen)
        gas_usd = native_usd_up(plan, gas_used * price + plan.data_fee)
        if not held:
            return Reverted(
                plan.id,
                tx_hash,
                block.number,
                gas_used,
                price,
                next(iter(failed.values())),
                gas_usd,
                plan.data_fee,
            )
        gains = gains_of([plan.quotes[index] for index in held])
        tip_wei = sum(plan.tips[index] for index in held) if plan.tips else 0
        revenue, _ = gain_usd_down(plan, gains)
        tip = native_usd_up(plan, tip_wei)
        for index in held:
            self._take(plan.quotes[index], block, seen)
        return Included(
            plan_id=plan.id,
            tx_hash=tx_hash,
            block_number=block.number,
            block_hash=block.hash,
            timestamp=block.timestamp,
            gas_used=gas_used,
            gas_price=price,
            gains=dict(gains),
            items=tuple(
                ItemOutcome.of(
                    quote,
                    index in held,
                    gain_of(quote) if index in held else 0,
                    failed.get(index, ""),
                )
                for index, quote in enumerate(plan.quotes)
            ),
            revenue_usd=revenue,
            gas_cost_usd=gas_usd,
            tip_usd=tip,
            net_usd=Usd(revenue - gas_usd - tip),
            data_fee=plan.data_fee,
        )

    def _lost(self, plan: Plan, seen: Sequence[Liquidation], price: Wei) -> list[int]:
        """Return the items that others, paying no less for gas, liquidated in the same block."""
        rivals = {
            (each.market, each.borrower)
            for each in seen
            if each.to != self.contract and each.gas_price >= price
        }
        return [i for i, quote in enumerate(plan.quotes) if quote.opportunity.key in rivals]

    def _gas_used(self, plan: Plan, held: Sequence[int], seen: Sequence[Liquidation]) -> int:
        """Return what the same liquidations by this contract used, or the estimate."""
        steps = [
            (plan.quotes[index].opportunity.key, step)
            for index in held
            for step in plan.quotes[index].steps
        ]
        wanted = Counter(
            (key, s.terms.debt.address, s.terms.collateral.address) for key, s in steps
        )
        repaid = sum(step.seizure.repaid for _, step in steps)
        for tx_hash in sorted({each.tx_hash for each in seen if each.to == self.contract}):
            ours = [each for each in seen if each.tx_hash == tx_hash]
            found = Counter(((e.market, e.borrower), e.debt, e.collateral) for e in ours)
            if found == wanted and sum(each.repaid for each in ours) == repaid:
                self.by_record += 1
                return ours[0].gas_used
        return plan.gas

    def _take(self, quote: Quote, block: Head, seen: Sequence[Liquidation]) -> None:
        key = quote.opportunity.key
        contested = any(
            (each.market, each.borrower) == key and each.to != self.contract for each in seen
        )
        self.taken.setdefault(key, []).append(Taking(block.number, quote.net_usd, contested))
        mask = self._masks.setdefault(key, Counter())
        for step in quote.steps:
            mask[step.terms.debt.address] += step.seizure.repaid
        for each in self._history:
            if each.block_number >= block.number and (each.market, each.borrower) == key:
                self._close(each)

    def _close(self, found: Liquidation) -> None:
        key = (found.market, found.borrower)
        mask = self._masks.get(key)
        if mask is None:
            return
        mask[found.debt] -= found.repaid
        if all(amount <= 0 for amount in mask.values()):
            del self._masks[key]


def gain_of(quote: Quote) -> int:
    """Return what a quote brings in its debt token, before gas."""
    return quote.proceeds - quote.repaid - quote.premium


def gains_of(quotes: Sequence[Quote]) -> Counter[Address]:
    """Return what quotes of one plan bring by debt token: each lender rounds its premium up once."""
    gains: Counter[Address] = Counter()
    for quote in quotes:
        gains[quote.debt.address] += quote.proceeds - quote.repaid
    for source, amount in sum_loans([list(quotes)]).items():
        gains[source.token] -= source.premium_up(amount)
    return gains


def _as_of(refusal: Skip, quote: Quote) -> Skip:
    position = quote.opportunity.position
    return Skip(
        position.market,
        position.protocol,
        position.borrower,
        refusal.reason,
        refusal.detail,
        quote.opportunity.strategy,
    )
