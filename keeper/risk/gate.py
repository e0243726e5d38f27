"""Admit or refuse plans, learn from their receipts, and open the breakers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from keeper.journal.breakers import BreakerChange
from keeper.journal.read import CallKey, Spent
from keeper.ports import Clock
from keeper.risk.feeds import Feeds
from keeper.risk.latches import LATCHED, PAUSED, Latches
from keeper.risk.ledger import Entry, Ledger, PositionKey
from keeper.risk.limits import DAY, HOUR, Limits
from keeper.risk.lists import Lists
from keeper.types import (
    OUTRUN,
    Cancelled,
    Dropped,
    Head,
    Included,
    Plan,
    Reason,
    Receipt,
    Replaced,
    Reverted,
    Signed,
    Skip,
)
from keeper.units import BPS, USD, ZERO_ADDRESS, Usd

REFUSED_SECONDS = 60.0
"""How long `gas_transaction` shows as open after the last plan it refused."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan was to bring: before costs by call, and in all after them, in dollars."""

    gross: tuple[tuple[CallKey, int], ...]
    net_usd: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """What an admitted plan may cost at worst, what it repays, and what it was to bring."""

    gas: int
    repaid: int
    estimate: Estimate
    liquidates: bool


class Risk:
    """Admit or refuse plans, and learn from receipts; satisfies `ports.Admission`.

    Gas is counted at its worst (limit × maximum fee) until the receipt tells what was paid. `seen`
    gives the last head, `tell` hears of every breaker that opens or closes.
    """

    def __init__(
        self,
        chain: str,
        limits: Limits,
        clock: Clock,
        *,
        lists: Lists = Lists(),  # noqa: B008  # frozen
        seen: Callable[[], Head | None] = lambda: None,
        tell: Callable[[BreakerChange], None] = lambda _: None,
        feeds: Feeds | None = None,
    ) -> None:
        self._feeds = feeds
        self._chain = chain
        self._limits = limits
        self._clock = clock
        self._lists = lists
        self._seen = seen
        self._tell = tell
        self._ledger = Ledger()
        self._latches = Latches(chain, limits.reset_seconds, tell)
        self._reserved: dict[str, Reserved] = {}
        self._refused: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, str] = {}

    def restore(
        self,
        spent: Iterable[Spent],
        pending: Iterable[Signed],
        changes: Iterable[BreakerChange] = (),
    ) -> None:
        """Take up where the journal left off: money, reverts, what is in flight, open breakers.

        A cancel reserves nothing: its plan is counted at what carries it out, the latest of several.
        """
        self._latches.restore(changes)
        for number, entry in enumerate(spent):
            if entry.chain == self._chain:
                booked = Entry(
                    entry.time,
                    entry.tx_hash,
                    entry.gas,
                    entry.repaid_usd,
                    entry.net_usd,
                    entry.reverted,
                    self._missed(
                        Estimate(entry.estimated, entry.planned_usd), entry.won, entry.net_usd
                    ),
                    entry.liquidates,
                    _positions(entry.estimated),
                    entry.outrun,
                )
                self._ledger.book(entry.plan or f"#{number}", booked)
        plans = [signed.plan for signed in pending if not signed.cancels]
        self._reserved |= {plan.id: _reserve(plan) for plan in plans if plan.chain == self._chain}
        self._measure()

    def admit(self, plan: Plan) -> Skip | None:
        """Return None when the plan may be sent, having reserved its gas; else why not."""
        now = self._now()
        wanted = _reserve(plan)
        name, detail = self._breach(plan, wanted)
        if name:
            self._refused[name] = (now, wanted.repaid if "repay" in name else wanted.gas)
            self._watch()
            return _refuse(plan, Reason.BREAKER, f"{name}: {detail}")
        if self._feeds is not None and (off := self._feeds.refusal(plan)):
            self._watch()
            return _refuse(plan, Reason.BREAKER, f"{DEVIATION}: {off} from every pool")
        if plan.sweep is not None:  # it earns nothing by design: only its gas is bounded
            self._reserved[plan.id] = wanted
            return None
        limits = self._limits
        if denied := self._lists.refuse(plan):
            return _refuse(plan, Reason.DENIED, denied)
        if plan.net_usd < limits.minimum_profit:
            detail = f"net {_dollars(plan.net_usd)} below limits.minimum_profit"
            return _refuse(plan, Reason.UNPROFITABLE, detail)
        if plan.repaid_usd > limits.largest_repay:
            detail = f"repays {_dollars(plan.repaid_usd)}, above limits.largest_repay"
            return _refuse(plan, Reason.CAPITAL, detail)
        self._reserved[plan.id] = wanted
        return None

    def halted(self, plan: Plan) -> bool:
        """Whether a switch stops a plan admitted before; what it costs is counted already."""
        self._now()
        name, _ = self._switch(plan.head)
        is_off = not name and self._feeds is not None and bool(self._feeds.refusal(plan))
        if name or is_off:
            self._watch()
        return bool(name) or is_off

    def reserve(self, plan: Plan) -> None:
        """Count a plan that may be mined at any time, whatever the limits say."""
        self._reserved[plan.id] = _reserve(plan)

    def settle(self, receipt: Receipt) -> None:
        """Learn how a plan ended: what its gas cost, what it brought, and whether it reverted."""
        reserved = self._reserved.pop(receipt.plan_id, None)
        now = self._now()
        repaid = 0 if reserved is None else reserved.repaid
        match receipt:
            case Included():
                won = frozenset(item.key for item in receipt.items if item.ok)
                missed = (
                    None
                    if reserved is None
                    else self._missed(reserved.estimate, won, receipt.net_usd)
                )
                entry = Entry(
                    now,
                    receipt.tx_hash,
                    receipt.gas_paid,
                    repaid,
                    receipt.net_usd,
                    reverted=False,
                    missed=missed,
                    liquidates=bool(receipt.items),
                )
                self._ledger.book(receipt.plan_id, entry)
            case Reverted():
                entry = Entry(
                    now,
                    receipt.tx_hash,
                    receipt.gas_paid,
                    0,
                    -receipt.gas_cost_usd,
                    reverted=True,
                    liquidates=reserved is None or reserved.liquidates,
                    positions=_positions(() if reserved is None else reserved.estimate.gross),
                    outrun=receipt.reason == OUTRUN,
                )
                self._ledger.book(receipt.plan_id, entry)
            case Cancelled() if receipt.gas_used:
                entry = Entry(
                    now,
                    receipt.tx_hash,
                    receipt.gas_paid,
                    0,
                    -receipt.gas_cost_usd,
                    reverted=False,
                    liquidates=False,
                )
                self._ledger.book(receipt.plan_id, entry)
            case Dropped() | Replaced() | Cancelled():
                self._ledger.strike(receipt.plan_id, receipt.tx_hash)
        self._measure()
        self._watch()

    def pause(self, cause: str) -> None:
        """Send nothing until resumed."""
        self._latches.open(PAUSED, f"by {cause}", cause, self._clock.time())

    def resume(self, cause: str) -> list[str]:
        """Close what the operator may close, and return which breakers that were."""
        return self._latches.close(cause, self._clock.time())

    def trip(self, name: str, detail: str) -> None:
        """Open a latched breaker for what another part found."""
        self._latches.open(name, detail, "keeper", self._clock.time())

    def breakers(self) -> Mapping[str, bool]:
        """Return every breaker by name, and whether it is open."""
        self._watch()
        return {name: name in self._shown or name in self._latches.opened for name in NAMES}

    def details(self) -> Mapping[str, str]:
        """Return what is open, and why."""
        self._watch()
        latched = {name: opened.detail for name, opened in self._latches.opened.items()}
        return self._shown | latched

    def _breach(self, plan: Plan, wanted: Reserved) -> tuple[str, str]:
        """Return the breaker that stops a plan and its figures; no name when none does."""
        limits = self._limits
        name, detail = self._switch(plan.head)
        if name:
            return name, detail
        if wanted.gas > limits.gas_per_transaction:
            return "gas_transaction", f"up to {wanted.gas} wei, limit {limits.gas_per_transaction}"
        self._refused.pop("gas_transaction", None)
        for name, committed, limit in self._windows(without=plan.id):
            more = wanted.repaid if "repay" in name else wanted.gas
            if limit is not None and committed + more > limit:
                unit = "e-8 USD" if "repay" in name else " wei"
                return name, f"{committed} + {more}{unit}, limit {limit}"
            self._refused.pop(name, None)
        return "", ""

    def _switch(self, head: Head) -> tuple[str, str]:
        """Return the breaker that stops all plans, and why; no name when none does."""
        for name, opened in self._latches.opened.items():
            return name, opened.detail
        for name, detail in self._standing(head).items():
            return name, detail
        return "", ""

    def _windows(self, without: str = "") -> list[tuple[str, int, int | None]]:
        """Return each rolling limit's name, what is used of it, and the limit."""
        now, limits, ledger = self._clock.time(), self._limits, self._ledger
        held = [each for plan, each in self._reserved.items() if plan != without]
        gas, repaid = sum(each.gas for each in held), sum(each.repaid for each in held)
        return [
            ("gas_hour", ledger.gas(now - HOUR) + gas, limits.gas_per_hour),
            ("gas_day", ledger.gas(now - DAY) + gas, limits.gas_per_day),
            ("repay_hour", ledger.repaid(now - HOUR) + repaid, limits.repay_per_hour),
            ("repay_day", ledger.repaid(now - DAY) + repaid, limits.repay_per_day),
        ]

    def _standing(self, head: Head | None) -> dict[str, str]:
        """Return the breakers that stand open by themselves, and close by themselves."""
        now, limits = self._clock.time(), self._limits
        found = {}
        if self._is_killed():
            found["kill_file"] = f"{limits.kill_file} exists"
        if limits.stale_seconds is not None and head is not None:
            age = now - head.timestamp
            if age > limits.stale_seconds:
                found["stale_head"] = f"block {head.number} is {age:.0f} s old"
        reverts = self._ledger.reverts(now - limits.revert_seconds)
        if reverts >= limits.reverts:
            found["reverts"] = f"{reverts} in {limits.revert_seconds:.0f} s"
        return found

    def _measure(self) -> None:
        """Open the breakers that what the transactions brought calls for."""
        now, limits, latches = self._clock.time(), self._limits, self._latches
        if limits.loss_per_day is not None:
            net = self._ledger.net(max(now - DAY, latches.since("loss")))
            if -net >= limits.loss_per_day:
                detail = f"{_dollars(Usd(-net))} lost, limit {_dollars(limits.loss_per_day)}"
                latches.open("loss", detail, "limit", now)
        since = self._ledger.since(latches.since("revert_rate"))
        last = [entry for entry in since if entry.liquidates][-limits.revert_rate_of :]
        if limits.revert_rate is not None and len(last) == limits.revert_rate_of:
            reverted = sum(entry.reverted for entry in last)
            if reverted * BPS > limits.revert_rate * len(last):
                detail = f"{reverted} of the last {len(last)} reverted"
                latches.open("revert_rate", detail, "limit", now)
        if limits.estimate_band is not None:
            judged = [
                entry.missed
                for entry in self._ledger.since(latches.since("estimate"))
                if entry.missed is not None
            ][-limits.estimate_misses :]
            if len(judged) == limits.estimate_misses and all(judged):
                detail = f"{len(judged)} in a row brought less than estimated"
                latches.open("estimate", detail, "limit", now)

    def _missed(self, estimate: Estimate, won: frozenset[CallKey], net_usd: int) -> bool | None:
        """Say whether less came in than estimated for the calls that held; None without a band."""
        band = self._limits.estimate_band
        whole = sum(gross for _, gross in estimate.gross)
        share = sum(gross for call, gross in estimate.gross if call in won)
        if band is None or whole <= 0 or share <= 0:
            return None
        return net_usd * BPS < estimate.net_usd * share // whole * (BPS - band)

    def _now(self) -> float:
        now = self._clock.time()
        self._ledger.forget(now)
        self._latches.expire(now)
        return now

    def _watch(self) -> None:
        """Find out which breakers are open, and tell of those that changed."""
        now = self._now()
        found = self._standing(self._seen())
        for name, committed, limit in self._windows():
            _, more = self._refused.get(name, (now, 0))
            if limit is not None and (committed >= limit or committed + more > limit):
                found[name] = f"{committed} of {limit} used"
        refused = self._refused.get("gas_transaction")
        if refused is not None and now - refused[0] < REFUSED_SECONDS:
            found["gas_transaction"] = f"up to {refused[1]} wei"
        if self._feeds is not None and self._feeds.deviating:
            found[DEVIATION] = f"{self._feeds.describe()} from every pool"
        before, self._shown = self._shown, found
        for name in found.keys() - before.keys():
            self._tell(BreakerChange(now, self._chain, name, True, found[name], "limit"))
        for name in before.keys() - found.keys():
            self._tell(BreakerChange(now, self._chain, name, False, before[name], "limit"))

    def _is_killed(self) -> bool:
        try:
            return self._limits.kill_file.exists()
        except OSError:
            return True  # a switch that cannot be read counts as thrown


DEVIATION = "deviation"
"""The one breaker that stops some plans only: those that rest on a feed no pool agrees with."""
NAMES = (
    *("kill_file", "stale_head", "reverts", "gas_transaction", DEVIATION),
    *("gas_hour", "gas_day", "repay_hour", "repay_day"),
    *LATCHED,
)


def _reserve(plan: Plan) -> Reserved:
    gross = tuple((quote.key, quote.gross_usd) for quote in plan.quotes)
    estimate = Estimate(gross, plan.net_usd)
    return Reserved(plan.worst_cost, plan.repaid_usd, estimate, plan.sweep is None)


def _positions(gross: Iterable[tuple[CallKey, int]]) -> frozenset[PositionKey]:
    return frozenset((market, borrower) for (market, borrower, _), _ in gross)


def _refuse(plan: Plan, reason: Reason, detail: str) -> Skip:
    if not plan.quotes:
        return Skip("", "", ZERO_ADDRESS, reason, detail)
    position = plan.quotes[0].opportunity.position
    strategy = plan.quotes[0].opportunity.strategy
    return Skip(position.market, position.protocol, position.borrower, reason, detail, strategy)


def _dollars(value: Usd) -> str:
    return f"{value / USD:.2f} USD"
