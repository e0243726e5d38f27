"""The demo's figures, counted from what the keeper reported and what the chain shows."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eth_utils.address import to_checksum_address

from keeper.engine import Report
from keeper.observers.observation import Event
from keeper.types import Included, ItemOutcome, Plan, Quote, Reason, Reverted, Skip
from keeper.units import USD, Address, Usd

HELD = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN})


@dataclass(frozen=True, slots=True)
class Share:
    """What one wallet sent that was included, and how many it liquidated with that."""

    wallet: str
    transactions: int
    liquidations: int


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one protocol's borrowers; profit in dollars, after their share of the gas."""

    protocol: str
    market: str
    borrowers: int
    liquidatable: int
    liquidated: int
    skipped: int
    missed: int
    net_profit_usd: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What one JSON object at the end of the demo says; money in dollars, times in milliseconds."""

    borrowers: int
    liquidatable: int
    liquidated: int
    skipped: int
    missed: int
    rejected_sends: int
    reverted: int
    transactions: int
    mixed_transactions: int
    most_mixed: int
    net_profit_usd: float
    profit_is_held: bool
    ledger_agrees: bool
    estimate_error_bps: int
    gas_per_liquidation: int
    head_to_send_ms_p50: float
    head_to_send_ms_p95: float
    rpc_requests_per_quiet_head: float
    seconds: float
    lanes: tuple[Share, ...]
    protocols: tuple[Part, ...]

    @property
    def is_clean(self) -> bool:
        """Say whether nothing was missed, refused or reverted, and the profit is there and on record."""
        faults = self.rejected_sends or self.reverted or self.missed
        return not faults and self.profit_is_held and self.ledger_agrees

    def as_json(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """Adds up reports and events."""

    liquidated: set[bytes] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)
    refused: dict[bytes, Skip] = field(default_factory=dict)
    rejected_sends: int = 0
    reverted: int = 0
    transactions: int = 0
    mixed: int = 0
    most_mixed: int = 0
    liquidations: int = 0
    gas: int = 0
    gas_paid: int = 0
    gains: dict[Address, int] = field(default_factory=dict)
    net_usd: int = 0
    net_of: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    recent: Counter[str] = field(default_factory=Counter)
    worst_error_bps: int = 0
    head_to_send: list[float] = field(default_factory=list)
    sent_by: Counter[Address] = field(default_factory=Counter)
    won_by: Counter[Address] = field(default_factory=Counter)

    def take(self, subject: Report | Event) -> None:
        """Count one report or event."""
        if isinstance(subject, Report):
            self._take_report(subject)
        else:
            self._take_event(subject)

    def _take_report(self, report: Report) -> None:
        self.seen |= {risk.position.borrower for risk in report.view.at_risk}
        for skip in report.skips:
            if skip.reason not in HELD:
                self.refused[skip.borrower] = skip
        if report.head_to_send is not None:
            self.head_to_send.append(report.head_to_send)

    def _take_event(self, event: Event) -> None:
        receipt, plan = event.fields.get("receipt"), event.fields.get("plan")
        if event.name == "plan.refused":
            self.rejected_sends += 1
        match receipt:
            case Included():
                assert isinstance(plan, Plan)
                won = [item.borrower for item in receipt.items if item.ok]
                self.liquidated.update(won)
                self.liquidations += len(won)
                self.transactions += 1
                self.sent_by[plan.sender] += 1
                self.won_by[plan.sender] += len(won)
                self.gas += receipt.gas_used
                self.net_usd += receipt.net_usd
                self._take_parts(plan, receipt)
                error = event.fields.get("estimate_error_bps", 0)
                self.worst_error_bps = max(self.worst_error_bps, abs(int(str(error))))
            case Reverted():
                self.transactions += 1
                self.reverted += 1
                self.gas_paid += receipt.gas_paid
                self.net_usd -= receipt.gas_cost_usd
            case _:
                pass

    def _take_parts(self, plan: Plan, receipt: Included) -> None:
        """Share a transaction among the markets it took from: gains as booked, gas as planned."""
        self.gas_paid += receipt.gas_paid - receipt.refill
        for token, gain in receipt.gains.items():
            if total := self.gains.pop(token, 0) + gain:
                self.gains[token] = total
        if not plan.quotes:
            return  # it sold or swept what was there, and took from no market
        pairs = list(zip(plan.quotes, receipt.items, strict=True))
        won = Counter(_home(quote) for quote, item in pairs if item.ok)
        self.taken += won
        self.recent += won
        self.mixed += len(won) > 1
        self.most_mixed = max(self.most_mixed, len(won))
        shares = Counter({_home(quote): 0 for quote in plan.quotes})
        gas = sum(quote.gas for quote in plan.quotes)
        for quote, item in pairs:
            cost = receipt.gas_cost_usd * quote.gas // max(gas, 1)
            shares[_home(quote)] += _gain_usd(plan, quote, item) - cost
        # what came in other tokens than the debt's goes to the first, so that the parts add up
        shares[_home(plan.quotes[0])] += receipt.net_usd - shares.total()
        self.net_of.update(shares)

    def reasons(self, among: set[bytes]) -> Counter[str]:
        """Return how many of these borrowers nobody liquidated, by why."""
        return Counter(str(self.refused[who].reason) for who in self._skipped(among))

    def _skipped(self, among: set[bytes]) -> set[bytes]:
        return (self.refused.keys() & among) - self.liquidated

    def summary(
        self,
        markets: Mapping[str, tuple[str, int]],
        liquidatable: Mapping[str, set[bytes]],
        left: Sequence[tuple[str, bytes]],
        quiet_requests: float,
        seconds: float,
        wallets: Sequence[Address],
        *,
        profit_is_held: bool,
        ledger_agrees: bool,
    ) -> Summary:
        """Return the figures.

        `markets` say protocol and borrowers, `liquidatable` whom the contracts called that,
        `left` are those of them that are still there and worth it.
        """
        missed = Counter(market for market, _ in left)
        parts = tuple(
            Part(
                protocol=protocol,
                market=market,
                borrowers=borrowers,
                liquidatable=len(liquidatable[market]),
                liquidated=len(liquidatable[market] & self.liquidated),
                skipped=len(self._skipped(liquidatable[market])),
                missed=missed[market],
                net_profit_usd=round(self.net_of[market] / USD, 2),
            )
            for market, (protocol, borrowers) in markets.items()
        )
        return Summary(
            borrowers=sum(part.borrowers for part in parts),
            liquidatable=sum(part.liquidatable for part in parts),
            liquidated=len(self.liquidated),
            skipped=sum(part.skipped for part in parts),
            missed=missed.total(),
            rejected_sends=self.rejected_sends,
            reverted=self.reverted,
            transactions=self.transactions,
            mixed_transactions=self.mixed,
            most_mixed=self.most_mixed,
            net_profit_usd=round(self.net_usd / USD, 2),
            profit_is_held=profit_is_held,
            ledger_agrees=ledger_agrees,
            estimate_error_bps=self.worst_error_bps,
            gas_per_liquidation=self.gas // max(self.liquidations, 1),
            head_to_send_ms_p50=milliseconds(self.head_to_send, 0.5),
            head_to_send_ms_p95=milliseconds(self.head_to_send, 0.95),
            rpc_requests_per_quiet_head=quiet_requests,
            seconds=round(seconds, 1),
            lanes=tuple(
                Share(to_checksum_address(each), self.sent_by[each], self.won_by[each])
                for each in wallets
            ),
            protocols=parts,
        )


def _home(quote: Quote) -> str:
    return quote.opportunity.position.home


def _gain_usd(plan: Plan, quote: Quote, item: ItemOutcome) -> int:
    """Value what was booked for an item, at the plan's prices; 0 where there is none."""
    price: int = plan.prices.get(quote.debt.address, Usd(0))
    return item.gain * price // int(10**quote.debt.decimals)


def milliseconds(seconds: list[float], quantile: float) -> float:
    """Return the nearest-rank quantile in milliseconds; 0 without a sample."""
    if not seconds:
        return 0.0
    rank = max(math.ceil(quantile * len(seconds)), 1)
    return round(sorted(seconds)[rank - 1] * 1000, 1)
