"""What a running keeper says of itself, as JSON values; the worst part names the whole."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from eth_utils.address import to_checksum_address

from keeper.book.book import Book
from keeper.chain.roster import EndpointState
from keeper.engine import Report
from keeper.execution.executor import Executor
from keeper.execution.lanes import Lane
from keeper.execution.relays.scores import Score
from keeper.observers.observation import Event
from keeper.ports import Clock
from keeper.risk import DEVIATION, FeedStanding, Risk
from keeper.types import Cancelled, Included, Plan, Reverted
from keeper.units import BPS, USD, WAD, Address, Wei, to_hex

SHOWN = 10
"""Positions and receipts on the status page."""
_ORDER = ("ok", "warn", "fail")


class Fuel(Protocol):
    """What looks after the operator's gas."""

    @property
    def is_low(self) -> bool:
        """Whether the poorest wallet is under the level to warn of."""
        ...

    def is_too_low(self, wallet: Address, balance: Wei) -> bool:
        """Whether a wallet's gas is under the level to warn of."""
        ...


@dataclass(slots=True)
class Today:
    """Counts since the start of the UTC day."""

    day: int = 0
    net_usd: float = 0.0
    included: int = 0
    reverted: int = 0
    liquidated: int = 0


@dataclass(slots=True)
class ChainStatus:
    """One chain: observes reports and events, and answers with what they add up to."""

    name: str
    mode: str
    book: Book
    executor: Executor
    risk: Risk
    clock: Clock
    block_time: int
    endpoints: Callable[[], Sequence[EndpointState]]
    feeds: Callable[[], Iterable[FeedStanding]] = tuple
    treasury: Fuel | None = None
    phase: str = "syncing"
    undecided: int = 0
    rebuilt: str | None = None
    observer_faults: int = 0
    _report: Report | None = None
    _receipts: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    _last_plan: dict[str, Any] | None = None
    _today: Today = field(default_factory=Today)

    def observe(self, subject: Report | Event) -> None:
        """Take one report or event."""
        if isinstance(subject, Report):
            self._report = subject
            return
        plan, receipt = subject.fields.get("plan"), subject.fields.get("receipt")
        if isinstance(plan, Plan):
            self._last_plan = {
                "plan": plan.id,
                "event": subject.name,
                "items": len(plan.quotes),
                "net_usd": round(plan.net_usd / USD, 2),
            }
        if isinstance(receipt, Included | Reverted | Cancelled):
            self._count(receipt)

    def _count(self, receipt: Included | Reverted | Cancelled) -> None:
        day = int(self.clock.time() // 86_400)
        if day != self._today.day:
            self._today = Today(day)
        today = self._today
        if isinstance(receipt, Cancelled):
            today.net_usd -= receipt.gas_cost_usd / USD
            return
        entry: dict[str, Any] = {"tx": to_hex(receipt.tx_hash), "block": receipt.block_number}
        match receipt:
            case Included():
                today.included += 1
                today.liquidated += sum(item.ok for item in receipt.items)
                today.net_usd += receipt.net_usd / USD
                entry |= {"outcome": "included", "net_usd": round(receipt.net_usd / USD, 2)}
            case Reverted():
                today.reverted += 1
                today.net_usd -= receipt.gas_cost_usd / USD
                entry |= {"outcome": "reverted", "reason": receipt.reason}
        self._receipts.append(entry)

    @property
    def is_ready(self) -> bool:
        """Say whether the book follows the chain and decisions are being made."""
        return self.phase == "live" and self._report is not None

    @property
    def is_low(self) -> bool:
        """Whether the wallet's gas is under the level to warn of."""
        return self.treasury is not None and self.treasury.is_low

    def as_json(self) -> dict[str, Any]:
        """Return the chain's part of the status."""
        head = self.book.head
        breakers = [name for name, is_open in self.risk.breakers().items() if is_open]
        lag = None if head is None else max(round(self.clock.time() - head.timestamp), 0)
        balance = self.executor.balance
        at_risk = () if self._report is None else self._report.view.at_risk
        # a terminal shows the first ten
        feeds = sorted(self.feeds(), key=lambda each: (not each.stale, -abs(each.feed.off or 0)))
        return {
            "state": self._state(breakers, feeds),
            "phase": self.phase,
            "head": None if head is None else head.number,
            "lag_seconds": lag,
            "endpoints": [_endpoint(state) for state in self.endpoints()],
            "stopped": dict(self.book.stopped),
            "positions": sum(m.protocol.borrowers() for m in self.book.markets.values()),
            "at_risk": len(at_risk),
            "riskiest": [
                {
                    "borrower": to_hex(risk.position.borrower),
                    "market": risk.position.market,
                    "health": round(risk.position.health / WAD, 6),
                    "cause": str(risk.cause),
                }
                for risk in at_risk[:SHOWN]
            ],
            "feeds": [self._feed(each) for each in feeds],
            "backstops": self._backstops(),
            "last_plan": self._last_plan,
            "receipts": list(self._receipts),
            "lanes": [self._lane(lane) for lane in self.executor.lanes],
            "balance_ether": None if balance is None else balance / WAD,
            "wallet_low": self.is_low,
            "pending": self.executor.pending,
            "relays": [_relay(alias, score) for alias, score in self.executor.relays.items()],
            "breakers": breakers,
            "open_breakers": dict(self.risk.details()),
            "undecided_heads": self.undecided,
            "rebuilt": self.rebuilt,
            "observer_faults": self.observer_faults,
            "today": {
                "net_usd": round(self._today.net_usd, 2),
                "included": self._today.included,
                "reverted": self._today.reverted,
                "liquidated": self._today.liquidated,
            },
        }

    def _backstops(self) -> list[dict[str, Any]]:
        """Return what is not zero of the markets' insurance and losses, in whole tokens."""
        return [
            {
                "market": name,
                "protocol": market.protocol.protocol,
                "kind": each.kind,
                "token": each.token.symbol,
                "amount": each.amount / 10**each.token.decimals,
            }
            for name, market in self.book.markets.items()
            for each in market.protocol.backstops()
            if each.amount
        ]

    def _lane(self, lane: Lane) -> dict[str, Any]:
        return {
            "wallet": to_checksum_address(lane.address),
            "balance_ether": lane.balance / WAD,
            "low": self.treasury is not None
            and self.treasury.is_too_low(lane.address, lane.balance),
            "pending": lane.pending,
            "blocked": lane.is_blocked,
        }

    def _feed(self, each: FeedStanding) -> dict[str, Any]:
        off, report = each.feed.off, self._report
        return {
            "market": each.market,
            "asset": each.asset,
            "age_seconds": 0 if report is None else each.feed.age(report.view.head.timestamp),
            "heartbeat_seconds": each.heartbeat,
            "band_bps": each.band,
            "off_bps": None if off is None else off * BPS // WAD,
            "lag_seconds": each.feed.lag,
            "stale": each.stale,
        }

    def _state(self, breakers: list[str], feeds: Sequence[FeedStanding]) -> str:
        if self.phase == "stopped" or set(breakers) - {DEVIATION}:
            return "fail"
        stale = any(each.stale for each in feeds)
        well = self.is_ready and not (breakers or self.book.stopped or self.is_low or stale)
        return "ok" if well else "warn"


def _endpoint(state: EndpointState) -> dict[str, Any]:
    return {
        "alias": state.alias,
        "state": str(state.standing),
        "reason": state.reason,
        "head": state.head,
        "lag_blocks": state.lag,
        "latency_ms": None if state.latency is None else round(state.latency * 1e3, 1),
        "preferred": state.preferred,
    }


def _relay(alias: str, score: Score) -> dict[str, Any]:
    return {
        "alias": alias,
        "left_out": score.is_idle,
        "taken": score.taken,
        "refused": score.refused,
        "unclear": score.unclear,
        "included": score.won,
        "together": score.together,
        "vain": score.lost,
        "latency_ms": None if score.seconds is None else round(score.seconds * 1e3, 1),
        "last_fault": score.words,
    }


@dataclass(frozen=True, slots=True)
class Absence:
    """A chain that is not open: why it stopped, or what it is waiting for."""

    stopped: str | None
    waiting: str

    def as_json(self) -> dict[str, Any]:
        """Return the chain's part of the status."""
        if self.stopped is not None:
            return {"state": "fail", "phase": "stopped", "why": self.stopped}
        return {"state": "warn", "phase": "starting", "why": self.waiting}


def whole(
    version: str,
    mode: str,
    uptime: float,
    chains: Mapping[str, ChainStatus],
    absent: Mapping[str, Absence],
    strategies: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the status of the process; its state is the worst of its chains'."""
    parts = {name: chain.as_json() for name, chain in chains.items()}
    parts |= {name: absence.as_json() for name, absence in absent.items()}
    states = [part["state"] for part in parts.values()] or ["warn"]
    return {
        "state": max(states, key=_ORDER.index),
        "version": version,
        "mode": mode,
        "uptime": round(uptime, 1),
        "strategies": dict(strategies),
        "chains": parts,
    }
