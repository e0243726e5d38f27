"""Hard limits between planning and sending, on from the first day."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keeper.errors import ConfigError
from keeper.journal.read import Spent
from keeper.ports import Clock
from keeper.types import (
    Cancelled,
    Dropped,
    Included,
    Plan,
    Reason,
    Receipt,
    Replaced,
    Reverted,
    Skip,
)
from keeper.units import USD, Usd, Wei

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is never exceeded; gas in native wei, dollars with 8 decimals, windows rolling.

    `reverts` within `revert_seconds` open a breaker that closes when the window has passed.
    """

    gas_per_transaction: Wei
    gas_per_day: Wei
    minimum_profit: Usd
    largest_repay: Usd
    kill_file: Path
    reverts: int = 3
    revert_seconds: float = 3_600.0

    def __post_init__(self) -> None:
        for name in ("gas_per_transaction", "gas_per_day", "minimum_profit", "largest_repay"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"limits.{name} is not above zero", "limits cannot be turned off")
        if self.reverts < 1 or self.revert_seconds <= 0:
            raise ConfigError("limits.reverts is below one", "limits cannot be turned off")


class Risk:
    """Admit or refuse plans, and learn from receipts; satisfies `ports.Admission`.

    Gas is counted at its worst (limit × maximum fee) until the receipt tells what was paid.
    """

    def __init__(self, chain: str, limits: Limits, clock: Clock) -> None:
        self._chain = chain
        self._limits = limits
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._reverts: deque[float] = deque()
        self._reserved: dict[str, int] = {}
        self._last_breach = ""

    def restore(self, spent: Iterable[Spent], pending: Iterable[Plan]) -> None:
        """Take up where the journal left off: gas paid, reverts, and plans still in flight."""
        for entry in spent:
            if entry.chain == self._chain:
                self._spent.append((entry.time, entry.gas))
                if entry.reverted:
                    self._reverts.append(entry.time)
        self._reserved |= {
            plan.id: worst_gas_cost(plan) for plan in pending if plan.chain == self._chain
        }

    def admit(self, plan: Plan) -> Skip | None:
        """Return None when the plan may be sent, having reserved its gas; else why not."""
        self._forget()
        limits = self._limits
        worst = worst_gas_cost(plan)
        self._last_breach, detail = self._breach(plan, worst)
        if self._last_breach:
            return _refuse(plan, Reason.BREAKER, f"{self._last_breach}: {detail}")
        if plan.net_usd < limits.minimum_profit:
            detail = f"net {_dollars(plan.net_usd)} below limits.minimum_profit"
            return _refuse(plan, Reason.UNPROFITABLE, detail)
        if plan.repaid_usd > limits.largest_repay:
            detail = f"repays {_dollars(plan.repaid_usd)}, above limits.largest_repay"
            return _refuse(plan, Reason.CAPITAL, detail)
        self._reserved[plan.id] = worst
        return None

    def settle(self, receipt: Receipt) -> None:
        """Learn how a plan ended: what its gas cost, and whether it reverted."""
        self._reserved.pop(receipt.plan_id, None)
        now = self._clock.time()
        match receipt:
            case Included():
                self._spent.append((now, receipt.gas_used * receipt.gas_price))
            case Reverted():
                self._spent.append((now, receipt.gas_used * receipt.gas_price))
                self._reverts.append(now)
            case Dropped() | Replaced() | Cancelled():
                pass

    def breakers(self) -> Mapping[str, bool]:
        """Return every breaker by name, and whether it is open; gas as the last plan found it."""
        self._forget()
        return {
            "kill_file": self._is_killed(),
            "reverts": self._is_reverting(),
            "gas_day": self._last_breach == "gas_day"
            or self._committed() >= self._limits.gas_per_day,
            "gas_transaction": self._last_breach == "gas_transaction",
        }

    def _breach(self, plan: Plan, worst: Wei) -> tuple[str, str]:
        """Return the breaker that stops a plan and its figures; no name when none does."""
        limits = self._limits
        committed = self._committed() - self._reserved.get(plan.id, 0)
        if self._is_killed():
            return "kill_file", f"{limits.kill_file} exists"
        if self._is_reverting():
            return "reverts", f"{len(self._reverts)} in {limits.revert_seconds:.0f} s"
        if worst > limits.gas_per_transaction:
            return "gas_transaction", f"up to {worst} wei, limit {limits.gas_per_transaction}"
        if committed + worst > limits.gas_per_day:
            return "gas_day", f"{committed} + {worst} wei, limit {limits.gas_per_day}"
        return "", ""

    def _committed(self) -> int:
        return sum(gas for _, gas in self._spent) + sum(self._reserved.values())

    def _is_reverting(self) -> bool:
        return len(self._reverts) >= self._limits.reverts

    def _is_killed(self) -> bool:
        try:
            return self._limits.kill_file.exists()
        except OSError:
            return True  # a switch that cannot be read counts as thrown

    def _forget(self) -> None:
        now = self._clock.time()
        while self._spent and self._spent[0][0] <= now - DAY:
            self._spent.popleft()
        while self._reverts and self._reverts[0] <= now - self._limits.revert_seconds:
            self._reverts.popleft()


def worst_gas_cost(plan: Plan) -> Wei:
    """Return the most a plan's gas can cost: the whole limit at the maximum fee."""
    return Wei(plan.gas_limit * plan.fees.max_fee)


def _refuse(plan: Plan, reason: Reason, detail: str) -> Skip:
    position = plan.quotes[0].opportunity.position
    strategy = plan.quotes[0].opportunity.strategy
    return Skip(position.market, position.protocol, position.borrower, reason, detail, strategy)


def _dollars(value: Usd) -> str:
    return f"{value / USD:.2f} USD"
