"""Tell the operators of the keeper's own events: breakers, faults, little gas, the day's profit."""

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import structlog

from keeper.book.faults import Fault, FaultKind
from keeper.engine import Report
from keeper.errors import KeeperError
from keeper.journal.breakers import BreakerChange
from keeper.journal.history import history
from keeper.journal.read import JournalReader
from keeper.notify.daily import Daily
from keeper.notify.dispatcher import Dispatcher
from keeper.notify.note import Note, Severity
from keeper.observers.lines import fields_of
from keeper.observers.observation import Event
from keeper.ports import Clock
from keeper.units import USD

log = structlog.get_logger(__name__)

WORTH: Mapping[str, tuple[Severity, str]] = {
    "wallet.low": (Severity.WARNING, "the wallet is short of gas"),
    "plan.reverted": (Severity.WARNING, "a transaction reverted"),
    "plan.stuck": (Severity.WARNING, "a transaction is stuck"),
    "nonce.foreign": (Severity.CRITICAL, "somebody else sent with this wallet"),
    "treasury.refused": (Severity.WARNING, "a sweep was refused"),
    "treasury.no_rules": (Severity.WARNING, "the contract knows no rules for selling"),
}
"""Events an operator is told of, how much they matter, and what they mean."""
ABOUT = ("wallet", "plan", "tx", "token")
"""Fields that say what an event is about, the first that it has: each is told of by itself."""
UNDONE: Mapping[str, str] = {"wallet.refilled": "wallet.low"}
"""Events after which what another told is so no more."""


class OperatorEvents:
    """Post one chain's events to the operators' channels, each thing once in `repeat` seconds.

    What lasts, and came about too soon after it was told last, is told once its time is over. Every opening and closing of a breaker is a thing of its own. One that stands open when a keeper
    starts again did not open again.
    """

    def __init__(
        self,
        chain: str,
        dispatcher: Dispatcher,
        channels: tuple[str, ...],
        journal: JournalReader,
        clock: Clock,
        repeat: float,
    ) -> None:
        self._chain = chain
        self._dispatcher = dispatcher
        self._channels = channels
        self._journal = journal
        self._clock = clock
        self._repeat = repeat
        self._told: dict[str, float] = {}
        self._lasting: dict[str, Event] = {}
        self._opened = {
            change.name: change.time
            for change in journal.breakers()
            if change.chain == chain and change.is_open
        }
        self._daily = Daily(time(0, 0))
        self._posting: set[asyncio.Task[None]] = set()

    def breaker(self, change: BreakerChange) -> None:
        """Tell that a breaker opened or closed."""
        what = "opened" if change.is_open else "closed"
        since = self._opened.pop(change.name, None)
        if not change.is_open or since is None or change.time - since >= self._repeat:
            since = change.time
        if change.is_open:
            self._opened[change.name] = since
        severity = Severity.CRITICAL if change.is_open else Severity.INFO
        title = f"breaker {change.name} {what} on {self._chain}"
        text = f"{change.detail or 'no detail'} ({change.cause})"
        about = f"breaker/{change.name}"
        data = {"breaker": change.name, "is_open": change.is_open}
        key = f"{what}/{round(1e6 * since)}"
        self._tell(about, severity, title, text, data, key)

    def fault(self, part: str, fault: Fault) -> None:
        """Tell that a market or venue is not acted on any more."""
        severity = Severity.CRITICAL if fault.kind is FaultKind.DRIFT else Severity.WARNING
        title = f"{part} stopped on {self._chain}: {fault.kind}"
        data = {"part": part, "kind": str(fault.kind), "block": str(fault.block)}
        self._tell(f"fault/{part}/{fault.kind}", severity, title, fault.why, data)

    def observe(self, subject: Report | Event) -> None:
        """Tell of an event that is worth it, and once a day of what the day before brought."""
        if isinstance(subject, Event):
            self._event(subject)
            return
        for event in tuple(self._lasting.values()):
            self._event(event)
        if day := self._daily.due(self._clock.time()):
            self._daily.done(day)
            self._start(self._profit(day - timedelta(days=1)))

    async def close(self) -> None:
        """Return once everything told is on disk."""
        await asyncio.gather(*self._posting, return_exceptions=True)

    def _event(self, event: Event) -> None:
        if event.name not in WORTH.keys() | UNDONE.keys():
            return
        shown = {key: str(value) for key, value in fields_of(event).items() if key != "chain"}
        about = next((f"/{shown[key]}" for key in ABOUT if key in shown), "")
        if event.name in UNDONE:
            self._lasting.pop(f"{UNDONE[event.name]}{about}", None)
            return
        severity, meaning = WORTH[event.name]
        text = ", ".join(f"{key} {value}" for key, value in shown.items())
        data = {"event": event.name, **shown}
        thing = f"{event.name}{about}"
        title = f"{meaning} on {self._chain}"
        if self._tell(thing, severity, title, text or meaning, data):
            self._lasting.pop(thing, None)
        elif event.name in UNDONE.values():
            self._lasting[thing] = event

    def _tell(
        self,
        what: str,
        severity: Severity,
        title: str,
        text: str,
        data: Mapping[str, Any],
        once: str = "",
    ) -> bool:
        """Tell of a thing; say whether that was not too soon."""
        now = self._clock.time()
        thing = f"{what}/{once}"
        if now - self._told.get(thing, float("-inf")) < self._repeat:
            return False
        self._told = {each: at for each, at in self._told.items() if now - at < self._repeat}
        self._told[thing] = now
        subject = f"keeper/{self._chain}/{what}"
        # after a restart, too, one thing is told once in its span of time
        key = f"{subject}/{once or int(now // self._repeat)}"
        about = {"event": what, "chain": self._chain, **data}
        self._start(self._post(Note(key, now, "keeper", severity, subject, title, text, about)))
        return True

    async def _profit(self, day: date) -> None:
        begin = datetime.combine(day, time(), UTC).timestamp()
        plans = await asyncio.to_thread(self._journal.paid, begin, begin + 86_400)
        entries = [entry for entry in history(plans) if entry.chain == self._chain]
        net = sum(entry.net_usd for entry in entries)
        liquidated = sum(entry.borrowers for entry in entries)
        shown = f"{'-' if net < 0 else ''}{abs(net) // USD:,}.{abs(net) // 10**6 % 100:02d}"
        title = f"{day.isoformat()} on {self._chain}: net {shown} USD"
        text = f"{len(entries)} transactions, {liquidated} liquidated."
        subject = f"keeper/{self._chain}/profit"
        data = {
            "event": "profit",
            "chain": self._chain,
            "day": day.isoformat(),
            "net_usd": str(net),
        }
        note = Note(
            *(f"{subject}/{day.isoformat()}", self._clock.time(), "keeper", Severity.INFO),
            *(subject, title, text, data),
        )
        await self._post(note)

    async def _post(self, note: Note) -> None:
        await self._dispatcher.post([(note, self._channels)])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(_logged(work, self._chain))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)


async def _logged(work: Coroutine[Any, Any, None], chain: str) -> None:
    try:
        await work
    except KeeperError as error:
        log.error("notification.not_posted", chain=chain, error=str(error))  # noqa: TRY400
