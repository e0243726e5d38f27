"""The demo's figures, counted from what the keeper reported and what the chain shows."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eth_utils.address import to_checksum_address

from keeper.engine import Report
from keeper.observers.observation import Event
from keeper.types import Included, Plan, Reason, Reverted, Skip
from keeper.units import USD, Address

HELD = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN})


@dataclass(frozen=True, slots=True)
class Share:
    """What one wallet sent that was included, and how many it liquidated with that."""

    wallet: str
    transactions: int
    liquidations: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What one JSON object at the end of the demo says; money in dollars, times in milliseconds."""

    borrowers: int
    liquidatable: int
    liquidated: int
    skipped: int
    rejected_sends: int
    reverted: int
    transactions: int
    net_profit_usd: float
    estimate_error_bps: int
    gas_per_liquidation: int
    head_to_send_ms_p50: float
    head_to_send_ms_p95: float
    rpc_requests_per_quiet_head: float
    seconds: float
    lanes: tuple[Share, ...]

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
    liquidations: int = 0
    gas: int = 0
    net_usd: int = 0
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
                error = event.fields.get("estimate_error_bps", 0)
                self.worst_error_bps = max(self.worst_error_bps, abs(int(str(error))))
            case Reverted():
                self.transactions += 1
                self.reverted += 1
                self.net_usd -= receipt.gas_cost_usd
            case _:
                pass

    def reasons(self) -> Counter[str]:
        """Return how many borrowers nobody liquidated, by why."""
        left = self.refused.keys() - self.liquidated
        return Counter(str(self.refused[who].reason) for who in left)

    def summary(
        self,
        borrowers: int,
        liquidatable: int,
        quiet_requests: float,
        seconds: float,
        wallets: Sequence[Address],
    ) -> Summary:
        """Return the figures; `liquidatable` is what the protocol itself counted."""
        return Summary(
            borrowers=borrowers,
            liquidatable=liquidatable,
            liquidated=len(self.liquidated),
            skipped=len(self.refused.keys() - self.liquidated),
            rejected_sends=self.rejected_sends,
            reverted=self.reverted,
            transactions=self.transactions,
            net_profit_usd=round(self.net_usd / USD, 2),
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
        )


def milliseconds(seconds: list[float], quantile: float) -> float:
    """Return the nearest-rank quantile in milliseconds; 0 without a sample."""
    if not seconds:
        return 0.0
    rank = max(math.ceil(quantile * len(seconds)), 1)
    return round(sorted(seconds)[rank - 1] * 1000, 1)
