"""What a replay came to under one setting, gathered head by head."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from keeper.app.settling import Taking
from keeper.engine import Key, Report
from keeper.tape.once import Once
from keeper.tape.records import Liquidation
from keeper.types import Dropped, Included, Plan, Reason, Receipt, Reverted, Skip
from keeper.units import Usd

HELD_BACK = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN})
"""Reasons that say nothing of a position but that it was taken before."""
NOT_AT_RISK = "it was not at risk at the head before"
NOT_DECIDED = "the head before was not decided on"


@dataclass(frozen=True, slots=True)
class Missed:
    """A liquidation by somebody that a setting did not have, and why not at the head before."""

    liquidation: Liquidation
    why: str
    is_ours: bool


@dataclass(slots=True)
class Outcome:
    """The sums of one setting; dollars have 8 decimals."""

    name: str
    heads: int = 0
    undecided: int = 0
    plans: int = 0
    failed: int = 0
    dropped: int = 0
    open: int = 0
    revenue_usd: int = 0
    gas_usd: int = 0
    tip_usd: int = 0
    by_record: int = 0
    at_risk: set[Key] = field(default_factory=set)
    taken: dict[Key, list[Taking]] = field(default_factory=dict)
    missed: list[Missed] = field(default_factory=list)
    matched: int = 0
    faults: list[str] = field(default_factory=list)
    digests: list[tuple[int, bytes]] = field(default_factory=list)
    planned_at: list[int] = field(default_factory=list)
    _last: dict[Key, tuple[int, str, Reason]] = field(default_factory=dict)
    _decided: set[int] = field(default_factory=set)
    _lost: dict[Key, tuple[int, str]] = field(default_factory=dict)
    _sent: dict[str, Plan] = field(default_factory=dict)
    _once: Once = field(default_factory=Once)

    @property
    def net_usd(self) -> Usd:
        """Return what was left after gas and tips."""
        return Usd(self.revenue_usd - self.gas_usd - self.tip_usd)

    @property
    def items(self) -> int:
        """Return how many liquidations were taken."""
        return sum(map(len, self.taken.values()))

    @property
    def contested(self) -> tuple[int, Usd]:
        """Return how many of them a rival who paid less wanted in the same block, and their net."""
        found = [each for takings in self.taken.values() for each in takings if each.contested]
        return len(found), Usd(sum(each.net_usd for each in found))

    def skipped(self) -> Counter[str]:
        """Count the positions never taken by the last reason given for each."""
        return Counter(
            str(reason) for key, (_, _, reason) in self._last.items() if key not in self.taken
        )

    def decide(self, report: Report) -> None:
        """Take what one head came to."""
        head = report.view.head
        self.heads += 1
        self._decided.add(head.number)
        self.plans += len(report.sent)
        if report.sent:
            self.planned_at.append(head.number)
        self.digests.append((head.number, digest(report)))
        self.at_risk.update(risk.position.key for risk in report.view.at_risk)
        for skip in report.skips:
            if skip.reason not in HELD_BACK:
                key = (skip.market, skip.borrower)
                self._last[key] = (head.number, _told(skip), skip.reason)
        self._sent.update({plan.id: plan for plan in report.sent})
        for receipt in report.receipts:
            self._book(receipt)

    def miss_head(self, number: int, why: str) -> None:
        """Take that a head was not decided on."""
        self.undecided += 1
        self.digests.append((number, blake2b(why.encode(), digest_size=16).digest()))

    def compare(self, liquidations: Sequence[Liquidation], contract: bytes) -> None:
        """Take what the chain's own history liquidated in some blocks of one branch, in order."""
        for each in self._once.new(liquidations):
            key = (each.market, each.borrower)
            if any(taking.block <= each.block_number for taking in self.taken.get(key, ())):
                self.matched += 1
            else:
                self.missed.append(Missed(each, self._why(key, each), each.to == contract))

    def _why(self, key: Key, found: Liquidation) -> str:
        block, lost = self._lost.get(key, (-1, ""))
        if block == found.block_number:
            return lost
        number, told, _ = self._last.get(key, (-1, "", None))
        if number == found.block_number - 1:
            return told
        return NOT_AT_RISK if found.block_number - 1 in self._decided else NOT_DECIDED

    def _book(self, receipt: Receipt) -> None:
        plan = self._sent.pop(receipt.plan_id, None)
        match receipt:
            case Included():
                self.revenue_usd += receipt.revenue_usd
                self.gas_usd += receipt.gas_cost_usd
                self.tip_usd += receipt.tip_usd
                for item in receipt.items:
                    if not item.ok:
                        self.failed += 1
                        self._lost[item.market, item.borrower] = (receipt.block_number, item.reason)
            case Reverted():
                self.gas_usd += receipt.gas_cost_usd
                self.failed += 1
                self._lose(plan, receipt.reason)
            case Dropped():
                self.dropped += 1
                self._lose(plan, receipt.reason)
            case _:
                raise AssertionError(f"a local settlement ends no plan as {type(receipt).__name__}")

    def _lose(self, plan: Plan | None, reason: str) -> None:
        if plan is not None:  # sent at a head that was decided on to the end
            for quote in plan.quotes:
                self._lost[quote.opportunity.key] = (plan.head.number + 1, reason)


def digest(report: Report) -> bytes:
    """Return what tells two decisions apart: what was chosen, bid, sent and skipped, and why."""
    hashed = blake2b(report.view.head.hash, digest_size=16)
    for choice in report.choices:
        pairs = [(p.debt.address, p.collateral.address) for p in choice.opportunity.pairs]
        hashed.update(repr((choice.opportunity.key, pairs, choice.limits)).encode())
    for quote, bid in report.bids:
        hashed.update(repr((quote.opportunity.key, quote.net, quote.net_usd, bid)).encode())
    for plan in report.sent:
        hashed.update(plan.calldata)
    for skip in report.skips:
        hashed.update(repr(skip).encode())
    return hashed.digest()


def _told(skip: Skip) -> str:
    return f"{skip.reason}: {skip.detail}" if skip.detail else str(skip.reason)
